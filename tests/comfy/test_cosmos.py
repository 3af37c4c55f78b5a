"""HERO on ComfyUI's own Cosmos 1, Cosmos Predict2 and Anima."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.family_laws import FaultLaws

from .core_family import ComfyFamily

SIZES = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "out_channels": 16, "patch_spatial": 2,
    "patch_temporal": 1, "concat_padding_mask": True, "model_channels": 48, "num_blocks": 4, "num_heads": 2,
    "crossattn_emb_channels": 32, "pos_emb_cls": "rope3d", "pos_emb_interpolation": "crop",
    "use_adaln_lora": True, "adaln_lora_dim": 16, "dtype": torch.float32, "device": "cpu",
}  # fmt: skip
COSMOS = {
    "block_config": "FA-CA-MLP", "block_x_format": "THWBD", "affline_emb_norm": True,
    "extra_per_block_abs_pos_emb": True, "extra_per_block_abs_pos_emb_type": "learnable",
    "rope_t_extrapolation_ratio": 2.0,
}  # fmt: skip
PREDICT2 = {
    "pos_emb_learnable": True, "min_fps": 1, "max_fps": 30, "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 3.0, "rope_w_extrapolation_ratio": 3.0, "rope_enable_fps_modulation": False,
}  # fmt: skip


class CosmosFamily(ComfyFamily):
    channels = 16
    settings: dict[str, Any] = COSMOS

    def model_class(self) -> type:
        from comfy.ldm.cosmos.model import GeneralDIT

        return GeneralDIT

    def build(self) -> Any:
        import comfy.ops

        settings = SIZES | {"in_channels": self.channels} | self.settings
        return self.model_class()(**settings, operations=comfy.ops.manual_cast)

    def prepared(self, latent: torch.Tensor) -> torch.Tensor:
        """With the mask's channel of given frames, where the model takes one."""
        if self.channels == latent.shape[1]:
            return latent
        mask = torch.ones_like(latent[:, :1])
        mask[:, :, :1] = 0
        return torch.cat([latent, mask], dim=1)


@pytest.mark.slow
class TestCosmosTextToWorld(FaultLaws, CosmosFamily):
    def conditions(self, batch: int, generator: torch.Generator) -> dict[str, Any]:
        return {"fps": 24}


@pytest.mark.slow
class TestCosmosVideoToWorld(CosmosFamily):
    channels = 17


class Predict2Family(CosmosFamily):
    settings = PREDICT2

    def model_class(self) -> type:
        from comfy.ldm.cosmos.predict2 import MiniTrainDIT

        return MiniTrainDIT


@pytest.mark.slow
class TestPredict2TextToImage(FaultLaws, Predict2Family):
    """A picture, of an odd size that is padded up."""

    latent = (2, 16, 1, 11, 14)
    one_by_one = False  # of tokens at an edge, part of the answer is cut off


@pytest.mark.slow
class TestPredict2VideoToWorld(Predict2Family):
    """The given frame's timestep is 0; a learned position goes to every block."""

    channels = 17
    settings = PREDICT2 | {"extra_per_block_abs_pos_emb": True}

    def timestep(self, timestep: float, latent: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent), latent.shape[2]), timestep)
        times[:, 0] = 0
        return times


@pytest.mark.slow
class TestAnima(Predict2Family):
    latent = (2, 16, 1, 12, 16)

    def model_class(self) -> type:
        from comfy.ldm.anima.model import Anima

        return Anima


def made(form: ComfyFamily) -> Any:
    """A form's model, random weights."""
    torch.manual_seed(0)
    model = form.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.08)
    return model


@pytest.fixture
def hero(part: Any) -> Any:
    part("hero_engine.hero.steps")
    return part("hero_engine")


