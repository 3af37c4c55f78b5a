"""Weights in float8 and blocks on the host, without HERO and with it."""

import pytest
import torch

from aether import InputError
from aether.generation.sampling import sample
from aether.generation.tasks import condition
from aether.model import memory
from aether.model.memory import FLOAT8, keep_in_float8, offload_blocks, weight_bytes
from aether.run import job
from hero_engine import HeroConfig, hero_session


def run(model, tiny, hero, steps=7):
    generator = torch.Generator().manual_seed(2)
    conditions = condition(model, "planning", **tiny.inputs("planning"), generator=generator)
    session = None
    if hero:
        session = hero_session(model.transformer, HeroConfig(warmup=2, patch=(1, 1, 3)), steps)
    return sample(model, conditions, steps=steps, generator=generator, session=session)


@pytest.mark.parametrize("hero", [False, True])
def test_weights_in_float8_give_what_rounded_weights_give(tiny, hero):
    model, rounded = tiny.model(), tiny.model()
    before = weight_bytes(model.transformer)
    keep_in_float8(model.transformer, torch.float32)
    kept = {name for name, weight in model.transformer.named_parameters() if weight.dtype == FLOAT8}
    assert any("attn1.to_q" in name for name in kept) and not any("norm" in name for name in kept)
    assert weight_bytes(model.transformer) < 0.75 * before  # modulation and patch embedding stay as they are
    for name, weight in rounded.transformer.named_parameters():
        if name in kept:
            weight.data = weight.data.to(FLOAT8).float()
    assert torch.equal(run(model, tiny, hero), run(rounded, tiny, hero))
    assert not torch.equal(run(model, tiny, hero), run(tiny.model(), tiny, hero))


@pytest.mark.parametrize("hero", [False, True])
@pytest.mark.parametrize("float8", [False, True])
@pytest.mark.slow
def test_blocks_on_the_host_change_nothing(tiny, hero, float8):
    model, plain = tiny.model(), tiny.model()
    for one in (model, plain):
        if float8:
            keep_in_float8(one.transformer, torch.float32)
    offload_blocks(model.transformer, torch.device("cpu"))
    assert model.device == torch.device("cpu")
    assert torch.equal(run(model, tiny, hero), run(plain, tiny, hero))


def test_a_block_that_hero_skips_is_not_brought_over(tiny):
    from diffusers.hooks import group_offloading

    model, brought = tiny.model(), []
    offload_blocks(model.transformer, torch.device("cpu"))
    original = group_offloading.ModuleGroup.onload_

    def onload(group, *args):
        brought.append(group.onload_leader)
        return original(group, *args)

    group_offloading.ModuleGroup.onload_ = onload
    try:
        run(model, tiny, hero=True)
    finally:
        group_offloading.ModuleGroup.onload_ = original
    counts = [brought.count(block) for block in model.transformer.transformer_blocks]
    assert counts == [7, 7, 4]  # of three blocks two are shallow; steps 0, 1, 3 and 5 of seven are full


@pytest.fixture
def buffers(monkeypatch):
    """Those that would be pinned; each holds 32 KiB, where one weight does not need more."""
    made = []

    def pinned(count):
        made.append(torch.empty(count, dtype=torch.uint8))
        return made[-1]

    monkeypatch.setattr(memory, "_pinned", pinned)
    monkeypatch.setattr(memory, "_BUFFER", 2**15)
    return made


@pytest.fixture
def offloaded(tiny, monkeypatch):
    """What diffusers is asked for, which needs a GPU."""
    asked = []

    def enable(model, *, onload_device, use_stream, **_):
        asked.append((onload_device.type, use_stream))

    monkeypatch.setattr(tiny.CogVideoXTransformer3DModel, "enable_group_offload", enable)
    return asked


@pytest.mark.parametrize("float8", [False, True])
def test_blocks_for_cuda_lie_in_few_pinned_buffers(tiny, buffers, offloaded, float8):
    model, plain = tiny.model(), tiny.model()
    for one in (model, plain):
        if float8:
            keep_in_float8(one.transformer, torch.float32)
    dtypes = [weight.dtype for weight in model.transformer.parameters()]
    offload_blocks(model.transformer, torch.device("cuda"))
    assert offloaded == [("cuda", True)]
    weights = list(model.transformer.transformer_blocks.parameters())
    begin = {buffer.data_ptr(): buffer for buffer in buffers}
    assert {weight.untyped_storage().data_ptr() for weight in weights} == begin.keys()
    assert len(buffers) < len(weights) / 4
    total = sum(buffer.nbytes for buffer in buffers)
    assert weight_bytes(model.transformer.transformer_blocks) <= total <= 2**15 * len(buffers)
    assert all(weight.storage_offset() * weight.itemsize % 256 == 0 for weight in weights)
    assert [weight.dtype for weight in model.transformer.parameters()] == dtypes
    assert all(map(same, model.transformer.parameters(), plain.transformer.parameters()))
    assert torch.equal(run(model, tiny, hero=True), run(plain, tiny, hero=True))


def same(one, other):
    return one.shape == other.shape and torch.equal(one.float(), other.float())


def test_a_weight_larger_than_a_buffer_has_one_to_itself(buffers):
    values = [torch.arange(count, dtype=torch.float32) for count in (1000, 10000, 7, 0, 5)]
    weights = [torch.nn.Parameter(value.clone()) for value in values]
    memory._pin_together(weights)
    assert [buffer.nbytes for buffer in buffers] == [4096, 40192, 512]
    assert all(torch.equal(weight, value) for weight, value in zip(weights, values, strict=True))


def test_on_the_cpu_nothing_is_pinned(tiny, buffers, offloaded):
    offload_blocks(tiny.transformer(), torch.device("cpu"))
    assert buffers == [] and offloaded == [("cpu", False)]


def test_a_host_with_too_little_memory_is_told_how_much(tiny, monkeypatch):
    def full(count):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(memory, "_pinned", full)
    match = r"^offload: pinning the blocks needs 0\.\d MB of the computer's memory"
    with pytest.raises(InputError, match=match) as error:
        offload_blocks(tiny.transformer(), torch.device("cuda"))
    assert error.value.field == "offload"


def test_offloading_says_at_once_what_it_needs(tiny, monkeypatch):
    monkeypatch.setattr("diffusers.utils.is_accelerate_available", lambda: False)
    with pytest.raises(ImportError, match="pip install accelerate"):
        offload_blocks(tiny.transformer(), torch.device("cpu"))


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_stage_ends_when_the_models_own_device_is_done(monkeypatch, kind):
    waited = []
    monkeypatch.setattr(getattr(torch, kind), "synchronize", waited.append)
    watch = job._Watch(torch.device(kind, 1))
    watch.lap("denoise")
    assert waited == [torch.device(kind, 1)] * 2 and watch.laps["denoise"] >= 0


def test_a_stage_on_a_mac_ends_when_its_one_device_is_done(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(1))
    job._Watch(torch.device("mps")).lap("denoise")
    assert waited == [1, 1]
