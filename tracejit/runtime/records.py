"""The records that make up a plan: its arguments, state, outputs, steps and result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from tracejit.runtime.record import record

Shape = tuple[int, ...]
_NONE: Mapping[str, Any] = MappingProxyType({})


# --- arguments and state ----------------------------------------------------------------------------------------
@record
class TensorArg:
    """A Tensor or ndarray of this dtype and shape, contiguous and aligned: its data pointer goes to `slot`."""

    slot: int
    dtype: np.dtype[Any]
    shape: Shape


@record
class ScalarArg:
    """A number of exactly the Python type `python` (bool, int, float): `slot` points to it, converted to `dtype`.

    An int that `dtype` cannot hold does not match. dtypes: bool for bool; int32, int64, float32, float64 for int;
    float32, float64 for float. Where there are limits, an int32 outside of `low` … `high` does not match.
    """

    slot: int
    python: type
    dtype: np.dtype[Any]
    low: int | None = None
    high: int | None = None


@record
class StaticArg:
    """This very object, or an equal int or str. `weak`: `value` is a weak reference; the guards end with the object."""

    value: Any
    weak: bool = False

    @property
    def by_value(self) -> bool:
        return not self.weak and type(self.value) in (int, str)

    @property
    def object(self) -> Any:
        """The object; nothing else is the one that is returned when it is gone."""
        if not self.weak:
            return self.value
        found = self.value()
        return _GONE if found is None else found


@record
class Fields:
    """An object in a form: its class with the version that it must have, and by name the attributes that are looked at.

    `own` is how many attributes its `__dict__` has, None where it has none: an object with others is of another form.
    Reading them must run no Python code as long as the class has this version.
    """

    cls: type
    version: int
    items: Mapping[str, Any]
    own: int | None = None


@record
class Form:
    """How a plan's arguments stand in a call: tuples, lists, dicts and `Fields` with the arguments' numbers as values.

    `Form((0, [1, 2]), {"scale": 3})` is for `f(x, [y, z], scale=s)`. Keyword arguments and the items of dicts must come
    in this order. Static arguments may be left out, as defaults are.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = _NONE


_GONE = object()
Argument = TensorArg | ScalarArg | StaticArg


@record
class Capture:
    """A variable, whose array (in its slot `_a`) is looked up at every call. `written`: steps write to the array.

    If anything else can see a written variable's array, `Plan.unshare` is called first to give the variable a new one.
    """

    slot: int
    variable: Any
    dtype: np.dtype[Any]
    shape: Shape
    written: bool = False


@record
class Output:
    """A new array; `slot` gets its data pointer. `wrap`: the result holds it as a Tensor, else as it is."""

    slot: int
    dtype: np.dtype[Any]
    shape: Shape
    wrap: bool = True


# --- steps ------------------------------------------------------------------------------------------------------
@record
class Kernel:
    """Tasks 0 … n-1 of the kernel at address `function`, on operands in the slots `operands`."""

    function: int
    operands: Sequence[int]
    n: int = 1
    name: str = "kernel"


@record
class ParallelKernel:
    """Like Kernel, on all threads, `chunk` tasks at a time, by the function at `Plan.parallel`."""

    function: int
    operands: Sequence[int]
    n: int
    chunk: int
    name: str = "kernel"


@record
class Host:
    """`function(address of the frame)`, with the GIL held; an exception ends the call."""

    function: Callable[[int], object]


@record
class Jump:
    """Go on at step `target`; the number of steps means the end."""

    target: int


@record
class JumpIfFalse:
    """Go on at step `target` if the bool that `slot` points to is false."""

    slot: int
    target: int


@record
class Copy:
    """Copy bytes between the buffers that two slots point to."""

    target: int
    source: int
    nbytes: int


@record
class Swap:
    """Exchange the pointers in two slots."""

    a: int
    b: int


StepRecord = Kernel | ParallelKernel | Host | Jump | JumpIfFalse | Copy | Swap


def moved(steps: Sequence[StepRecord], by: int) -> list[StepRecord]:
    """Steps that stand `by` places further on: their jumps lead to where they did."""
    return [_moved(s, by) for s in steps]


def _moved(s: StepRecord, by: int) -> StepRecord:
    if isinstance(s, JumpIfFalse):
        return JumpIfFalse(s.slot, s.target + by)
    return Jump(s.target + by) if isinstance(s, Jump) else s


# --- results ----------------------------------------------------------------------------------------------------
@record
class Constant:
    """A position of the result that holds this object; the other positions are indices of outputs."""

    value: object


@record
class Returns:
    """What a call returns: `kind` is "none", "single", "tuple", "list", or "call" for `finish(tuple of the items)`."""

    kind: str = "none"
    items: Sequence[int | Constant] = ()
    finish: Callable[[tuple[Any, ...]], Any] | None = None
