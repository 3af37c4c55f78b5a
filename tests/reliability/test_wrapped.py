"""HERO on models that others have wrapped: LoRA, float8 storage, offload, copies, inference mode, autocast.

A run is right where it equals HERO on the plain model with the same numbers in its weights.
"""

from __future__ import annotations

import contextlib
import copy
import importlib

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline
from diffusers.hooks import FirstBlockCacheConfig

from hero_engine import METHODS, ConfigError, HeroConfig, apply_hero, hero_session, remove_hero
from hero_engine.session import current_run

from ..hero_engine.models import denoise, inputs, noise, relative, tiny_transformer

STEPS = 8
CONFIGS = [HeroConfig(), HeroConfig(shallow="forecast", text="omit")]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=["reuse", "forecast"])


def accelerated(model, config, **options):
    with hero_session(model, config, STEPS) as run:
        result = denoise(model, steps=STEPS, **options)
    assert run.report.cached_steps > 0
    return result


def with_lora(seed: int = 1):
    peft = pytest.importorskip("peft")
    model = tiny_transformer(4)
    torch.manual_seed(seed)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.2"]
    model.add_adapter(peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False), "style")
    return model


@every_config
def test_lora_counts_on_every_step(config):
    tuned = with_lora()
    plain = accelerated(tiny_transformer(4), config)
    result = accelerated(tuned, config)
    # The same numbers, added to the weights instead of beside them.
    merged = copy.deepcopy(tuned)
    merged.fuse_lora()
    assert relative(result, accelerated(merged, config)) < 1e-5
    assert relative(result, plain) > 1e-2
    tuned.set_adapters(["style"], [0.5])
    half = accelerated(tuned, config)
    assert relative(half, result) > 1e-3 and relative(half, plain) > 1e-3


@every_config
def test_float8_storage_computes_as_the_rounded_weights_do(config):
    stored = tiny_transformer(4)
    stored.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert stored.transformer_blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn
    rounded = tiny_transformer(4)
    with torch.no_grad():
        state = {name: value.float() for name, value in stored.state_dict().items()}
        rounded.load_state_dict(state)
    assert torch.equal(accelerated(stored, config), accelerated(rounded, config))
    assert stored.transformer_blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn


@every_config
def test_offloaded_groups_come_and_go(config):
    model = tiny_transformer(4)
    expected = accelerated(model, config)
    model.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    assert torch.equal(accelerated(model, config), expected)


class Stream:
    """A stream of a GPU, where everything happens at once."""

    def synchronize(self):
        pass


class Streams:
    """What diffusers asks of a device that has streams."""

    Stream = Stream

    def __init__(self, device):
        pass

    def stream(self, stream):
        return contextlib.nullcontext()

    def current_stream(self):
        return Stream()


def offload_with_streams(model, monkeypatch):
    """As on a GPU: in the first call diffusers learns the blocks' order by hooks that it takes off then."""
    offloading = importlib.import_module("diffusers.hooks.group_offloading")
    if not hasattr(offloading, "TorchDeviceBackend"):
        pytest.skip("this diffusers asks CUDA itself for streams")
    monkeypatch.setattr(offloading, "TorchDeviceBackend", Streams)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    config = offloading.GroupOffloadingConfig(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type=offloading.GroupOffloadingType.BLOCK_LEVEL,
        non_blocking=False,
        record_stream=False,
        low_cpu_mem_usage=False,
        num_blocks_per_group=1,
        stream=Stream(),
    )
    offloading._apply_group_offloading(model, config)


@every_config
def test_hooks_that_go_in_the_first_call_leave_hero_on(config, monkeypatch):
    model = tiny_transformer(4)
    expected = accelerated(model, config)
    offload_with_streams(model, monkeypatch)
    for _ in range(2):
        assert torch.equal(accelerated(model, config), expected)


