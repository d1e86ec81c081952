"""Losses that are scaled up so that no gradient of 16 bits becomes 0, as far as none overflows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracejit.context import context, reading
from tracejit.errors import ArgumentError, is_internal, locate
from tracejit.ir.types import float32, int64
from tracejit.ops import elementwise as E
from tracejit.ops.flow import cond
from tracejit.ops.reductions import reduce_all
from tracejit.optimizers.base import Gradient, Optimizer, _require, _variables, computed_in
from tracejit.slices import IndexedSlices
from tracejit.tensor import Operand, Tensor, Variable, convert

Step = Callable[[], None]


class LossScaleOptimizer(Optimizer):
    """Another optimizer for gradients of a scaled loss (Micikevicius et al. 2018).

    Parameters
    ----------
    inner_optimizer : what updates the Variables, with gradients that are divided by the scale
    initial_scale : the scale of the loss at first; better too large than too small
    dynamic_growth_steps : after so many steps with finite gradients the scale is doubled
    dynamic : only True; a scale that stays is the inner optimizer's `loss_scale_factor`

    A step whose gradients are not all finite changes no Variable and no state of the inner optimizer, and halves the
    scale. In a traced function that is decided when it runs.

        scaled = optimizer.scale_loss(loss)
        optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables))

    `get_unscaled_gradients` gives the gradients themselves, to be clipped or logged; the next `apply` then takes
    gradients without the scale.
    """

    settings = ("dynamic_growth_steps",)

    def __init__(
        self, inner_optimizer: Optimizer, initial_scale: float = 2.0**15, dynamic_growth_steps: int = 2000,
        name: str | None = None, dynamic: bool = True,
    ) -> None:  # fmt: skip
        kind = type(inner_optimizer).__name__
        _require(isinstance(inner_optimizer, Optimizer), f"inner_optimizer is an optimizer, not {kind}")
        _require(not isinstance(inner_optimizer, LossScaleOptimizer), "inner_optimizer scales losses already")
        if not dynamic:
            raise locate(
                ArgumentError("the scale is dynamic", remedy="give the inner optimizer a loss_scale_factor instead")
            )
        _require(initial_scale > 0, f"initial_scale is a number above 0, not {initial_scale!r}")
        _require(dynamic_growth_steps >= 1, f"dynamic_growth_steps is at least 1, not {dynamic_growth_steps!r}")
        self.inner_optimizer = inner_optimizer
        inner_optimizer.loss_scale_factor = None  # or gradients would be divided twice
        super().__init__(0.0, name=name)
        self._own.clear()  # the inner optimizer counts, and has the rate
        self.initial_scale, self.dynamic_growth_steps = float(initial_scale), dynamic_growth_steps
        self.step_counter = self.add_variable((), dtype=int64, name="step_counter")
        self.dynamic_scale = self.add_variable((), initial_scale, float32, "dynamic_scale")
        self._unscaled_already = False

    # --- state --------------------------------------------------------------------------------------------------------
    @property
    def iterations(self) -> Variable:
        """How many updates there have been, without those that were skipped."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """That of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        if self.built or hasattr(self, "dynamic_scale"):
            self.inner_optimizer.learning_rate = rate

    @property
    def loss_scale(self) -> Variable:
        """What the loss is multiplied by now."""
        return self.dynamic_scale

    def build(self, variables: Iterable[Variable]) -> None:
        """Make the state of Variables that have none."""
        self.inner_optimizer.build(variables)
        self.built = True

    def _named(self) -> dict[str, Variable]:
        return self._own | self.inner_optimizer._named()

    # --- scaling ------------------------------------------------------------------------------------------------------
    def scale_loss(self, loss: Any) -> Tensor:
        """The loss times the scale: what gradients are to be taken of."""
        with reading(None):  # 16 bits may not hold it
            return E.mul(loss, self.dynamic_scale)

    get_scaled_loss = scale_loss

    def get_unscaled_gradients(self, grads: Iterable[Gradient]) -> list[Gradient]:
        """Gradients of the scaled loss divided by the scale. The next `apply` takes gradients of that kind."""
        self._unscaled_already = True
        return self._divided(list(grads))

    def _divided(self, grads: Sequence[Gradient]) -> list[Gradient]:
        with reading(None):
            return [None if g is None else _over(g, self.dynamic_scale) for g in grads]

    # --- a step -------------------------------------------------------------------------------------------------------
    def apply(self, grads: Iterable[Gradient], trainable_variables: Iterable[Variable] | None = None) -> None:
        """One update from gradients of the scaled loss, or none and a smaller scale where one is not finite."""
        given = list(grads)
        if not given:
            return
        inner = self.inner_optimizer
        variables = inner._slots.alive() if trainable_variables is None else _variables(trainable_variables)
        self._settings_read()
        unscaled, self._unscaled_already = self._unscaled_already, False
        if trainable_variables is not None:
            self.build(variables)

        def update() -> None:
            inner.apply(given if unscaled else self._divided(given), variables)
            grown = E.equal(self.step_counter, self.dynamic_growth_steps - 1)
            self.step_counter.assign(E.where(grown, 0, self.step_counter + 1))
            self.dynamic_scale.assign(E.where(grown, self.dynamic_scale * 2.0, self.dynamic_scale))

        def skip() -> None:
            self.step_counter.assign(0)
            self.dynamic_scale.assign(self.dynamic_scale * 0.5)

        with reading(None):
            finite = _all_finite(given)
            if context.trace is not None and self._only_state_changes():
                self._selected(finite, update, skip, variables)
            else:
                cond(finite, update, skip)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        """Change one Variable as the inner optimizer does, by a gradient without the scale."""
        self.inner_optimizer.update_step(gradient, variable, learning_rate)

    def _only_state_changes(self) -> bool:
        """Whether the update is known to change nothing but the Variables and the inner optimizer's state."""
        return is_internal(type(self.inner_optimizer).update_step.__code__.co_filename)

    def _selected(self, finite: Any, update: Step, skip: Step, variables: Sequence[Variable]) -> None:
        """Both, and what counts by selection: it is part of the loops that update in place, where a branch would need
        copies.
        """
        state = [*variables, *self.variables]
        before = [E.identity(v) for v in state]
        skip()
        skipped = [E.identity(v) for v in state]
        for v, x in zip(state, before, strict=True):
            v.assign(x)
        update()
        for v, x in zip(state, skipped, strict=True):
            v.assign(E.where(finite, v, x))


def _over(g: Gradient, scale: Variable) -> Gradient:
    if isinstance(g, IndexedSlices):
        return IndexedSlices(_over(g.values, scale), g.indices, g.dense_shape)
    g = g if isinstance(g, Operand) else convert(g)
    d = computed_in(g.dtype)
    return E.cast(g, dtype=d) / E.cast(scale, dtype=d)


def _all_finite(grads: Sequence[Gradient]) -> Any:
    """Whether all gradients are finite that there are."""
    parts = [g.values if isinstance(g, IndexedSlices) else convert(g) for g in grads if g is not None]
    flags = [reduce_all(E.isfinite(_parts(x))) for x in parts]
    return functools.reduce(E.logical_and, flags) if flags else True


def _parts(x: Operand) -> Operand:
    """Of complex numbers one that is finite where both parts are."""
    return E.real(x) * 0.0 + E.imag(x) * 0.0 if x.dtype.kind == "c" else x


__all__ = ["LossScaleOptimizer"]
