"""Optimizers that divide by a running size of the gradient: Adam and its kin, and Lion, which takes its sign."""

from __future__ import annotations

from typing import Any, Unpack

from tracejit.ir.types import DType, as_dtype, float32
from tracejit.ops import elementwise as E
from tracejit.optimizers.base import Optimizer, Options, _require
from tracejit.tensor import Tensor, Variable


def squared(g: Tensor) -> Tensor:
    """|g|²: the second moments of complex gradients are real."""
    return E.square(E.real(g)) + E.square(E.imag(g)) if g.dtype.kind == "c" else E.square(g)


def direction(g: Tensor) -> Tensor:
    """The sign; of a complex number the number of size 1 with its angle, or 0."""
    if g.dtype.kind != "c":
        return E.sign(g)
    s = E.abs_(g)
    return g / E.cast(E.where(E.equal(s, 0), 1.0, s), dtype=g.dtype)


def like(x: Tensor, g: Tensor) -> Tensor:
    """Real numbers in the type of the gradient."""
    return E.cast(x, dtype=g.dtype)


def real_of(d: DType) -> DType:
    return as_dtype(f"float{d.bits // 2}") if d.kind == "c" else d


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015), with `amsgrad` those of Reddi, Kale & Kumar 2018.

    m += (1 - beta_1) * (g - m), v += (1 - beta_2) * (g² - v),
    w -= learning_rate * √(1 - beta_2^t) / (1 - beta_1^t) * m / (√v + epsilon), with `amsgrad` the largest v so far.
    """

    settings = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        amsgrad: bool = False, weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0, **({"velocity_hat": 0.0} if self.amsgrad else {})}

    def real_slots(self) -> tuple[str, ...]:
        return "velocity", "velocity_hat"

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, m, v = gradient, self.slot(variable, "momentum"), self.slot(variable, "velocity")
        d = real_of(g.dtype)
        step = E.cast(self.iterations + 1, dtype=d)
        rate = E.cast(learning_rate, dtype=d) * E.sqrt(1.0 - E.pow_(self.beta_2, step))
        rate = rate / (1.0 - E.pow_(self.beta_1, step))
        m.assign_add((g - m) * (1.0 - self.beta_1))
        v.assign_add((squared(g) - v) * (1.0 - self.beta_2))
        if self.amsgrad:
            largest = self.slot(variable, "velocity_hat")
            v = largest.assign(E.maximum(largest, v))
        self.assign(variable, E.cast(variable, dtype=g.dtype) - m * like(rate, g) / like(E.sqrt(v) + self.epsilon, g))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    def __init__(
        self, learning_rate: Any = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-7, amsgrad: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        _require(weight_decay is not None, "weight_decay is a number, not None")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, **options)


class Adamax(Optimizer):
    """Adam with the largest gradient, which fades, in the place of the second moment (Kingma & Ba 2015, section 7).

    m += (1 - beta_1) * (g - m), u = max(beta_2 * u, |g|), w -= learning_rate / (1 - beta_1^t) * m / (u + epsilon).
    """

    settings = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "norm": 0.0}

    def real_slots(self) -> tuple[str, ...]:
        return ("norm",)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, m, u = gradient, self.slot(variable, "momentum"), self.slot(variable, "norm")
        step = E.cast(self.iterations + 1, dtype=real_of(g.dtype))
        correction = 1.0 - E.pow_(self.beta_1, step)
        m.assign_add((g - m) * (1.0 - self.beta_1))
        u.assign(E.maximum(self.beta_2 * u, E.abs_(g)))
        down = learning_rate * m / like(correction * (u + self.epsilon), g)
        self.assign(variable, E.cast(variable, dtype=g.dtype) - down)


class Nadam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016), whose momentum grows with the steps: beta_1 * (1 - 0.96^t / 2)."""

    settings = ("beta_1", "beta_2", "epsilon")

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self._product = self.add_variable((), 1.0, float32, "momentum_product")

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def real_slots(self) -> tuple[str, ...]:
        return ("velocity",)

    def _momentum(self, step: Any) -> Tensor:
        return self.beta_1 * (1.0 - 0.5 * E.pow_(0.96, step))

    def _update(self, pairs: list[Any]) -> None:
        self._product.assign(self._product * self._momentum(E.cast(self.iterations + 1, dtype=float32)))
        super()._update(pairs)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, m, v = gradient, self.slot(variable, "momentum"), self.slot(variable, "velocity")
        d = real_of(g.dtype)
        step = E.cast(self.iterations + 1, dtype=d)
        now, ahead = self._momentum(step), self._momentum(step + 1.0)
        product = E.cast(self._product, dtype=d)
        m.assign_add((g - m) * (1.0 - self.beta_1))
        v.assign_add((squared(g) - v) * (1.0 - self.beta_2))
        estimate = like(ahead / (1.0 - product * ahead), g) * m + like((1.0 - now) / (1.0 - product), g) * g
        scale = E.sqrt(v / (1.0 - E.pow_(self.beta_2, step))) + self.epsilon
        self.assign(variable, E.cast(variable, dtype=g.dtype) - estimate * learning_rate / like(scale, g))


class Lion(Optimizer):
    """Steps of one size along the sign of the momentum (Chen et al. 2023).

    w -= learning_rate * sign(beta_1 * m + (1 - beta_1) * g), then m = beta_2 * m + (1 - beta_2) * g.
    """

    settings = ("beta_1", "beta_2")

    def __init__(
        self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99,
        weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        _require(0 < beta_1 <= 1, f"beta_1 lies above 0 and up to 1, not {beta_1!r}")
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1, self.beta_2 = beta_1, beta_2

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, m = gradient, self.slot(variable, "momentum")
        along = direction(m * self.beta_1 + g * (1.0 - self.beta_1))
        self.assign(variable, E.cast(variable, dtype=g.dtype) - learning_rate * along)
        m.assign(m * self.beta_2 + g * (1.0 - self.beta_2))


__all__ = ["Adam", "AdamW", "Adamax", "Lion", "Nadam", "direction", "like", "real_of", "squared"]
