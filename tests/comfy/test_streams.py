"""Which LATENT goes where: Aether Split's streams, whole latents, those that have lost their marks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

READERS = {"AetherDepth": "disparity", "AetherVideo": "rgb", "AetherCameras": "raymap"}
"""The nodes that read one stream, by the input that it comes in."""


@pytest.fixture(scope="module")
def latent() -> dict[str, Any]:
    """A whole latent, 17 frames at 15 a second."""
    noise = torch.randn(1, 56, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    return {"samples": noise, "aether_fps": 15}


@pytest.fixture(scope="module")
def split(nodes: Any, latent: Any) -> dict[str, Any]:
    return dict(zip(("rgb", "disparity", "raymap"), nodes.AetherSplit(latent=latent).args, strict=True))


@pytest.fixture
def shown(part: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What nodes show."""
    texts: list[str] = []
    monkeypatch.setattr(part("nodes.bridge.messages"), "show_text", lambda node, text: texts.append(text))
    return texts


def read(nodes: Any, miniature: Any, name: str, value: Any, **more: Any) -> tuple[Any, ...]:
    vae = {} if name == "AetherCameras" else {"vae": miniature.vae}
    return getattr(nodes, name)(**vae, **{READERS[name]: value}, **more).args


def numbers(name: str, outputs: tuple[Any, ...]) -> torch.Tensor:
    """The data of a node's first outputs."""
    if name == "AetherCameras":
        return torch.from_numpy(outputs[0]["cameras"].poses)
    return outputs[1 if name == "AetherDepth" else 0]


def rate_of(name: str, outputs: tuple[Any, ...]) -> float:
    if name == "AetherCameras":
        return outputs[0]["fps"]
    return float(outputs[4 if name == "AetherDepth" else 1].get_components().frame_rate)


@pytest.mark.parametrize("name", READERS)
def test_a_whole_latent_gives_what_its_stream_gives(nodes, miniature, latent, split, shown, name):
    whole = read(nodes, miniature, name, latent)
    stream = read(nodes, miniature, name, split[READERS[name]])
    assert torch.equal(numbers(name, whole), numbers(name, stream))
    assert rate_of(name, whole) == rate_of(name, stream) == 15
    assert shown == []


@pytest.mark.parametrize("name, wanted", READERS.items())
@pytest.mark.parametrize("found", ["rgb", "disparity"])
def test_another_stream_is_refused_by_name(nodes, miniature, split, name, wanted, found):
    if found == wanted:
        return
    message = rf"^{wanted}: is the {found} of Aether Split; connect its output {wanted}, or the sampler's"
    with pytest.raises(ValueError, match=message):
        read(nodes, miniature, name, split[found])


def test_marks_stay_in_cores_nodes(nodes, miniature, split):
    import nodes as core

    taken = core.NODE_CLASS_MAPPINGS["LatentFromBatch"]().frombatch(split["rgb"], 0, 1)[0]
    with pytest.raises(ValueError, match=r"^disparity: is the rgb of Aether Split"):
        read(nodes, miniature, "AetherDepth", taken)
    flipped = core.NODE_CLASS_MAPPINGS["LatentFlip"]().flip(split["rgb"], "y-axis: horizontally")[0]
    assert rate_of("AetherVideo", read(nodes, miniature, "AetherVideo", flipped)) == 15


@pytest.mark.parametrize("name", READERS)
def test_what_a_latent_without_marks_is_taken_for_is_reported(nodes, miniature, latent, split, shown, name):
    stream = READERS[name]
    first, last = {"rgb": (0, 16), "disparity": (16, 32), "raymap": (32, 56)}[stream]
    bare = {"samples": latent["samples"][:, first:last]}
    found = read(nodes, miniature, name, bare)
    assert torch.equal(numbers(name, found), numbers(name, read(nodes, miniature, name, split[stream])))
    assert rate_of(name, found) == 12
    (text,) = shown
    assert text.startswith(f"Taken as {stream}: this latent does not say which stream it is.")
    assert "12 frames a second assumed" in text and "set fps" in text


@pytest.mark.parametrize("name", [*READERS, "AetherSplit"])
def test_a_rate_that_is_lost_is_reported_and_can_be_set(nodes, miniature, latent, shown, name):
    bare = {"samples": latent["samples"]}

    def rate(**more: Any) -> float:
        if name == "AetherSplit":
            return nodes.AetherSplit(latent=bare, **more)[0]["aether_fps"]
        return rate_of(name, read(nodes, miniature, name, bare, **more))

    assert rate() == 12
    lost = "12 frames a second assumed: this latent has lost its rate. If it is another, set fps."
    assert shown == [lost]
    assert rate(fps="24") == 24 and shown == [lost]


def test_the_sampler_gives_its_conditionings_rate(nodes, miniature, clip):
    positive, negative, latent = nodes.AetherReconstruct(
        vae=miniature.vae, video=clip, fps="24", width=48, height=32
    ).args
    bare = {"samples": latent["samples"]}
    sampled = nodes.AetherSampler(
        model=miniature.model, positive=positive, negative=negative, latent=bare, steps=1
    )[0]
    assert sampled["aether_fps"] == 24


@pytest.mark.parametrize("channels", [4, 16, 24, 32])
def test_channels_of_another_kind(nodes, miniature, channels):
    wrong = {"samples": torch.zeros(1, channels, 5, 4, 6)}
    for name, stream in READERS.items():
        if channels != {"rgb": 16, "disparity": 16, "raymap": 24}[stream]:
            with pytest.raises(ValueError, match=rf"^{stream}: has shape .*connect the {stream} of Aether"):
                read(nodes, miniature, name, wrong)
    with pytest.raises(ValueError, match=r"^latent: has shape"):
        nodes.AetherSplit(latent=wrong)


