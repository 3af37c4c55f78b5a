"""Aether Long Clip and Aether Post-Reconstruct on the miniature, inside ComfyUI's libraries."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

SIZE = {"width": 48, "height": 32}
QUICK = {**SIZE, "frames": "17", "steps": 2}
NAMES = ("images", "depth", "disparity", "cameras", "raymap", "fps", "report")


def long_clip(nodes, miniature, video, model=None, **inputs):
    outputs = nodes.AetherLongClip(
        model=model or miniature.model, vae=miniature.vae, video=video, **(QUICK | inputs)
    ).args
    return SimpleNamespace(**dict(zip(NAMES, outputs, strict=True)))


@pytest.fixture(scope="module")
def film(part):
    """27 frames: two windows of 17."""
    world = part("aether.miniature")
    return torch.from_numpy(world.render(world.random_scene(5), 27, 32, 48, 12).rgb)


@pytest.fixture(scope="module")
def whole(nodes, miniature, film):
    """What comes of it in one go."""
    return long_clip(nodes, miniature, film)


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """ComfyUI's temp folder, empty."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    return tmp_path


@pytest.fixture
def sampled(part, monkeypatch):
    """(steps so far, total) of every update of the progress bar."""
    import latent_preview

    seen = []

    def prepare(model, total):
        return lambda index, predicted, latent, steps: seen.append((index + 1, total))

    monkeypatch.setattr(latent_preview, "prepare_callback", prepare)
    return seen


def windows_in(temp: Path) -> list[str]:
    return sorted(path.name for path in temp.rglob("*.safetensors"))


@pytest.mark.slow
def test_windows_are_plain_runs_put_together(nodes, part, miniature, film, temp, sampled):
    result = long_clip(nodes, miniature, film, seed=9)
    assert sampled == [(1, 4), (2, 4), (3, 4), (4, 4)]
    Decoded, cameras = part("aether.generation.latents").Decoded, []
    windows = []
    for start in (0, 10):
        task = nodes.AetherReconstruct(
            vae=miniature.vae, video=film[start : start + 17], fps="12", seed=9, **SIZE
        ).args
        latent = nodes.AetherSampler(
            model=miniature.model, positive=task[0], negative=task[1], latent=task[2], seed=9, steps=2
        )[0]
        rgb, disparity, raymap = nodes.AetherSplit(latent=latent).args
        values = nodes.AetherDepth(vae=miniature.vae, disparity=disparity)[2][..., 0].numpy()
        windows.append(
            Decoded(miniature.vae.decode(rgb["samples"])[0].numpy(), values, raymap["raymap"].numpy())
        )
        cameras.append(nodes.AetherCameras(raymap=raymap)[0]["cameras"])
    merged, merge = part("aether.long.joining").merge_windows((0, 10), windows, cameras)
    assert result.images.shape == (27, 32, 48, 3) and result.depth.shape == (27, 32, 48, 3)
    assert (result.images - torch.from_numpy(merged.rgb)).abs().max() < 1.01 / 255  # kept in 8 bits
    assert (result.disparity[..., 1] - torch.from_numpy(merged.disparity)).abs().max() < 1e-6
    assert np.abs(result.cameras["cameras"].poses - merge.cameras.poses).max() < 1e-6
    assert (result.raymap["raymap"] - torch.from_numpy(merged.raymap)).abs().max() < 1e-5
    assert result.fps == result.cameras["fps"] == result.raymap["fps"] == 12
    report = json.loads(result.report)
    assert [window["start"] for window in report["windows"]] == [0, 10]
    assert report["hero"] is None and report["settings"]["seed"] == 9
    assert not windows_in(temp)


@pytest.mark.slow
def test_outputs_fit_the_other_nodes(nodes, whole):
    result = whole
    cameras, path, text = nodes.AetherCameras(raymap=result.raymap).args
    wanted = result.cameras["cameras"]
    assert np.abs(cameras["cameras"].poses - wanted.poses).max() < 1e-4 * np.abs(wanted.poses).max()
    assert len(path) == 27 and len(json.loads(text)["frames"]) == 27
    assert result.depth.min() >= 1 and torch.isfinite(result.depth).all()


@pytest.mark.slow
def test_hero_begins_anew_in_every_window(nodes, hero_left, part, miniature, film, temp):
    fast = nodes.HeroPatch(model=miniature.model, preset="custom", warmup=1, cooldown=0)[0]
    result = long_clip(nodes, miniature, film, model=fast, steps=4)
    report = json.loads(result.report)
    # 0 1 2 3: the first is full, then one in two.
    assert [(w["hero"]["full_steps"], w["hero"]["cached_steps"]) for w in report["windows"]] == [(2, 2)] * 2
    plain = long_clip(nodes, miniature, film, steps=4)
    assert not torch.equal(plain.disparity, result.disparity)
    again = long_clip(nodes, miniature, film, model=fast, steps=4)
    assert torch.equal(again.disparity, result.disparity)
    assert not hero_left(miniature.model)


class Stop:
    """Asks ComfyUI for an end once the transformer has been called so many times."""

    def __init__(self, model, calls):
        import comfy.model_management

        self.calls, self._left = 0, calls
        self._ask = comfy.model_management.interrupt_current_processing
        self._hook = model.model.diffusion_model.transformer.proj_out.register_forward_hook(self._count)

    def _count(self, *args):
        self.calls += 1
        if self.calls == self._left:
            self._ask(True)

    def remove(self):
        self._hook.remove()


