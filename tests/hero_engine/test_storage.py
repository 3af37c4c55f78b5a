"""Where cached features wait: what comes back, what it takes, and what happens when memory runs out."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from hero_engine import ConfigError, HeroConfig, hero_session
from hero_engine.cost import AETHER, predict
from hero_engine.hero.config import SHALLOWS
from hero_engine.hero.residuals import BranchCache
from hero_engine.storage import STORES, Float8Store, HostStore, Store, check_storage

from .models import denoise, relative, tiny_transformer

STEPS = 8
MODEL = tiny_transformer(4)


def run(config, **options):
    with hero_session(MODEL, config, STEPS) as session:
        return denoise(MODEL, steps=STEPS, **options), session


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float8_keeps_to_its_bound(dtype):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(2, 7, 3, 32, generator=generator)
    tensor *= 10.0 ** torch.randint(-4, 3, (2, 7, 1, 1), generator=generator)  # tokens of all sizes
    tensor[:, :, 0, :4] *= 1e-4  # and numbers far below their token's largest
    tensor[0, 3] = 0
    tensor = tensor.to(dtype)
    store = Float8Store()
    store.put(tensor)
    back = store.read()
    assert back.dtype == dtype and back.shape == tensor.shape
    error, size = (back.double() - tensor.double()).abs(), tensor.double().abs()
    largest = size.amax((2, 3), keepdim=True)
    bound = torch.maximum(size / 16, largest / 2**17)
    assert bool((error <= bound).all()) or dtype is torch.float16  # its own smallest numbers are coarser
    assert bool((error <= torch.maximum(bound, torch.full_like(bound, 2.0**-24))).all())
    assert error.max() > 0 and torch.equal(back[0, 3], tensor[0, 3])
    # A second time, nothing is lost.
    again = Float8Store()
    again.put(back)
    assert torch.equal(again.read(), back)


def test_float8_shows_what_is_not_a_number():
    tensor = torch.ones(1, 3, 4)
    tensor[0, 1, 2] = float("nan")
    store = Float8Store()
    store.put(tensor)
    assert torch.equal(store.read()[:, [0, 2]], tensor[:, [0, 2]])
    assert store.read()[0, 1].isnan().any()


@pytest.mark.parametrize("kind", STORES)
def test_rows_are_written_anew_and_the_others_stay(kind):
    generator = torch.Generator().manual_seed(1)
    store = STORES[kind]()
    assert not store.filled and store.bytes == 0
    tensor, part = torch.randn(2, 6, 8, generator=generator), torch.randn(2, 2, 8, generator=generator)
    store.put(tensor.clone())
    before, index = store.read().clone(), torch.tensor([4, 1])
    store.prefetch()
    store.write(index, part)
    others = [0, 2, 3, 5]
    assert torch.equal(store.read()[:, others], before[:, others])
    torch.testing.assert_close(store.read()[:, index], part, rtol=1 / 16, atol=1e-3)
    store.release()
    exact = kind != "float8"
    assert torch.equal(store.read()[:, index], part) is exact
    assert store.bytes == (2 * 6 * 8 * 4 if exact else 2 * 6 * (8 + 4))


@pytest.mark.parametrize("shallow", SHALLOWS)
def test_in_the_hosts_memory_the_result_is_the_same(shallow):
    config = HeroConfig(shallow=shallow, interval=3)
    plain, _ = run(config)
    kept, session = run(replace(config, storage="host"))
    assert torch.equal(kept, plain)
    assert "on the host" in session.report.summary() and session.cached_bytes == 0


@pytest.mark.parametrize("shallow", SHALLOWS)
def test_in_float8_the_result_is_near_and_its_bytes_are_those_predicted(shallow):
    config = HeroConfig(shallow=shallow, storage="float8")
    result, session = run(config, batch=2)
    plain, model_session = run(replace(config, storage="model"), batch=2)
    assert 0 < relative(result, plain) < 0.02
    report, usual = session.report, model_session.report
    assert report.bytes_cached == predict(config, report.shape, STEPS, 2, 4).cached_bytes
    assert report.bytes_cached < 0.28 * usual.bytes_cached  # of float32: a quarter, and the scales
    assert "in float8" in report.summary()


def test_predicted_bytes_at_aethers_size():
    paper = HeroConfig.preset("paper")
    gigabytes = {
        storage: predict(replace(paper, storage=storage), AETHER, 50, 2).cached_bytes / 1e9
        for storage in STORES
    }
    assert gigabytes["model"] == gigabytes["host"] == pytest.approx(0.547, abs=1e-3)
    assert gigabytes["float8"] == pytest.approx(gigabytes["model"] / 2, rel=1e-3)


def test_unknown_storage_and_missing_float8_are_named(monkeypatch):
    with pytest.raises(ConfigError, match="^storage: 'disk' is not one of 'model', 'float8', 'host'"):
        HeroConfig(storage="disk")
    for kind in STORES:
        check_storage(kind, torch.device("cpu"))

    def missing(tensor, dtype):
        raise TypeError("no such dtype on this device")

    monkeypatch.setattr(torch.Tensor, "to", missing)
    check_storage("host", torch.device("cpu"))
    with pytest.raises(ConfigError, match="^storage: 'float8' is not possible on cpu; use 'model' or 'host'"):
        check_storage("float8", torch.device("cpu"))


@pytest.mark.parametrize("storage", STORES)
def test_every_part_of_a_branch_uses_the_store_asked_for(storage):
    cache = BranchCache("forecast", storage=storage)
    held = [value for part in (cache.shallow, cache.deep) for value in vars(part).values()]
    assert [type(store) for store in held if isinstance(store, Store)] == 4 * [STORES[storage]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory and streams need CUDA")
def test_on_a_gpu_the_host_gives_back_what_it_got():
    device = torch.device("cuda")
    store = HostStore()
    for number in range(20):
        tensor = torch.randn(2, 4096, 512, device=device)
        expected = tensor.clone()
        store.put(tensor)
        tensor.zero_()  # the copy was in line before
        store.prefetch()
        index = torch.randperm(4096, device=device)[:100]
        part = torch.full((2, 100, 512), float(number), device=device)
        store.write(index, part)
        store.release()
        expected.index_copy_(1, index, part)
        assert torch.equal(store.read(), expected)
        assert store._kept.is_pinned() and not store._kept.is_cuda
        store.release()


class Memory:
    """Raises OutOfMemoryError in block 1 of chosen forwards; sees how many caches are alive then."""

    def __init__(self, *forwards, times=1):
        self.left = dict.fromkeys(forwards, times)
        self._before = self._alive()  # those that errors of other tests still hold
        self.caches: list[int] = []
        self._forward, self._attempts = -1, 0
        self._hooks = [
            MODEL.register_forward_pre_hook(self._count),
            MODEL.transformer_blocks[1].register_forward_pre_hook(self._fail),
        ]

    @staticmethod
    def _alive():
        gc.collect()
        return sum(type(thing) is BranchCache for thing in gc.get_objects())

    def _count(self, *_):
        if self._attempts == 1:  # the second attempt at a forward that failed
            self._attempts = 2
        else:
            self._forward, self._attempts = self._forward + 1, 0

    def _fail(self, *_):
        if self._forward not in self.left:
            return
        self.caches.append(self._alive() - self._before)
        if self.left[self._forward]:
            self.left[self._forward] -= 1
            self._attempts += 1
            raise torch.OutOfMemoryError("injected")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


def test_out_of_memory_frees_the_caches_and_the_step_is_finished_without(caplog):
    with Memory(5) as memory, hero_session(MODEL, HeroConfig(), STEPS) as session:
        result = denoise(MODEL, steps=STEPS)
    report = session.report
    assert [record.reason.value for record in report.records] == [
        *["warm-up"] * 4,
        "cached",
        "out of memory",
        "nothing cached",  # a full step again, from which the caches grow anew
        "interval",
    ]
    assert memory.caches == [1, 0]  # at the failure, and at the second attempt
    assert report.memory_failures == 1 and report.to_dict()["memory_failures"] == 1
    assert "Memory ran out" in report.summary() and "out of memory" in caplog.text
    assert relative(result, denoise(MODEL, steps=STEPS)) < 0.05


@pytest.mark.slow
def test_a_step_without_the_caches_is_the_models_own():
    with Memory(1, 2), hero_session(MODEL, HeroConfig(warmup=STEPS), STEPS) as session:
        result = denoise(MODEL, steps=STEPS)
    assert torch.equal(result, denoise(MODEL, steps=STEPS))
    reasons = [record.reason.value for record in session.report.records]
    # The second failure ended caching.
    assert reasons == ["warm-up", *["out of memory"] * (STEPS - 1)]


def test_memory_that_does_not_do_without_caches_either_is_the_callers():
    with Memory(5, times=2) as memory, hero_session(MODEL, HeroConfig(), STEPS) as session:
        with pytest.raises(torch.OutOfMemoryError, match="injected"):
            denoise(MODEL, steps=STEPS)
        assert session.cached_bytes == 0
        assert memory.caches == [1, 0]
        result = denoise(MODEL, steps=STEPS)  # the next pass is as ever
    assert session.report.memory_failures == 0
    assert torch.equal(result, run(HeroConfig())[0])


@pytest.mark.slow
def test_all_branches_are_freed():
    with Memory(11) as memory, hero_session(MODEL, HeroConfig(), STEPS) as session:
        denoise(MODEL, steps=STEPS, batch=2, separate=True)
    assert memory.caches == [2, 0]
    names = [(str(r.branch), r.reason.value) for r in session.report.records][11:14]
    assert names == [
        ("call 2", "out of memory"),
        ("call 1", "nothing cached"),
        ("call 2", "nothing cached"),
    ]


def test_the_failed_attempt_is_not_kept_alive():
    kept = []

    def remember(block, args, kwargs):
        kept.append(weakref.ref(kwargs["hidden_states"]))

    def look_back(*_):
        if kept:
            kept.append(kept[0]())

    first = MODEL.transformer_blocks[1].register_forward_pre_hook(remember, with_kwargs=True)
    gc.disable()
    try:
        with Memory(0), hero_session(MODEL, HeroConfig(), STEPS):
            second = MODEL.transformer_blocks[0].register_forward_pre_hook(look_back)
            denoise(MODEL, steps=1)
            second.remove()
    finally:
        gc.enable()
        first.remove()
    # The second attempt began with block 0, and by then block 1's input of the first one was gone.
    assert kept[1] is None