@pytest.mark.parametrize("offload_first", [True, False])
def test_pipelines_that_offload_the_model_after_every_run(offload_first):
    """diffusers takes its hooks off and puts them on again at the end of each call of a pipeline."""
    model = tiny_transformer(4)
    plain, expected = denoise(model, steps=STEPS), accelerated(model, HeroConfig())
    pipe = CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=model, scheduler=CogVideoXDDIMScheduler()
    )
    pipe.model_cpu_offload_seq = "transformer"
    if offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    run = apply_hero(model, HeroConfig(), STEPS)
    if not offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    for number in range(1, 4):
        assert torch.equal(denoise(model, steps=STEPS), expected)
        assert len(run.reports) == number
        pipe.maybe_free_model_hooks()
    assert current_run(model) is run
    remove_hero(model)
    assert current_run(model) is None and run.cached_bytes == 0
    assert torch.equal(denoise(model, steps=STEPS), plain)


@every_config
def test_a_copy_of_a_patched_model_is_a_model_of_its_own(config):
    model = tiny_transformer(4)
    plain, expected = denoise(model, steps=STEPS), accelerated(model, config)
    run = apply_hero(model, config)
    denoise(model, steps=STEPS)
    twin = copy.deepcopy(model)
    assert current_run(twin) is None and current_run(model) is run
    assert torch.equal(denoise(twin, steps=STEPS), plain)
    # Both go on by themselves, whatever the other does.
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    remove_hero(twin)
    assert torch.equal(denoise(model, steps=STEPS), expected)
    remove_hero(model)
    assert torch.equal(denoise(model, steps=STEPS), plain)


def replicas(model, monkeypatch, number=2):
    """Those of torch.nn.DataParallel, which it makes for devices of CUDA only, on the CPU."""
    module = importlib.import_module("torch.nn.parallel.replicate")
    monkeypatch.setattr(module, "_get_device_index", lambda device, *args: device)
    monkeypatch.setattr(
        module,
        "_broadcast_coalesced_reshape",
        lambda tensors, devices, *args, **options: [[tensor.clone() for tensor in tensors] for _ in devices],
    )
    return module.replicate(model, ["cpu"] * number, detach=True)


def test_copies_of_data_parallel_are_refused(monkeypatch):
    model = tiny_transformer(4)
    plain = denoise(model, steps=STEPS)
    with hero_session(model, HeroConfig(), STEPS):
        with pytest.raises(ConfigError, match=r"^transformer: DataParallel cannot copy a model while HERO"):
            replicas(model, monkeypatch)
    for replica in replicas(model, monkeypatch):
        assert torch.equal(denoise(replica, steps=STEPS), plain)
    with pytest.raises(ConfigError, match=r"^transformer: DataParallel is not supported"):
        apply_hero(torch.nn.DataParallel(model), HeroConfig())


@every_config
def test_inference_mode_and_back(config):
    model = tiny_transformer(4)
    expected = accelerated(model, config)
    run = apply_hero(model, config)
    with torch.inference_mode():
        assert torch.equal(denoise(model, steps=STEPS), expected)
    # What was cached in inference mode must not come into a run with gradients.
    assert torch.equal(denoise(model, steps=STEPS), expected)
    assert run.report.cached_steps > 0


@every_config
def test_autocast_computes_in_its_dtype(config):
    model = tiny_transformer(4)
    expected = accelerated(model, config)
    with torch.autocast("cpu", torch.bfloat16):
        result = accelerated(model, config)
        full = denoise(model, steps=STEPS)
        with hero_session(model, HeroConfig(interval=1), STEPS):
            assert torch.equal(denoise(model, steps=STEPS), full)
    assert 0 < relative(result, expected) < 0.1


@pytest.mark.parametrize("kind", ["LoKrConfig", "LoHaConfig"])
def test_other_adapters_than_lora(kind):
    peft = pytest.importorskip("peft")
    model = tiny_transformer(4)
    model.add_adapter(getattr(peft, kind)(r=2, target_modules=["to_q"]), "style")
    assert torch.isfinite(accelerated(model, HeroConfig())).all()


def reasons_where(change):
    """Of four steps; `change`, called before the third and fourth, returns what they are given."""
    peft = pytest.importorskip("peft")
    model = tiny_transformer(2)
    for name, part in (("first", "to_q"), ("second", "ff.net.2")):
        config = peft.LoraConfig(r=2, target_modules=[part], init_lora_weights=False)
        model.add_adapter(config, name)
    model.set_adapters(["first", "second"], [1.0, 1.0])
    with hero_session(model, HeroConfig(tau=1, interval=10, warmup=1)) as run, torch.no_grad():
        for time, given in ((900, {}), (800, {}), (700, None), (600, None)):
            given = change(model) if given is None else given
            model(**inputs(), timestep=torch.tensor([time]), **given)
    return [record.reason.value for record in run.report.records]