@pytest.mark.parametrize("name", READERS)
def test_broken_values_and_batches(nodes, miniature, latent, name):
    field = READERS[name]
    with pytest.raises(ValueError, match=rf"^{field}: holds NaN"):
        read(nodes, miniature, name, {"samples": latent["samples"] * float("nan")})
    with pytest.raises(ValueError, match=rf"^{field}: holds 2 clips"):
        read(nodes, miniature, name, {"samples": latent["samples"].repeat(2, 1, 1, 1, 1)})


def test_a_stream_where_a_whole_latent_belongs(nodes, miniature, predicted, split):
    message = r"^latent: is the rgb of Aether Split; connect the sampler's latent, before Aether Split"
    task = {"positive": predicted.positive, "negative": predicted.negative, "latent": split["rgb"]}
    for call in (
        lambda: nodes.AetherSplit(latent=split["rgb"]),
        lambda: nodes.AetherSampler(model=miniature.model, **task),
        lambda: nodes.AetherPostReconstruct(model=miniature.model, vae=miniature.vae, latent=split["rgb"]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


class Prompt(dict):
    """A workflow that runs, as ComfyUI hands it to nodes: id -> (class, inputs)."""

    def get_node(self, node_id: str) -> dict[str, Any]:
        kind, inputs = self[node_id]
        return {"class_type": kind, "inputs": inputs}


WIRES = {
    "sampler": ("KSampler", {"latent_image": ["task", 2]}),
    "task": ("AetherPredict", {}),
    "split": ("AetherSplit", {"latent": ["sampler", 0]}),
    "batch": ("LatentFromBatch", {"samples": ["split", 0], "length": 1}),
    "mix": ("LatentBlend", {"samples1": ["split", 0], "samples2": ["batch", 0], "blend_factor": 0.5}),
    "both": ("LatentBlend", {"samples1": ["split", 0], "samples2": ["split", 1], "blend_factor": 0.5}),
    "image": ("VAEDecode", {"samples": ["split", 0]}),
    "encode": ("VAEEncode", {"pixels": ["image", 0]}),
}


@pytest.fixture(scope="module")
def our_nodes_in_core(pack: Any, nodes: Any) -> None:
    import nodes as core

    for name in ("AetherSplit", "AetherPredict"):
        core.NODE_CLASS_MAPPINGS.setdefault(name, nodes.get(name))


@pytest.mark.parametrize(
    "link, found",
    [
        (["split", 0], "rgb"),
        (["split", 1], "disparity"),
        (["split", 2], "raymap"),
        (["batch", 0], "rgb"),
        (["mix", 0], "rgb"),
        (["both", 0], None),
        (["encode", 0], None),
        (["sampler", 0], None),
        (None, None),
    ],
)
@pytest.mark.parametrize("wanted", ["rgb", "disparity", "raymap"])
def test_wires_tell_before_anything_runs(part, our_nodes_in_core, link, found, wanted):
    refuse = part("nodes.bridge.wiring").refuse_other_streams
    inputs = {"field": link} if link else {}
    hidden = SimpleNamespace(unique_id="9", dynprompt=Prompt(WIRES | {"9": ("AetherDepth", inputs)}))
    if found in (None, wanted):
        refuse(hidden, "field", wanted)
    else:
        with pytest.raises(ValueError, match=rf"^field: is the {found} of Aether Split; connect its output"):
            refuse(hidden, "field", wanted)


def test_lazy_inputs_are_all_asked_for(nodes):
    assert nodes.get("AetherDepth").check_lazy_status(vae=None, disparity=None, edge=0.2) == [
        "vae",
        "disparity",
    ]
    assert nodes.get("AetherVideo").check_lazy_status(vae="there", rgb=None) == ["rgb"]
    lazy = {
        (name, i.id)
        for name, node in nodes.all().items()
        for i in node.define_schema().inputs
        if getattr(i, "lazy", False)
    }
    assert {name for name, _ in lazy} == {
        name for name, node in nodes.all().items() if "check_lazy_status" in vars(node)
    }  # ComfyUI never runs what a lazy input hangs on unless the node asks for it


def test_errors_reach_the_canvas_without_a_python_path(part, nodes):
    """ComfyUI shows the full name of an error's type before its text."""
    from execution import full_type_name

    errors = part("nodes.bridge.errors")
    for ours in (part("aether.errors").InputError, part("hero_engine").ConfigError):
        with pytest.raises(ValueError) as caught, errors.on_canvas():
            raise ours("far", "is empty")
        assert (full_type_name(caught.type), str(caught.value)) == ("Aether", "far: is empty")
        assert isinstance(caught.value.__cause__, ours)
    with pytest.raises(OSError, match="^full$"), errors.on_canvas():
        raise OSError("full")


def test_every_nodes_errors_are_plain(part):
    import asyncio

    from execution import full_type_name

    extension = part("nodes.extension").make_extension()
    found = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}
    split = {"samples": torch.zeros(1, 4, 8, 8)}
    with pytest.raises(ValueError) as caught:
        found["AetherSplit"].execute(latent=split)
    assert full_type_name(caught.type) == "Aether"
    with pytest.raises(ValueError) as caught:
        asyncio.run(found["AetherCameras"].execute(raymap=split))
    assert full_type_name(caught.type) == "Aether"
    with pytest.raises(ValueError) as caught:
        found["AetherPredict"].check_lazy_status(width=96, height=0)
    assert full_type_name(caught.type) == "Aether"
