"""Learning rates as functions of the steps, and averages of Variables over them."""

import math

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError

O = tj.optimizers


def cosine(x):
    return 0.5 * (1 + math.cos(math.pi * x))


def restarts(n, first, t_mul, m_mul, alpha):
    length, height = first, 1.0
    while n >= length - 1e-9:
        n, length, height = n - length, length * t_mul, height * m_mul
    return 0.1 * ((1 - alpha) * height * cosine(n / length) + alpha)


S = O.schedules
SCHEDULES = {
    "exponential": (S.ExponentialDecay(0.1, 5, 0.9), lambda n: 0.1 * 0.9 ** (n / 5)),
    "stairs": (S.ExponentialDecay(0.1, 5, 0.9, staircase=True), lambda n: 0.1 * 0.9 ** (n // 5)),
    "inverse": (S.InverseTimeDecay(0.1, 5, 0.5), lambda n: 0.1 / (1 + 0.5 * n / 5)),
    "inverse stairs": (S.InverseTimeDecay(0.1, 5, 0.5, True), lambda n: 0.1 / (1 + 0.5 * (n // 5))),
    "pieces": (
        S.PiecewiseConstantDecay([3, 7], [0.1, 0.05, 0.01]), lambda n: 0.1 if n <= 3 else 0.05 if n <= 7 else 0.01
    ),
    "polynomial": (S.PolynomialDecay(0.1, 7, 0.01, 2.0), lambda n: 0.09 * (1 - min(n, 7) / 7) ** 2 + 0.01),
    "cycles": (
        S.PolynomialDecay(0.1, 7, 0.01, cycle=True), lambda n: 0.09 * (1 - n / (7 * max(math.ceil(n / 7), 1))) + 0.01
    ),
    "cosine": (S.CosineDecay(0.1, 12, alpha=0.1), lambda n: 0.1 * (0.9 * cosine(min(n, 12) / 12) + 0.1)),
    "warm-up": (
        S.CosineDecay(0.0, 12, warmup_target=0.2, warmup_steps=4),
        lambda n: 0.2 * n / 4 if n < 4 else 0.2 * cosine(min(n - 4, 12) / 12),
    ),
    "restarts": (S.CosineDecayRestarts(0.1, 4), lambda n: restarts(n, 4, 2.0, 1.0, 0.0)),
    "equal restarts": (S.CosineDecayRestarts(0.1, 4, 1.0, 0.8, 0.05), lambda n: restarts(n, 4, 1.0, 0.8, 0.05)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    schedule, want = SCHEDULES[name]
    traced = tj.function(lambda step: schedule(step))
    for n in range(25):
        for rate in (schedule(n), schedule(tj.constant(n, tj.int64)), traced(tj.constant(n, tj.int64))):
            assert rate.dtype is tj.float32
            assert float(rate) == pytest.approx(want(n), rel=2e-6, abs=1e-7)


def test_a_schedule_follows_the_steps_of_a_traced_function():
    v, optimizer = tj.Variable(0.0), O.SGD(S.ExponentialDecay(1.0, 1, 0.5))
    step = tj.function(lambda: optimizer.apply([tj.constant(-1.0)], [v]))
    for _ in range(4):
        step()
    assert float(v) == 1.875
    assert step.experimental_get_tracing_count() == 1


def test_schedules_of_ones_own_and_errors():
    class Line(S.LearningRateSchedule):
        def __call__(self, step):
            if step > 1:
                return tj.constant(0.0)
            return tj.cast(step, tj.float32)

    v, optimizer = tj.Variable(0.0), O.SGD(Line())
    step = tj.function(lambda: optimizer.apply([tj.constant(-1.0)], [v]))
    for _ in range(4):
        step()
    assert float(v) == 1.0
    for wrong in (lambda: S.CosineDecay(0.1, 0), lambda: S.PiecewiseConstantDecay([1], [0.1])):
        with pytest.raises(ArgumentError):
            wrong()


# --- moving averages --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("updates", [None, 3])
def test_moving_averages(updates):
    decay = 0.9 if updates is None else min(0.9, 4 / 13)

    def run(wrap):
        v, ema = tj.Variable([1.0, 2.0], name="v"), tj.train.ExponentialMovingAverage(0.9, num_updates=updates)
        assert ema.average(v) is None

        @wrap
        def step(x):
            v.assign(x)
            ema.apply([v])
            return ema.average(v) * 1.0

        return [step(tj.constant([k, -k])).numpy() for k in (3.0, 5.0, 4.0)], ema, v

    want = np.array([3.0, -3.0])
    wanted = [want]
    for k in (5.0, 4.0):
        wanted.append(want := want - (1 - decay) * (want - np.array([k, -k])))
    for wrap in (tj.function, lambda f: f):
        found, ema, v = run(wrap)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        np.testing.assert_allclose(ema.average(v).numpy(), wanted[-1], rtol=1e-6)
        assert not ema.average(v).trainable
        assert ema.average_name(v) == "v/ExponentialMovingAverage"
        assert ema.variables_to_restore() == {"v/ExponentialMovingAverage": v}


def test_moving_averages_of_what_has_none():
    for decay, what in ((2.0, [tj.Variable(1.0)]), (0.5, [tj.Variable(1)]), (0.5, [tj.constant(1.0)])):
        with pytest.raises(ArgumentError):
            tj.train.ExponentialMovingAverage(decay).apply(what)