def test_any_layers_adapter_that_changes_drops_what_was_cached():
    def weaken(model):
        model.set_adapters(["first", "second"], [1.0, 0.0])
        return {}

    assert reasons_where(weaken) == ["warm-up", "cached", "nothing cached", "cached"]
    scaled = reasons_where(lambda model: {"attention_kwargs": {"scale": 0.1}})
    assert scaled == ["warm-up", "cached", "nothing cached", "cached"]


def test_diffusers_own_cache_is_refused():
    model = tiny_transformer(2)
    model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ConfigError, match="^transformer: diffusers' own cache is on it"):
        apply_hero(model, HeroConfig())
    model.disable_cache()
    assert accelerated(model, HeroConfig(tau=1)).isfinite().all()


@pytest.mark.slow
@every_config
def test_a_model_compiled_whole_without_breaks_runs_uncompiled(config):
    model = tiny_transformer(4)
    expected = accelerated(model, config)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(accelerated(compiled, config), expected)
    plain = denoise(model, steps=2)
    assert relative(denoise(compiled, steps=2), plain) < 1e-6


@pytest.mark.slow
def test_blocks_that_somebody_compiles_around_hero_run_under_it():
    """As nodes for ComfyUI do: for the time of a call, compiled modules stand in for blocks."""
    model = tiny_transformer(4)
    expected = accelerated(model, HeroConfig())
    compiled = [torch.compile(block, backend="eager") for block in model.transformer_blocks]
    blocks = list(model.transformer_blocks)
    with hero_session(model, HeroConfig(), STEPS) as run:
        for number, block in enumerate(compiled):
            model.transformer_blocks[number] = block
        assert torch.equal(denoise(model, steps=STEPS), expected)
    assert run.report.cached_steps > 0
    for number, block in enumerate(blocks):
        model.transformer_blocks[number] = block


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_inside_blocks_that_were_compiled_one_by_one(method):
    model = tiny_transformer(3)
    config = METHODS[method]()

    def run():
        with hero_session(model, config, STEPS, noise()) as session:
            result = denoise(model, steps=STEPS)
        assert session.report.records
        return result

    expected = run()
    for number, block in enumerate(list(model.transformer_blocks)):
        model.transformer_blocks[number] = torch.compile(block, backend="eager")
    for _ in range(2):
        assert relative(run(), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True])
def test_compiled_callers_of_the_model(warm):
    """What calls the model is traced: HERO is not passed by, and not baked in."""
    model = tiny_transformer(3)
    expected = accelerated(model, HeroConfig())
    inner = model.forward
    model.forward = torch.compile(inner, backend="eager")
    if warm:
        denoise(model, steps=1)
    assert relative(accelerated(model, HeroConfig()), expected) < 1e-5
    del model.forward
    torch._dynamo.reset()
    caller = torch.compile(lambda *args, **kwargs: model(*args, **kwargs), backend="eager")
    if warm:
        denoise(caller, steps=1)
    with hero_session(model, HeroConfig(), STEPS) as run:
        assert relative(denoise(caller, steps=STEPS), expected) < 1e-5
    assert run.report.cached_steps > 0


@pytest.mark.slow
def test_compiling_under_hero_leaves_it_on():
    model = tiny_transformer(4)
    plain, expected = denoise(model, steps=STEPS), accelerated(model, HeroConfig())
    run = apply_hero(model, HeroConfig(), STEPS)
    for module in (*model.transformer_blocks, model):
        module.compile(backend="eager")
    assert relative(denoise(model, steps=STEPS), expected) < 1e-5
    assert run.report.cached_steps > 0 and current_run(model) is run
    remove_hero(model)
    assert model._compiled_call_impl is not None and "compile" not in vars(model)
    assert relative(denoise(model, steps=STEPS), plain) < 1e-5
