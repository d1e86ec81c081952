"""`tracejit.optimizers.schedules`: learning rates as functions of the number of updates, under Keras's names."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tracejit.errors import ArgumentError, locate
from tracejit.ir.types import float32
from tracejit.ops import elementwise as E
from tracejit.tensor import Tensor, convert


class LearningRateSchedule(ABC):
    """A learning rate that follows from the number of the step: a class of its own overrides `__call__(step)`."""

    @abstractmethod
    def __call__(self, step: Any) -> Any:
        """The rate of the update with this number; the first one is 0."""


def _number(x: Any) -> Tensor:
    return E.cast(convert(x), dtype=float32)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise locate(ArgumentError(message))


def _require_steps(steps: Any, name: str = "decay_steps") -> None:
    _require(steps > 0, f"{name} is a number above 0, not {steps!r}")


class _Fractional(LearningRateSchedule):
    """Decay by the part of `decay_steps` that is over, with `staircase` only by whole ones."""

    def __init__(
        self, initial_learning_rate: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False,
        name: str | None = None,
    ) -> None:  # fmt: skip
        _require_steps(decay_steps)
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name or type(self).__name__

    def _over(self, step: Any) -> Tensor:
        p = _number(step) / _number(self.decay_steps)
        return E.floor(p) if self.staircase else p


class ExponentialDecay(_Fractional):
    """initial_learning_rate * decay_rate ^ (step / decay_steps); with `staircase` the quotient is rounded down."""

    def __call__(self, step: Any) -> Tensor:
        return self.initial_learning_rate * E.pow_(_number(self.decay_rate), self._over(step))


class InverseTimeDecay(_Fractional):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps); with `staircase` the quotient is rounded down."""

    def __call__(self, step: Any) -> Tensor:
        return _number(self.initial_learning_rate) / (self.decay_rate * self._over(step) + 1.0)


class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[i]` up to and with the step `boundaries[i]`, the last value after all of them."""

    def __init__(self, boundaries: Sequence[Any], values: Sequence[Any], name: str = "PiecewiseConstant") -> None:
        _require(
            len(boundaries) == len(values) - 1,
            f"there is one value more than boundaries, not {len(values)} for {len(boundaries)} boundaries",
        )
        self.boundaries, self.values, self.name = tuple(boundaries), tuple(values), name

    def __call__(self, step: Any) -> Tensor:
        step = convert(step)
        rate = _number(self.values[-1])
        for b, value in zip(self.boundaries[::-1], self.values[-2::-1], strict=True):
            rate = E.where(E.less_equal(step, E.cast(convert(b), dtype=step.dtype)), _number(value), rate)
        return rate


class PolynomialDecay(LearningRateSchedule):
    """From initial_learning_rate to end_learning_rate as (1 - step / decay_steps) ^ power, which then stays there.

    With `cycle` it begins anew from there, with as many times `decay_steps` as have begun.
    """

    def __init__(
        self, initial_learning_rate: Any, decay_steps: Any, end_learning_rate: Any = 0.0001, power: Any = 1.0,
        cycle: bool = False, name: str = "PolynomialDecay",
    ) -> None:  # fmt: skip
        _require_steps(decay_steps)
        self.initial_learning_rate, self.decay_steps, self.power = initial_learning_rate, decay_steps, power
        self.end_learning_rate, self.cycle, self.name = end_learning_rate, cycle, name

    def __call__(self, step: Any) -> Tensor:
        n, steps = _number(step), _number(self.decay_steps)
        if self.cycle:
            steps = steps * E.where(E.equal(n, 0.0), 1.0, E.ceil(n / steps))
        else:
            n = E.minimum(n, steps)
        end = _number(self.end_learning_rate)
        return (self.initial_learning_rate - end) * E.pow_(1.0 - n / steps, _number(self.power)) + end


class CosineDecay(LearningRateSchedule):
    """Half a cosine from initial_learning_rate to alpha times it (Loshchilov & Hutter 2017, without restarts).

    With `warmup_target` the rate goes from initial_learning_rate to that in `warmup_steps`, and decays from there.
    """

    def __init__(
        self, initial_learning_rate: Any, decay_steps: Any, alpha: Any = 0.0, name: str = "CosineDecay",
        warmup_target: Any = None, warmup_steps: Any = 0,
    ) -> None:  # fmt: skip
        _require_steps(decay_steps)
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.name, self.warmup_target, self.warmup_steps = name, warmup_target, warmup_steps

    def _decayed(self, n: Tensor, start: Any) -> Tensor:
        falling = 0.5 * (1.0 + E.cos(math.pi * (n / _number(self.decay_steps))))
        return start * ((1.0 - self.alpha) * falling + self.alpha)

    def __call__(self, step: Any) -> Tensor:
        n, steps = _number(step), _number(self.decay_steps)
        if self.warmup_target is None:
            return self._decayed(E.minimum(n, steps), self.initial_learning_rate)
        warm = _number(self.warmup_steps)
        n = E.minimum(n, steps + warm)
        rising = (self.warmup_target - self.initial_learning_rate) * (n / E.maximum(warm, 1e-30))
        rising = rising + self.initial_learning_rate
        return E.where(E.less(n, warm), rising, self._decayed(n - warm, self.warmup_target))


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosines one after another, each `t_mul` times as long and `m_mul` times as high as the one before it
    (Loshchilov & Hutter 2017, SGDR).
    """

    def __init__(
        self, initial_learning_rate: Any, first_decay_steps: Any, t_mul: Any = 2.0, m_mul: Any = 1.0, alpha: Any = 0.0,
        name: str = "SGDRDecay",
    ) -> None:  # fmt: skip
        _require_steps(first_decay_steps, "first_decay_steps")
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: Any) -> Tensor:
        over = _number(step) / _number(self.first_decay_steps)
        t_mul = _number(self.t_mul)
        single = E.equal(t_mul, 1.0)
        ratio = E.where(single, 2.0, t_mul)  # any other than 1, by the powers of which is not divided
        grown = E.floor(E.log(1.0 - over * (1.0 - ratio)) / E.log(ratio))
        restarts = E.where(single, E.floor(over), grown)
        length = E.pow_(ratio, restarts)
        inside = E.where(single, over - restarts, (over - (1.0 - length) / (1.0 - ratio)) / length)
        falling = 0.5 * E.pow_(_number(self.m_mul), restarts) * (1.0 + E.cos(math.pi * inside))
        return self.initial_learning_rate * ((1.0 - self.alpha) * falling + self.alpha)


__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "LearningRateSchedule",
    "PiecewiseConstantDecay", "PolynomialDecay",
]  # fmt: skip
