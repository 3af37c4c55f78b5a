"""The run that a recording is of, as the node knows it and as the page does before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .core_models import CORE_MODELS
from .headers import WAN_14B, save_header

MINIATURE = {"loader": "AetherMiniature"}


def test_the_miniature_is_known_to_both(part: Any, miniature: SimpleNamespace, predicted: SimpleNamespace):
    made, before = part("nodes.bridge.recorded_run").RecordedRun, part("nodes.bridge.model_before")
    at_run = made.of(miniature.model, "ddim", 12, predicted.latent["samples"])
    clip = before.Clip(32, 48, 17)
    of_page = made.before(MINIATURE, before.model_before(MINIATURE), {"aether": "ddim"}, 12, clip)
    assert at_run == of_page == made("miniature", "", "no", "ddim", 12, 48, 32, 17)
    assert made.read(at_run.about()) == at_run
    assert made.read({}) is None and made.read(at_run.about() | {"steps": "many"}) is None


@pytest.fixture
def files(part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import folder_paths

    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "diffusion_models", ([str(tmp_path)], {".safetensors"})
    )
    part("nodes.bridge.model_file")._model_of.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    "name", ["wan_5b", "ltx_t2v", "hunyuan15_i2v", "cosmos_predict2_t2i", "cogvideox_i2v"]
)
def test_cores_families_are_known_to_both(part: Any, files: Path, name: str):
    """By their form; where core's loader made the MODEL, by the file."""
    made, before = part("nodes.bridge.recorded_run").RecordedRun, part("nodes.bridge.model_before")
    family = CORE_MODELS[name]
    model = family.load()
    model.cached_patcher_init = None
    state = {key: tuple(value.shape) for key, value in family.state().items()}
    (files / "sub").mkdir()
    save_header(files / "sub" / "model.safetensors", state)
    asked = {"loader": "UNETLoader", "file": "sub/model.safetensors", "kind": "unet"}
    found = before.model_before(asked)
    side, length = found.cell
    frames, height, width = family.latent[1:]
    clip = before.Clip(height * side, width * side, (frames - 1) * length + 1)
    of_page = made.before(asked, found, {"core": "euler"}, 8, clip)
    import comfy.samplers

    sampler = comfy.samplers.sampler_object("ddim")  # core's euler
    at_run = made.of(model, sampler, 8, torch.zeros(1, *family.latent))
    assert of_page.has_model_of(at_run) and of_page.form and at_run.file == ""
    assert of_page.differences(at_run) == {}
    model.cached_patcher_init = (None, (str(files / "sub" / "model.safetensors"), {}))
    assert made.of(model, sampler, 8, torch.zeros(1, *family.latent)).file == of_page.file
    model.cached_patcher_init = (None, (str(files / "other.safetensors"), {}))
    assert not of_page.has_model_of(made.of(model, sampler, 8, torch.zeros(1, *family.latent)))


def test_a_loaded_file_is_known_by_its_name(pack: Any, part: Any, files: Path):
    """Core's own loader, on a file with weights."""
    import comfy.sd
    from safetensors.torch import save_file

    family = CORE_MODELS["wan_t2v"]
    path = files / "model.safetensors"
    save_file({key: value.contiguous() for key, value in family.state().items()}, path)
    model = comfy.sd.load_diffusion_model(str(path))
    of = part("nodes.bridge.recorded_run").RecordedRun.of
    plain = of(model, "euler", 8, torch.zeros(1, *family.latent))
    assert (plain.file, plain.patched) == ("model.safetensors", "no")
    changed = model.clone()
    key = next(iter(changed.model.state_dict()))
    changed.add_patches({key: ("diff", (torch.zeros_like(changed.model.state_dict()[key]),))})
    other = of(changed, "euler", 8, torch.zeros(1, *family.latent))
    assert (other.file, other.patched) == ("model.safetensors", "yes")
    assert not plain.has_model_of(other)


def test_every_sampler_is_known_to_both(pack: Any, part: Any, miniature: SimpleNamespace, files: Path):
    import comfy.samplers

    made, before = part("nodes.bridge.recorded_run").RecordedRun, part("nodes.bridge.model_before")
    save_header(files / "model.safetensors", WAN_14B)
    asked = {"loader": "UNETLoader", "file": "model.safetensors", "kind": "unet"}
    found = before.model_before(asked)
    for name in comfy.samplers.SAMPLER_NAMES:
        of_page = made.before(asked, found, {"core": name}, 8, before.Clip(480, 832, 81))
        sampler = comfy.samplers.sampler_object(name)
        at_run = made.of(miniature.model, sampler, 8, torch.zeros(1, 56, 5, 4, 6))
        assert of_page.sampler == at_run.sampler != ""
    assert (of_page.width, of_page.height, of_page.frames) == (832, 480, 81)
