"""Where ComfyUI is, and the pack loaded into it the way ComfyUI does it.

Nothing here or in the tests imports ComfyUI at module level: where it is absent, everything is skipped.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.comfyui import PACK, ROOT, find_comfyui, load_pack


def why_not() -> str | None:
    if find_comfyui() is None:
        return "ComfyUI is not here: set COMFYUI_PATH, or put it at ~/comfy/ComfyUI"
    missing = [
        name for name in ("comfy_aimdo", "comfy_kitchen", "torchsde") if not importlib.util.find_spec(name)
    ]
    if missing:
        return f"this Python lacks ComfyUI's requirements ({', '.join(missing)})"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where ComfyUI is absent, one test stands for all, and its skip says why."""
    reason = why_not()
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    if reason and ours:
        ours[0].add_marker(pytest.mark.skip(reason=f"{len(ours)} tests need ComfyUI. {reason}"))
        items[:] = [item for item in items if item is ours[0] or item not in ours]


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """ComfyUI's folder."""
    return find_comfyui()


@pytest.fixture(scope="session")
def pack(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """See `load_pack`."""
    module = load_pack(comfyui)
    import folder_paths

    folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("previews")))
    return module


@pytest.fixture(scope="session")
def part(pack: Any) -> Any:
    """``part("nodes.hero")`` is that module of the pack."""
    return lambda name: importlib.import_module(f"{PACK}.{name}")


class Nodes:
    """Run a node of the pack as ComfyUI would: ``nodes.AetherSplit(latent=...)`` gives its outputs.

    Widgets that are not given have their defaults. ``nodes.get("AetherSplit")`` is the class,
    ``nodes.all()`` gives all of them by name.
    """

    def __init__(self, part: Any):
        modules = (
            "loaders", "tasks", "hero", "hero_report", "hero_methods", "hero_analyzer", "hero_tuner",
            "sampler", "streams", "depth", "cameras", "camera_path", "save_depth", "video", "long_clip",
            "explore", "post_reconstruction", "point_cloud", "geometry", "lora", "doctor", "camera_check",
            "metric_scale",
        )  # fmt: skip
        self._classes = {
            node.define_schema().node_id: node for name in modules for node in part(f"nodes.{name}").NODES
        }

    def get(self, name: str) -> Any:
        return self._classes[name]

    def all(self) -> dict[str, Any]:
        return dict(self._classes)

    def __getattr__(self, name: str) -> Any:
        from comfy_api.latest import io

        node = self._classes[name]
        inputs = node.define_schema().inputs
        defaults = {i.id: i.default for i in inputs if getattr(i, "default", None) is not None}
        ready = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "7"}})

        def run(**given: Any) -> Any:
            import torch

            with torch.inference_mode():
                result = getattr(ready, ready.FUNCTION)(**(defaults | given))
                return asyncio.run(result) if asyncio.iscoroutine(result) else result

        return run


@pytest.fixture(scope="session")
def nodes(part: Any) -> Nodes:
    return Nodes(part)


@pytest.fixture(scope="session")
def miniature(nodes: Nodes) -> SimpleNamespace:
    """The miniature: model, vae. One for all tests: none may leave anything on it."""
    model, vae = nodes.AetherMiniature().args
    return SimpleNamespace(model=model, vae=vae)


@pytest.fixture(scope="session")
def core_model(pack: Any) -> SimpleNamespace:
    """A small untrained CogVideoX as core's loader would make it, and a text to go with it: one for all."""
    return make_core_model()


def make_core_model() -> SimpleNamespace:
    """See the fixture of its name."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    torch.manual_seed(0)
    config = comfy.supported_models.CogVideoX_T2V({
        "image_model": "cogvideox", "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": 16,
        "out_channels": 16, "time_embed_dim": 32, "text_embed_dim": 16, "num_layers": 8, "sample_width": 6,
        "sample_height": 4, "sample_frames": 17, "patch_size": 1, "max_text_seq_length": 8,
        "use_rotary_positional_embeddings": True, "dtype": torch.float32,
    })  # fmt: skip
    base = comfy.model_base.CogVideoX(config)
    for parameter in base.diffusion_model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    cpu = torch.device("cpu")
    text = [[torch.randn(1, 8, 16), {}]]
    task = SimpleNamespace(positive=text, negative=text, latent={"samples": torch.zeros(1, 16, 5, 4, 6)})
    return SimpleNamespace(model=comfy.model_patcher.ModelPatcher(base, cpu, cpu), task=task)


@pytest.fixture(scope="session")
def clip(part: Any) -> Any:
    """A rendered clip as IMAGE, (17, 64, 96, 3)."""
    import torch

    world = part("aether.miniature")
    return torch.from_numpy(world.render(world.random_scene(3), 17, 64, 96, 12).rgb)


@pytest.fixture(scope="session")
def predicted(nodes: Nodes, miniature: SimpleNamespace, clip: Any) -> SimpleNamespace:
    """A task's outputs: positive, negative, latent. At half the miniature's size, to be quick."""
    outputs = nodes.AetherPredict(vae=miniature.vae, image=clip[:1], frames="17", width=48, height=32).args
    return SimpleNamespace(**dict(zip(("positive", "negative", "latent"), outputs, strict=True)))


@pytest.fixture(scope="session")
def ksampler(pack: Any) -> Any:
    """What core's KSampler does: ``ksampler(model, task, steps=..., ...)`` gives the samples."""

    def run(
        model: Any, task: Any, *, steps: int = 8, seed: int = 1, cfg: float = 3.0, sampler: str = "euler",
        scheduler: str = "sgm_uniform", callback: Any = None, mask: Any = None,
    ) -> Any:  # fmt: skip
        import comfy.sample
        import torch

        latent = comfy.sample.fix_empty_latent_channels(model, task.latent["samples"])
        with torch.inference_mode():
            return comfy.sample.sample(
                model, comfy.sample.prepare_noise(latent, seed), steps, cfg, sampler, scheduler,
                task.positive, task.negative, latent, callback=callback, disable_pbar=True, seed=seed,
                noise_mask=mask,
            )  # fmt: skip

    return run


@pytest.fixture
def hero_left() -> Callable[[Any], list[str]]:
    """``hero_left(model)`` names what HERO has left on a model or, since the test began, in memory."""
    gc.collect()  # what earlier tests left in cycles, as an error that was caught does with its frames
    earlier = _caches()

    def left(model: Any) -> list[str]:
        modules = [
            name
            for name, module in model.model.diffusion_model.transformer.named_modules()
            if any(type(value).__name__ == "Wrapped" for value in vars(module).values())
        ]
        new = [cache for cache in _caches() if not any(cache is other for other in earlier)]
        return modules + [type(cache).__name__ for cache in new]

    return left


def _caches() -> list[Any]:
    return [thing for thing in gc.get_objects() if type(thing).__name__ == "BranchCache"]


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A ComfyUI server of our own, for the whole session."""
    from .client import Server

    running = Server(comfyui, tmp_path_factory.mktemp("comfyui"), ROOT).wait()
    yield running
    running.stop()
