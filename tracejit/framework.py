"""What programs ask of their surroundings under TensorFlow's names: scopes, groups, values that are known already."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autodiff.transforms import custom_gradient
from tracejit.context import context
from tracejit.errors import ArgumentError, locate
from tracejit.ir.graph import Value
from tracejit.ops import elementwise as E
from tracejit.ops.args import known, listed, operand
from tracejit.tensor import Operand, Tensor, Variable


def executing_eagerly() -> bool:
    """Whether operations are computed at once: False while a function is traced."""
    return context.trace is None


def inside_function() -> bool:
    """Whether a function is traced."""
    return context.trace is not None


def is_symbolic_tensor(x: Any) -> bool:
    """Whether this is a tensor of a trace, which has no value yet."""
    return isinstance(x, Operand) and type(x._a) is Value


def get_static_value(tensor: Any, partial: bool = False) -> np.ndarray | None:
    """The value of a tensor as an array if it is known already, None if only the program will know it."""
    x = operand(tensor)
    if isinstance(x, Variable):
        return None if context.trace is not None else x.numpy()
    if type(x._a) is not Value:
        return x.numpy()
    values = known(x._a)
    if values is None or any(not isinstance(v, int) for v in values.reshape(-1).tolist()):
        return None
    return values.astype(x.dtype.np)


# --- order and place, which need no saying here -----------------------------------------------------------------------
def no_op(name: str | None = None) -> None:
    """Nothing."""


def group(*inputs: Any, name: str | None = None) -> None:
    """Nothing: operations take effect in the order in which they are written."""


def tuple(tensors: Any, control_inputs: Any = None, name: str | None = None) -> list[Tensor | None]:
    """The same tensors as a list."""
    return [None if x is None else E.identity(x) for x in listed(tensors, "tensors")]


@contextmanager
def control_dependencies(control_inputs: Any) -> Iterator[None]:
    """A block like any other: operations take effect in the order in which they are written."""
    yield


@contextmanager
def device(device_name: Any) -> Iterator[None]:
    """A block like any other, for a CPU. Raises `ArgumentError` for devices of another kind."""
    kind = str(device_name or "CPU").upper().replace("DEVICE:", "").rsplit("/", 1)[-1].split(":")[0]
    if kind != "CPU":
        raise locate(ArgumentError(f"there are only CPUs, no {device_name!r}"))
    yield


class name_scope:
    """A block whose operations have a common name: `with tj.name_scope("layer") as scope`. Graphs do not show it."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def __enter__(self) -> str:
        return f"{self._name}/" if self._name else ""

    def __exit__(self, *error: object) -> None:
        return None


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` with the gradient of the identity: `g(x)` is `f(x)`, and upstream gradients pass as they are."""

    @custom_gradient
    def passing(*args: Any) -> builtins.tuple[Any, Callable[..., Any]]:
        def grad(*upstream: Any, variables: Sequence[Variable] | None = None) -> Any:
            given = upstream[0] if len(upstream) == 1 else list(upstream)
            return given if variables is None else (given, [None] * len(variables))

        return f(*args), grad

    return passing


__all__ = [
    "control_dependencies", "device", "executing_eagerly", "get_static_value", "grad_pass_through", "group",
    "inside_function", "is_symbolic_tensor", "name_scope", "no_op", "tuple",
]  # fmt: skip
