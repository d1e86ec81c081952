"""Gradient descent with momentum, and rules that scale each element by the gradients that it has had."""

from __future__ import annotations

from typing import Any, Unpack

from tracejit.ops import elementwise as E
from tracejit.ops.math import clip_by_value
from tracejit.optimizers.base import Optimizer, Options, _require
from tracejit.optimizers.moments import like, squared
from tracejit.slices import IndexedSlices
from tracejit.tensor import Tensor, Variable


class SGD(Optimizer):
    """Gradient descent: w -= learning_rate * g, or with momentum (Polyak 1964; Sutskever et al. 2013)

    m = momentum * m - learning_rate * g, then w += m, with `nesterov` w += momentum * m - learning_rate * g.
    """

    settings = ("momentum", "nesterov")

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False,
        weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        _require(0 <= momentum <= 1, f"momentum lies between 0 and 1, not {momentum!r}")
        super().__init__(learning_rate, weight_decay, **options)
        self.momentum, self.nesterov = momentum, nesterov

    @property
    def sparse(self) -> bool:  # type: ignore[override]
        return not self.momentum

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        if isinstance(gradient, IndexedSlices):
            rows = E.cast(gradient.values * learning_rate, dtype=variable.dtype)
            variable.scatter_sub(IndexedSlices(rows, gradient.indices, gradient.dense_shape))
            return
        w, down = E.cast(variable, dtype=gradient.dtype), gradient * learning_rate
        if self.momentum:
            m = self.slot(variable, "momentum")
            m.assign(m * self.momentum - down)
            self.assign(variable, w + m * self.momentum - down if self.nesterov else w + m)
        else:
            self.assign(variable, w - down)


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square (Tieleman & Hinton 2012); `centered` by their deviation.

    v = rho * v + (1 - rho) * g², then w -= learning_rate * g / √(v + epsilon), with momentum along the sum of these
    that fades.
    """

    settings = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self, learning_rate: Any = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7,
        centered: bool = False, weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay, **options)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slots(self) -> dict[str, float]:
        more = {"momentum": self.momentum > 0, "average_gradient": self.centered}
        return {"velocity": 0.0, **{name: 0.0 for name, there in more.items() if there}}

    def real_slots(self) -> tuple[str, ...]:
        return ("velocity",)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, v, rho = gradient, self.slot(variable, "velocity"), self.rho
        v.assign(rho * v + (1.0 - rho) * squared(g))
        size: Any = v
        if self.centered:
            mean = self.slot(variable, "average_gradient")
            mean.assign(rho * mean + (1.0 - rho) * g)
            size = v - squared(E.identity(mean))
        down = learning_rate * g / like(E.sqrt(size + self.epsilon), g)
        if self.momentum > 0:
            m = self.slot(variable, "momentum")
            down = m.assign(self.momentum * m + down)
        self.assign(variable, E.cast(variable, dtype=g.dtype) - down)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all squares so far (Duchi, Hazan & Singer 2011).

    a += g², w -= learning_rate * g / √(a + epsilon).
    """

    settings = ("initial_accumulator_value", "epsilon")

    def __init__(
        self, learning_rate: Any = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7,
        weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay, **options)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def real_slots(self) -> tuple[str, ...]:
        return ("accumulator",)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, a = gradient, self.slot(variable, "accumulator")
        a.assign_add(squared(g))
        down = learning_rate * g / like(E.sqrt(a + self.epsilon), g)
        self.assign(variable, E.cast(variable, dtype=g.dtype) - down)


class Adadelta(Optimizer):
    """Steps of the root mean square size of earlier ones (Zeiler 2012).

    a = rho * a + (1 - rho) * g², s = -√(d + epsilon) / √(a + epsilon) * g, d = rho * d + (1 - rho) * s²,
    w += learning_rate * s.
    """

    settings = ("rho", "epsilon")

    def __init__(
        self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7,
        weight_decay: float | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(learning_rate, weight_decay, **options)
        self.rho, self.epsilon = rho, epsilon

    def slots(self) -> dict[str, float]:
        return {"accumulated_grad": 0.0, "accumulated_delta_var": 0.0}

    def real_slots(self) -> tuple[str, ...]:
        return "accumulated_grad", "accumulated_delta_var"

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        g, rho = gradient, self.rho
        a, d = self.slot(variable, "accumulated_grad"), self.slot(variable, "accumulated_delta_var")
        a.assign(rho * a + (1.0 - rho) * squared(g))
        step = like(E.sqrt(d + self.epsilon), g) * g / like(E.sqrt(a + self.epsilon), g)
        d.assign(rho * d + (1.0 - rho) * squared(step))
        self.assign(variable, E.cast(variable, dtype=g.dtype) - learning_rate * step)


class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al. 2013), with the shrinkage of Wide & Deep (Cheng et al. 2016).

    With p = -learning_rate_power and a' = a + g²: z += g + 2 * shrinkage * w - (a'^p - a^p) / learning_rate * w,
    w = (clip(z, -l1, l1) - z) / (a'^p / learning_rate + 2 * l2 + beta / learning_rate), a = a'. Real Variables only.
    """

    settings = (
        "learning_rate_power", "initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
        "l2_shrinkage_regularization_strength", "beta",
    )  # fmt: skip

    def __init__(
        self, learning_rate: Any = 0.001, learning_rate_power: float = -0.5, initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0, weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        _require(learning_rate_power <= 0, f"learning_rate_power is at most 0, not {learning_rate_power!r}")
        super().__init__(learning_rate, weight_decay, **options)
        self.learning_rate_power, self.initial_accumulator_value = learning_rate_power, initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength, self.beta = l2_shrinkage_regularization_strength, beta
        for name in ("initial_accumulator_value", *self.settings[2:5]):
            _require(getattr(self, name) >= 0, f"{name} is at least 0, not {getattr(self, name)!r}")

    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        _require(gradient.dtype.kind == "f", f"Ftrl is for real Variables, not {variable.dtype.name}")
        g, w, p = gradient, E.cast(variable, dtype=gradient.dtype), -self.learning_rate_power
        a, z = self.slot(variable, "accumulator"), self.slot(variable, "linear")
        l1, l2 = self.l1_regularization_strength, self.l2_regularization_strength
        total = a + E.square(g)
        power, before = E.pow_(total, p), E.pow_(a, p)
        pull = g + 2.0 * self.l2_shrinkage_regularization_strength * w
        z.assign_add(pull - (power - before) / learning_rate * w)
        curve = power / learning_rate + 2.0 * (l2 + self.beta / (2.0 * learning_rate))
        self.assign(variable, (clip_by_value(z, -l1, l1) - z) / curve)
        a.assign(total)


__all__ = ["SGD", "Adadelta", "Adagrad", "Ftrl", "RMSprop"]
