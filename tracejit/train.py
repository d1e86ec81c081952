"""`tracejit.train`: averages of Variables over the steps of training, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tracejit.context import reading, tracing
from tracejit.errors import ArgumentError, locate
from tracejit.identity import IdentityMap
from tracejit.ir.types import bool_, float32
from tracejit.ops import elementwise as E
from tracejit.tensor import Operand, Variable, convert


class ExponentialMovingAverage:
    """Averages of Variables in which older values fade: average -= (1 - decay) * (average - value).

    Parameters
    ----------
    decay : a number or tensor between 0 and 1, the larger the slower
    num_updates : a Variable or number n; if given, the decay is at most (1 + n) / (10 + n), so that early averages
        follow quickly
    zero_debias : taken for TensorFlow's sake; averages begin with the first value, so nothing is to be corrected
    name : part of the averages' names
    """

    def __init__(
        self, decay: Any, num_updates: Any = None, zero_debias: bool = False, name: str = "ExponentialMovingAverage"
    ) -> None:
        if not isinstance(decay, Operand) and not 0 <= decay <= 1:
            raise locate(ArgumentError(f"decay lies between 0 and 1, not {decay!r}"))
        self.decay, self.num_updates, self.name = decay, num_updates, name
        self._averages: IdentityMap[tuple[Variable, Variable]] = IdentityMap()  # and whether it has begun

    def apply(self, var_list: Iterable[Variable]) -> None:
        """Bring the averages of these Variables up to date; at its first time an average becomes the value."""
        variables = list(var_list)
        for v in variables:
            if not isinstance(v, Variable) or v.dtype.kind not in "fc":
                kind = f"{v.type}" if isinstance(v, Operand) else type(v).__name__
                raise locate(ArgumentError(f"an average is kept of floating Variables, not of {kind}"))
        decay = self._decay()
        with reading(None):
            for v in variables:
                average, begun = self._averages.get(v) or self._made(v)
                rate = E.cast(E.where(begun, 1.0 - decay, 1.0), dtype=v.dtype)
                average.assign_sub(rate * (average - v))
                begun.assign(True)

    def _decay(self) -> Any:
        if self.num_updates is None:
            return self.decay
        n = E.cast(convert(self.num_updates), dtype=float32)
        return E.minimum(self.decay, (1.0 + n) / (10.0 + n))

    def _made(self, v: Variable) -> tuple[Variable, Variable]:
        with tracing(None):  # state that is there before the trace at hand, if there is one
            made = Variable(np.zeros(tuple(v.shape), v.dtype.np), trainable=False, name=self.average_name(v))
            begun = Variable(np.zeros((), bool_.np), trainable=False, name=f"{self.name}/begun")
        self._averages.set(v, (made, begun))
        return made, begun

    def average(self, var: Variable) -> Variable | None:
        """The Variable that holds the average of another; None before `apply`."""
        found = self._averages.get(var)
        return None if found is None else found[0]

    def average_name(self, var: Variable) -> str:
        """What the average of a Variable is called."""
        return f"{var.name.removesuffix(':0')}/{self.name}"

    def variables_to_restore(self, moving_avg_variables: Iterable[Variable] | None = None) -> dict[str, Variable]:
        """Variables by the names under which their averages are kept."""
        given = self._averages.alive() if moving_avg_variables is None else moving_avg_variables
        return {self.average_name(v): v for v in given}


__all__ = ["ExponentialMovingAverage"]