class Watched:
    """What a Cosmos 1's blocks are called with and return in one forward without HERO."""

    def __init__(
        self, form: ComfyFamily, model: Any, latent: torch.Tensor, timestep: float, behind: Any = None
    ):
        self.streams: list[torch.Tensor] = []
        self.returned: list[torch.Tensor] = []
        blocks = list(model.blocks.values())
        hooks = [block.register_forward_hook(self._look, with_kwargs=True) for block in blocks]
        if behind is not None:
            hooks.append(blocks[-1].register_forward_hook(lambda *_: behind))
        self.answer = form.call(model, latent, timestep, form.inputs(len(latent)))
        for hook in hooks:
            hook.remove()

    def _look(self, block: Any, args: Any, kwargs: Any, result: torch.Tensor) -> None:
        self.streams.append(args[0].clone())
        self.returned.append(result.clone())
        self.others, self.kwargs = args[1:], kwargs


@torch.no_grad()
def test_a_cached_step_of_cosmos_by_hand(hero: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model adds in front of its blocks counts once: of the shallow ones for the selected tokens, of
    the deep ones in what they added to the stream."""
    form = TestCosmosTextToWorld()
    model = made(form)
    latent = torch.randn(form.latent, generator=torch.Generator().manual_seed(3))
    chosen: list[torch.Tensor] = []
    original = hero.hero.steps.CachedStep._leave

    def leave(step: Any, refreshed: torch.Tensor) -> torch.Tensor:
        chosen.append(step.index)
        return original(step, refreshed)

    monkeypatch.setattr(hero.hero.steps.CachedStep, "_leave", leave)
    with hero.hero_session(model, form.config(hero, tau=3, warmup=1, ratio=0.5, shallow="reuse"), 4):
        form.call(model, latent, 900.0, form.inputs(2))
        answer = form.call(model, latent, 800.0, form.inputs(2))

    full, now = (Watched(form, model, latent, timestep) for timestep in (900.0, 800.0))
    tokens = chosen[0]
    rope = now.kwargs["rope_emb_L_1_1_D"][tokens]
    learned = (now.streams[1] - now.returned[0]).flatten(0, 2)[tokens][:, None, None]
    entering = now.streams[0].flatten(0, 2)[tokens][:, None, None]
    kwargs = now.kwargs | {"rope_emb_L_1_1_D": rope}
    leaving = entering - learned
    for block in list(model.blocks.values())[:3]:
        leaving = block(leaving + learned, *now.others, **kwargs)
    shallow = (full.returned[2] - full.streams[0]).flatten(0, 2)
    shallow[tokens] = (leaving - entering).flatten(0, 2)
    deep = full.returned[-1] - full.returned[2]
    behind = now.streams[0] + shallow.view_as(deep) + deep
    wanted = Watched(form, model, latent, 800.0, behind).answer
    assert float((answer - wanted).norm() / wanted.norm()) < 1e-6
    assert float((answer - now.answer).norm() / now.answer.norm()) > 1e-4


@pytest.mark.parametrize("form", [TestCosmosTextToWorld(), TestPredict2VideoToWorld()], ids=["1", "Predict2"])
def test_the_analysis_refreshes_what_the_blocks_give(
    hero: Any, part: Any, monkeypatch: pytest.MonkeyPatch, form: ComfyFamily
) -> None:
    """With all tokens refreshed, that is what they are anyway behind every block."""
    seen = []
    motion = part("hero_engine.hero.layer_analysis").LayerMotion

    def observe(self: Any, states: torch.Tensor, time: float, refresh: Any = None) -> None:
        if refresh is not None:
            seen.append((states.index_select(2, refresh[0]), refresh[1]))

    monkeypatch.setattr(motion, "observe", observe)
    config = hero.LayersConfig(form.config(hero, ratio=1.0, warmup=1))
    model = made(form)
    with hero.hero_session(model, config, 3):
        form.run(model, steps=3)
    assert len(seen) == 2
    for states, refreshed in seen:
        assert states.shape == refreshed.shape and states.shape[2] > 50
        assert float((states - refreshed).norm() / states.norm()) < 1e-5


def test_storages_of_cosmos(hero: Any) -> None:
    """Residuals have the strides of its stream."""
    form = TestCosmosTextToWorld()
    model, found = made(form), {}
    for storage in ("model", "host", "float8"):
        with hero.hero_session(model, form.config(hero, storage=storage), 9) as run:
            found[storage] = form.run(model)
        config, report = run.config, run.report
        assert report.bytes_cached == hero.cost.cached_bytes(report.shape, config, report.counts, 2, 4)
    assert torch.equal(found["host"], found["model"])
    assert 0 < float((found["float8"] - found["model"]).norm() / found["model"].norm()) < 0.01


class HalfPredict2(Predict2Family):
    settings = PREDICT2 | {"dtype": torch.float16}

    def call(self, model: Any, latent: torch.Tensor, timestep: float, inputs: dict[str, Any]) -> torch.Tensor:
        inputs = inputs | {"context": inputs["context"].half()}
        return super().call(model, latent.half(), timestep, inputs).float()


def test_predict2_in_float16_keeps_a_float32_stream(hero: Any) -> None:
    """And residuals of its dtype."""
    form = HalfPredict2()
    model, config = made(form), form.config(hero, tau="100%", ratio=1.0)
    truth = form.run(model)
    with hero.hero_session(model, config, 9) as run:
        result = form.run(model)
    report = run.report
    assert report.bytes_cached == hero.cost.cached_bytes(report.shape, config, report.counts, 2, 2)
    assert report.bytes_cached == report.shape.video_tokens * 48 * 2 * 4
    assert float((result - truth).norm() / truth.norm()) < 1e-3


@pytest.mark.parametrize("name", ["attn1_patch", "attn2_patch", "mlp_patch"])
def test_predict2_with_patches_inside_its_blocks_is_refused(hero: Any, name: str) -> None:
    form = TestPredict2TextToImage()
    model = made(form)
    inputs = form.inputs(1) | {"transformer_options": {"patches": {name: [lambda *args, **kwargs: None]}}}
    with (
        hero.hero_session(model, form.config(hero), 9),
        pytest.raises(hero.ConfigError, match="^model: .*Anima LLLite.*bypass"),
    ):
        form.call(model, torch.randn(1, *form.latent[1:]), 900.0, inputs)


@pytest.mark.parametrize(
    ("name", "form"),
    [("CosmosI2V", TestCosmosVideoToWorld()), ("CosmosI2VPredict2", TestPredict2VideoToWorld())],
)
def test_core_samples_from_a_given_frame(hero: Any, name: str, form: ComfyFamily) -> None:
    """Through core's own sampler: timesteps that fall below 0 (Cosmos 1), one for each frame (Predict2)."""
    import comfy.model_patcher
    import comfy.sample
    import comfy.supported_models

    kind = getattr(comfy.supported_models, name)
    settings = {key: value for key, value in (SIZES | form.settings).items() if key != "device"}
    config = kind(settings | {"in_channels": 17, "image_model": kind.unet_config["image_model"]})
    config.set_inference_dtype(torch.float32, None)
    torch.manual_seed(0)
    model = config.get_model({}, "", device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.08)
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model, cpu, cpu)
    latent, context = torch.randn(1, *form.latent[1:]), torch.randn(1, *form.context)
    mask = torch.ones(1, 1, *form.latent[2:])
    mask[:, :, 0] = 0

    def sample() -> torch.Tensor:
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
        prompts = [[context, {}]], [[-context, {}]]
        settings = {"noise_mask": mask, "seed": 1, "disable_pbar": True}
        return comfy.sample.sample(patcher, noise, 9, 3.0, "euler", "simple", *prompts, latent, **settings)

    truth = sample()
    every = form.config(hero, tau="100%", ratio=1.0)
    with hero.hero_session(model.diffusion_model, every, 9) as run:
        result = sample()
    assert float((result - truth).norm() / truth.norm()) < 1e-5
    assert (run.report.full_steps, run.report.cached_steps) == (4, 5)
    timesteps = [record.timestep for record in run.report.records]
    assert timesteps == sorted(timesteps, reverse=True)
    assert (timesteps[-1] < 0) == (name == "CosmosI2V")
