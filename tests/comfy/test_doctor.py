"""Aether Doctor: its schema, what it finds in ComfyUI, and missing weights in a template."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ..pretend import DEVICE, PretendGPU

ROOT = Path(__file__).parents[2]


@pytest.fixture
def doctor(part, monkeypatch):
    """The node's module, with nothing computed for memory."""
    module = part("nodes.doctor")
    monkeypatch.setattr(module, "_ways", tuple)
    return module


@pytest.fixture
def models(tmp_path, monkeypatch):
    """``models(folder)`` is one of ComfyUI's model folders, all of which are empty."""
    import folder_paths

    for name in ("diffusers", "diffusion_models", "vae", "text_encoders"):
        (tmp_path / name).mkdir()
        extensions = folder_paths.folder_names_and_paths[name][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], extensions))
    folder_paths.filename_list_cache.clear()
    yield lambda name: tmp_path / name
    folder_paths.filename_list_cache.clear()


def rows(text: str, title: str) -> dict[str, str]:
    (block,) = [part for part in text.split("\n\n") if part.startswith(title)]
    lines = [line.strip().split("  ", 1) for line in block.splitlines()[1:]]
    return {name: rest.strip() for name, rest in lines}


def test_schema(nodes):
    schema = nodes.get("AetherDoctor").define_schema()
    assert (schema.inputs, schema.is_output_node) == ([], True)
    assert [(output.id, output.io_type) for output in schema.outputs] == [("text", "STRING")]


def test_the_report_is_given_out_and_shown(nodes, doctor, models):
    import comfyui_version

    output = nodes.get("AetherDoctor").execute()
    text = output.args[0]
    assert output.ui == {"text": (text,)}
    assert rows(text, "ComfyUI")["version"] == comfyui_version.__version__
    assert rows(text, "Packages")["torch"].startswith(torch.__version__.split("+")[0])
    assert rows(text, "Attention")["sdpa"] == "works here"
    assert rows(text, "Weights")["miniature"].startswith("ready: ")
    assert str(Path.home()) not in text and platform.node() not in text


def test_missing_weights_have_the_commands_of_the_documents(doctor, models):
    found = {line.name: line.text for line in doctor._weights()}
    page = (ROOT / "docs/comfyui.md").read_text(encoding="utf-8")
    for name in ("transformer", "vae", "prompt"):
        assert found[name].startswith("missing: hf download ") and " --local-dir models/" in found[name]
        assert f"\n{found[name].removeprefix('missing: ')}\n" in page


def test_weights_that_are_there(part, doctor, models):
    from safetensors.torch import save_file

    model = part("aether.miniature").build()
    model.transformer.save_pretrained(models("diffusers") / "Aether" / "transformer")
    save_file(model.vae.state_dict(), models("vae") / "v.safetensors")
    save_file({"wan": torch.zeros(3)}, models("vae") / "another.safetensors")
    save_file({"x": torch.zeros(1, 2, 4096)}, models("text_encoders") / "null.safetensors")
    found = {line.name: line.text for line in doctor._weights()}
    folder = models("diffusers") / "Aether" / "transformer"
    assert found["transformer"].startswith(f"found: {folder}, 1 file, ")
    assert found["vae"] == "found: models/vae/v.safetensors"
    assert found["prompt"] == "found: models/text_encoders/null.safetensors"


def test_a_template_without_its_weights_has_the_command(nodes, models):
    template = json.loads((ROOT / "workflows/2 Video to depth and camera.json").read_text(encoding="utf-8"))
    (loader,) = [node for node in template["nodes"] if node["type"] == "AetherLoader"]
    chosen = loader["widgets_values"][0]
    problem = nodes.get("AetherLoader").validate_inputs(attention="auto", transformer=chosen)
    assert problem.startswith("AetherV1/ is not in ComfyUI's model folders: ")
    assert 'hf download AetherWorldModel/AetherV1 --include "transformer/*" --local-dir models/' in problem
    config = models("diffusers") / "AetherV1" / "transformer" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"_class_name": "CogVideoXTransformer3DModel"}')
    assert nodes.get("AetherLoader").validate_inputs(attention="auto", transformer=chosen) is True


@pytest.mark.parametrize(
    "place, found",
    [
        ("custom_nodes/ComfyUI-Aether-HERO", "custom_nodes/ComfyUI-Aether-HERO"),
        ("custom_nodes/mine", "custom_nodes/mine (its usual name is ComfyUI-Aether-HERO)"),
        ("elsewhere/mine", "which is not in custom_nodes: move it there"),
    ],
)
def test_where_the_pack_lies(doctor, monkeypatch, tmp_path, place, found):
    pack = tmp_path / place
    (pack / "hero_engine").mkdir(parents=True)
    monkeypatch.setattr(doctor, "_PACK", pack)
    monkeypatch.setattr(
        doctor, "folder_paths", SimpleNamespace(get_folder_paths=lambda name: [str(tmp_path / name)])
    )
    assert doctor._place().endswith(found)


def test_a_second_copy_is_named(doctor, monkeypatch, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "hero_engine").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    monkeypatch.setattr(doctor, "_PACK", tmp_path / "a")
    monkeypatch.setattr(
        doctor, "folder_paths", SimpleNamespace(get_folder_paths=lambda name: [str(tmp_path)])
    )
    assert doctor._place() == "2 copies in custom_nodes, keep one: a, b"


def test_the_settings_for_a_small_pretended_card(part, monkeypatch):
    import comfy.model_management as management

    module = part("nodes.doctor")
    monkeypatch.setattr(management, "get_torch_device", lambda: DEVICE)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (round(11.5e9), 12 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretended")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    with PretendGPU():
        text = str(module.examine())
    assert rows(text, "Computer")["device"] == "Pretended (cuda:0, capability 8.9, bfloat16)"
    settings = rows(text, "Settings for this device")
    assert settings["so"] == "use dtype fp8_e4m3fn, decoding in tiles"
    assert settings["dtype auto"] == "19.78 GB: does not fit"


def test_nothing_makes_it_fail(nodes, doctor, monkeypatch):
    import comfy.model_management as management

    def broken(*_, **__):
        raise RuntimeError("no")

    for target, name in ((management, "get_torch_device"), (doctor, "_place"), (doctor, "last_folder"),
                         (doctor, "_weights"), (doctor, "comfyui_version")):  # fmt: skip
        monkeypatch.setattr(target, name, broken)
    text = nodes.get("AetherDoctor").execute().args[0]
    assert text.count("could not be examined: RuntimeError: no") >= 6
    assert rows(text, "Weights")["miniature"].startswith("ready: ")
