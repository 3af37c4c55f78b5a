import math
import random

from hero_engine.schedule import Reason, Schedule


def run(interval, warmup, threshold, rates):
    """Reasons of one step per rate; step i is decided on the rate measured at step i - 1."""
    schedule = Schedule(interval, warmup, threshold)
    return [schedule.next(rates[i - 1] if i else math.nan) for i in range(len(rates))]


def test_fixed_interval_pattern():
    pattern = [reason.full for reason in run(3, 2, 0.0, [0.0] * 9)]
    assert pattern == [True, True, False, False, True, False, False, True, False]


def test_interval_one_is_all_full():
    assert all(reason.full for reason in run(1, 1, 0.0, [0.0] * 20))


def test_a_cool_down_is_full_whatever_the_interval():
    schedule = Schedule(3, 2, end=7)
    reasons = [schedule.next() for _ in range(10)]
    assert [reason.full for reason in reasons] == [True, True, False, False, True, False, False] + [True] * 3
    assert reasons[7:] == [Reason.COOLDOWN] * 3
    adaptive = Schedule(100, 1, 1e6, end=8)
    assert [adaptive.next(0.0).full for _ in range(10)] == [True] + [False] * 7 + [True] * 2


def test_drift_ends_a_cached_stretch_before_the_interval():
    reasons = run(10, 2, 0.35, [0.1] * 12)
    # Two cached steps carry 0.1 + 0.1 and then 0.2 + 0.1; the third would carry 0.3 + 0.1.
    assert reasons[2:6] == [Reason.CACHED, Reason.CACHED, Reason.CACHED, Reason.THRESHOLD]


def test_the_interval_stays_the_upper_bound():
    reasons = run(4, 1, 1e6, [0.0] * 13)
    assert [i for i, reason in enumerate(reasons) if reason.full] == [0, 4, 8, 12]
    assert reasons[4] is Reason.INTERVAL


def test_nan_and_unknown_drift_compute():
    assert all(reason.full for reason in run(5, 1, 0.5, [math.nan] * 10))
    reasons = run(5, 1, 0.5, [0.0, math.nan, 0.0, 0.0, 0.0])
    assert reasons[1] is Reason.CACHED and reasons[2] is Reason.THRESHOLD and reasons[3] is Reason.CACHED


def test_a_smaller_threshold_never_gives_fewer_full_steps():
    rng = random.Random(0)
    for _ in range(3000):
        rates = [rng.choice([0.0, rng.random() ** 3, rng.expovariate(5)]) for _ in range(rng.randint(5, 60))]
        interval, warmup = rng.randint(1, 8), rng.randint(1, 6)
        low, high = sorted((rng.random(), rng.random()))
        full = [sum(r.full for r in run(interval, warmup, t, rates)) for t in (low + 1e-9, high + 2e-9, 0.0)]
        assert full[0] >= full[1] >= full[2], (interval, warmup, low, high, rates)
