"""Cheaper full steps: what they change, what they leave, and that no step compiles anything anew."""

import pytest
import torch
from torch import nn

from hero_engine import ConfigError, ForaConfig, HeroConfig, TocaConfig, hero_session, optimize
from hero_engine.models.joint_attention import JointAttention
from hero_engine.speed import backends as backends_module
from hero_engine.speed import optimization as optimization_module
from hero_engine.speed.backends import BACKENDS, choose_backend, trouble_with

from .models import denoise, inputs, relative, tiny_transformer
from .test_session import state

STEPS = 6
HERO = HeroConfig(tau=2, warmup=1, text="omit")


@pytest.fixture(scope="module")
def model():
    return tiny_transformer(3)


@pytest.fixture(scope="module")
def truth(model):
    return denoise(model, steps=STEPS)


@pytest.fixture(scope="module")
def accelerated(model):
    with hero_session(model, HERO, STEPS):
        return denoise(model, steps=STEPS)


class Counting:
    """A compiler that runs what it is given as it is, and counts the graphs."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, _):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("batch", [1, 2])
def test_the_processor_is_bit_identical_to_the_shipped_one(model, batch):
    expected = denoise(model, steps=2, batch=batch)
    with optimize(model) as optimization:
        assert optimization.attention == "sdpa"
        assert all(isinstance(b.attn1.processor, JointAttention) for b in model.transformer_blocks)
        assert torch.equal(denoise(model, steps=2, batch=batch), expected)


def test_without_rotary_positions_too():
    model = tiny_transformer(
        2, use_rotary_positional_embeddings=False, spatial_interpolation_scale=1.0, sample_frames=17
    )
    call = {**inputs(), "image_rotary_emb": None, "timestep": torch.tensor([500])}
    with torch.no_grad():
        expected = model(**call)[0]
        with optimize(model):
            assert torch.equal(model(**call)[0], expected)


def test_diffusers_own_switch_reaches_the_processor(model, truth):
    pytest.importorskip("diffusers.models.attention_dispatch")
    with optimize(model):
        try:
            model.set_attention_backend("_native_math")
            assert {b.attn1.processor._attention_backend for b in model.transformer_blocks} == {
                "_native_math"
            }
            other = denoise(model, steps=STEPS)
        finally:
            model.reset_attention_backend()
    assert not torch.equal(other, truth) and relative(other, truth) < 1e-5


def test_fused_projections_are_equal_up_to_rounding(model, truth):
    before = state(model)
    with optimize(model, fuse_qkv=True):
        assert all(b.attn1.fused_projections for b in model.transformer_blocks)
        assert relative(denoise(model, steps=STEPS), truth) < 1e-6
    assert state(model) == before


def test_projections_that_were_fused_before_stay_fused():
    model = tiny_transformer(2)
    model.fuse_qkv_projections()
    before, expected = state(model), denoise(model, steps=2)
    with optimize(model, fuse_qkv=True):
        assert torch.equal(denoise(model, steps=2), expected)
    assert state(model) == before


def test_lora_is_not_fused_away():
    peft = pytest.importorskip("peft")
    model, targets = tiny_transformer(2), ["to_q", "to_k", "to_v"]
    model.add_adapter(peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False), "style")
    before, tuned = state(model), denoise(model, steps=2)
    with pytest.raises(ConfigError, match="^fuse_qkv: the projections are not plain layers"):
        optimize(model, fuse_qkv=True)
    assert state(model) == before
    with optimize(model):
        assert torch.equal(denoise(model, steps=2), tuned)


def test_everything_is_put_back(model, truth):
    before = state(model)
    optimization = optimize(model, fuse_qkv=True, compile={"backend": Counting()})
    assert state(model) != before
    optimization.remove()
    optimization.remove()
    assert state(model) == before
    assert torch.equal(denoise(model, steps=STEPS), truth)


@pytest.mark.parametrize("batch", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_compiled_blocks_run_compiled_in_a_session_and_only_once_for_each_length(model, batch):
    with hero_session(model, HERO, STEPS):
        expected = denoise(model, steps=STEPS, batch=batch)
    before, counting, graphs = state(model), Counting(), []
    with optimize(model, compile={"backend": counting, "fullgraph": True}):
        for _ in range(2):
            with hero_session(model, HERO, STEPS) as run:
                result = denoise(model, steps=STEPS, batch=batch)
            graphs.append(counting.graphs)
            assert torch.equal(result, expected)
    # Blocks share a graph: one of the full length, one of the sampled tokens; the second run adds none.
    # Before torch 2.5 each of the 3 blocks, and of the shallow ones, has its own.
    once = 2 if torch.__version__ >= (2, 5) else 3 + HERO.tau
    assert graphs == [once, once] and run.report.cached_steps == 3
    assert state(model) == before


@pytest.mark.slow
def test_blocks_the_user_compiled_run_compiled_in_a_session(model, accelerated):
    counting = Counting()
    try:
        for block in model.transformer_blocks:
            block.compile(backend=counting)
        before = state(model)
        with hero_session(model, HERO, STEPS):
            assert torch.equal(denoise(model, steps=STEPS), accelerated)
        first = counting.graphs
        with hero_session(model, HERO, STEPS):
            denoise(model, steps=STEPS)
        assert first > 0 and counting.graphs == first
        assert state(model) == before
    finally:
        for block in model.transformer_blocks:
            del block._compiled_call_impl


@pytest.mark.parametrize(
    "config", [ForaConfig(warmup=1), TocaConfig(warmup=1, ratio=0.3)], ids=["fora", "toca"]
)
def test_methods_that_reach_inside_the_blocks_run_them_uncompiled(model, config):
    with hero_session(model, config, 4):
        expected = denoise(model, steps=4)
    counting = Counting()
    with optimize(model, compile={"backend": counting}), hero_session(model, config, 4) as run:
        assert torch.equal(denoise(model, steps=4), expected)
    assert counting.graphs == 0 and run.report.cached_steps == 2


def test_a_session_goes_through_the_chosen_backend(model, accelerated):
    pytest.importorskip("diffusers.models.attention_dispatch")
    with optimize(model):
        processor = model.transformer_blocks[0].attn1.processor
        processor._attention_backend = "_native_math"
        with hero_session(model, HERO, STEPS):
            assert model.transformer_blocks[0].attn1.processor is processor
            result = denoise(model, steps=STEPS)
        assert model.transformer_blocks[0].attn1.processor is processor
    assert 0 < relative(result, accelerated) < 1e-5


@pytest.mark.slow
def test_a_model_compiled_whole_runs_right_and_is_not_compiled_anew(model, truth, accelerated):
    counting = Counting()
    compiled = torch.compile(model, backend=counting)
    assert torch.equal(denoise(compiled, steps=STEPS), truth)
    before = counting.graphs
    with hero_session(compiled, HERO, STEPS):
        assert torch.equal(denoise(compiled, steps=STEPS), accelerated)
    assert counting.graphs == before > 0
    assert torch.equal(denoise(compiled, steps=STEPS), truth)
    assert counting.graphs == before


def test_bad_requests_leave_the_model_alone(model):
    before = state(model)
    cases = [
        ({"attention": "fastest"}, "attention: 'fastest' is not one of auto, sdpa"),
        ({"attention": "flash"}, "attention: flash does not run here: it needs a CUDA device, not cpu"),
        ({"compile": {"mode": "reduce-overhead"}}, "compile: mode 'reduce-overhead' records CUDA graphs"),
    ]
    for arguments, message in cases:
        with pytest.raises(ConfigError, match=f"^{message}"):
            optimize(model, **arguments)
    with hero_session(model, HERO, STEPS), pytest.raises(ConfigError, match="^transformer: HERO is on it"):
        optimize(model)
    with pytest.raises(ConfigError, match="^transformer: Linear is not supported"):
        optimize(nn.Linear(2, 2))
    assert state(model) == before


@pytest.mark.parametrize(
    "generation, working, chosen",
    [
        (8, {"sdpa"}, "sdpa"),
        (8, {"sdpa", "cudnn", "sage"}, "sdpa"),
        (8, set(BACKENDS), "flash"),
        (9, {"sdpa", "sage"}, "sdpa"),
        (9, {"sdpa", "cudnn"}, "cudnn"),
        (9, set(BACKENDS), "flash3"),
        (10, {"sdpa"}, "sdpa"),
        (10, set(BACKENDS), "cudnn"),
    ],
)
def test_auto_takes_the_first_that_runs(monkeypatch, generation, working, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (generation, 0))
    monkeypatch.setattr(
        backends_module, "trouble_with", lambda name, *_: None if name in working else "missing"
    )
    assert choose_backend("auto", torch.device("cuda"), torch.bfloat16, 64) == chosen


@pytest.mark.parametrize("fault", ["raises", "nan", "other", None])
def test_a_backend_is_tried_before_it_is_trusted(monkeypatch, fault):
    def attend(self, query, key, value, mask):
        out = exact(JointAttention(), query, key, value, mask)
        if self._attention_backend is None or fault is None:
            return out
        if fault == "raises":
            raise ImportError("no kernel image")
        return out * (float("nan") if fault == "nan" else 2.0)

    exact = JointAttention.attend
    monkeypatch.setattr(JointAttention, "attend", attend)
    # The trial itself runs on the CPU here: only the question where it would run is answered with "cuda".
    monkeypatch.setattr(torch.Tensor, "to", lambda self, _, dtype: self.type(dtype))
    trouble = trouble_with("flash", torch.device("cuda"), torch.bfloat16, 64)
    expected = {
        "raises": "ImportError: no kernel image",
        "nan": "its result is off by nan (relative)",
        "other": "its result is off by 1 (relative)",
        None: None,
    }
    assert trouble == expected[fault]


def test_backends_for_half_precision_refuse_float32():
    trouble = trouble_with("flash", torch.device("cuda"), torch.float32, 64)
    assert trouble == "it takes float16 or bfloat16, not float32"


@pytest.fixture
def chosen_for(monkeypatch):
    """Where and in what the attention was chosen to run."""
    found = []

    def choose(attention, device, dtype, width):
        found.append((device, dtype))
        return "sdpa"

    monkeypatch.setattr(optimization_module, "choose_backend", choose)
    return found


def test_attention_is_chosen_for_where_offloaded_blocks_run(chosen_for):
    model = tiny_transformer(2)
    cuda = torch.device("cuda")
    model.enable_group_offload(onload_device=cuda, offload_type="block_level", num_blocks_per_group=1)
    optimize(model).remove()
    optimize(model, device="cpu").remove()
    assert [device.type for device, _ in chosen_for] == ["cuda", "cpu"]


def test_attention_is_chosen_for_what_float8_weights_are_computed_in(chosen_for):
    model = tiny_transformer(2)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    optimize(model).remove()
    optimize(model, dtype=torch.float16).remove()
    assert [dtype for _, dtype in chosen_for] == [torch.bfloat16, torch.float16]


def test_parallelism_is_not_named_where_there_is_none(monkeypatch):
    """diffusers 0.35's function does not take it."""
    dispatch = pytest.importorskip("diffusers.models.attention_dispatch")
    given = []

    def old(query, key, value, attn_mask=None, *, backend=None, **more):
        given.append((backend, more))
        return value

    monkeypatch.setattr(dispatch, "dispatch_attention_fn", old)
    tokens, attention = torch.zeros(1, 3, 2, 4), JointAttention("flash")
    attention.attend(tokens, tokens, tokens, None)
    attention._parallel_config = "ring"
    attention.attend(tokens, tokens, tokens, None)
    assert given == [("flash", {}), ("flash", {"parallel_config": "ring"})]