@pytest.mark.parametrize("calls, kept", [(1, 0), (2, 0), (3, 1)])
@pytest.mark.slow
def test_a_stopped_run_goes_on_from_finished_windows(
    nodes, miniature, film, whole, temp, sampled, calls, kept
):
    import comfy.model_management

    stop = Stop(miniature.model, calls)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        long_clip(nodes, miniature, film)
    stop.remove()
    assert stop.calls == calls and len(windows_in(temp)) == kept
    sampled.clear()
    rest = Stop(miniature.model, 99)
    result = long_clip(nodes, miniature, film)
    rest.remove()
    assert rest.calls == 4 - 2 * kept and sampled[-1] == (rest.calls, rest.calls)
    assert not windows_in(temp)
    assert torch.equal(result.disparity, whole.disparity) and torch.equal(result.images, whole.images)


@pytest.mark.parametrize("change", ["seed", "steps", "model", "video", "scheduler"])
@pytest.mark.slow
def test_other_inputs_do_not_go_on_from_them(nodes, miniature, film, temp, change):
    import comfy.model_management

    stop = Stop(miniature.model, 3)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        long_clip(nodes, miniature, film)
    stop.remove()
    changed = {"seed": {"seed": 1}, "steps": {"steps": 1}, "scheduler": {"scheduler": "ddim"}}.get(change, {})
    model = miniature.model.clone() if change == "model" else miniature.model
    rest = Stop(miniature.model, 99)
    long_clip(nodes, miniature, film.flip(2) if change == "video" else film, model=model, **changed)
    rest.remove()
    assert rest.calls == (2 if change == "steps" else 4)


@pytest.mark.slow
def test_a_video_of_a_file_is_read_window_by_window(nodes, part, miniature, film, temp, monkeypatch):
    from comfy_api.latest import InputImpl

    path = temp / "film.mp4"
    part("aether.formats.export").write_video(path, film.numpy(), 12)
    video = InputImpl.VideoFromFile(str(path))
    monkeypatch.setattr(InputImpl.VideoFromFile, "get_components", lambda self: 1 / 0)
    result = long_clip(nodes, miniature, video)
    assert result.images.shape == (27, 32, 48, 3) and result.fps == 12


@pytest.mark.slow
def test_a_trimmed_video_is_what_is_left_of_it(nodes, part, miniature, film, temp):
    from comfy_api.latest import InputImpl

    path = temp / "film.mp4"
    part("aether.formats.export").write_video(path, film.numpy(), 12)
    video = InputImpl.VideoFromFile(str(path), duration=20 / 12)
    assert len(long_clip(nodes, miniature, video).images) == 20


@pytest.mark.slow
def test_tiles_keep_the_whole_picture(nodes, part, miniature, temp):
    world = part("aether.miniature")
    wide = torch.from_numpy(world.render(world.random_scene(5), 17, 32, 80, 12).rgb)
    cropped = long_clip(nodes, miniature, wide)
    result = long_clip(nodes, miniature, wide, tiles=True)
    assert cropped.images.shape == (17, 32, 48, 3) and result.images.shape == (17, 32, 80, 3)
    assert (result.cameras["cameras"].height, result.cameras["cameras"].width) == (32, 80)
    assert len(json.loads(result.report)["windows"][0]["tiles"]) == 2


@pytest.mark.parametrize(
    "field, inputs",
    [
        ("stride", {"stride": 17}),
        ("width, height", {"width": 48, "height": 0}),
        ("width, height", {"width": 50}),
    ],
)
def test_bad_settings(nodes, part, miniature, film, field, inputs):
    with pytest.raises(part("aether.errors").InputError) as error:
        long_clip(nodes, miniature, film, **inputs)
    assert error.value.field == field


def test_bad_inputs(nodes, part, miniature, film, temp):
    error = part("aether.errors").InputError
    with pytest.raises(error, match="video"):
        long_clip(nodes, miniature, film[:1])
    with pytest.raises(error, match="vae"):
        nodes.AetherLongClip(
            model=miniature.model,
            vae=SimpleNamespace(first_stage_model=object()),
            video=film,
            **QUICK,
        )
    node = nodes.get("AetherLongClip")
    with pytest.raises(error, match=r"^stride: 17 leaves no overlap between windows of 17 frames"):
        node.check_lazy_status(width=0, height=0, frames="17", stride=17)
    with pytest.raises(error, match=r"^width, height: give both"):
        node.check_lazy_status(width=96, height=0, frames="auto", stride=0)
    assert node.check_lazy_status(width=0, height=0, frames="auto", stride=17) == ["vae"]


@pytest.mark.slow
def test_post_reconstruction_keeps_colors_and_finds_the_rest_again(nodes, miniature, predicted):
    latent = nodes.AetherSampler(model=miniature.model, **vars(predicted), steps=2)[0]
    better = nodes.AetherPostReconstruct(
        model=miniature.model, vae=miniature.vae, latent=latent, seed=3, steps=2
    )[0]
    rgb = nodes.AetherSplit(latent=latent)[0]["samples"]
    images = miniature.vae.decode(rgb)[0]
    task = nodes.AetherReconstruct(vae=miniature.vae, video=images, seed=3, **SIZE).args
    plain = nodes.AetherSampler(
        model=miniature.model, positive=task[0], negative=task[1], latent=task[2], seed=3, steps=2
    )[0]
    assert torch.equal(better["samples"][:, :16], latent["samples"][:, :16])
    assert torch.equal(better["samples"][:, 16:], plain["samples"][:, 16:])
    assert better["aether_fps"] == latent["aether_fps"]
