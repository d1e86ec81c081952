"""Carries out a plan step by step in Python: for debugging, and where native code is not ready or cannot be used."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from tracejit.operand import quietly
from tracejit.runtime import layout
from tracejit.runtime.records import (
    Argument,
    Capture,
    Constant,
    Copy,
    Fields,
    Host,
    Jump,
    JumpIfFalse,
    Kernel,
    Output,
    ParallelKernel,
    ScalarArg,
    Shape,
    StaticArg,
    StepRecord,
    Swap,
    TensorArg,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from tracejit.runtime.program import Plan

_SIGNATURE = (None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_KERNEL, _HOLDING_GIL = ctypes.CFUNCTYPE(*_SIGNATURE), ctypes.PYFUNCTYPE(*_SIGNATURE)
_ALIGNMENT = 64
_LIGHT_STEPS, _LIGHT_BYTES = 64, 8 << 20


class _Owner:
    """An object with one slot, like a variable."""

    __slots__ = ("_a",)
    _a: npt.NDArray[Any]


def _references(owner: Any) -> int:
    return sys.getrefcount(owner._a)


def _references_when_alone() -> int:
    owner = _Owner()
    owner._a = np.zeros(1)
    return _references(owner)


_ALONE = _references_when_alone()


def run(plan: Plan, leaves: Sequence[Any]) -> Any:
    """What the plan returns for these arguments; NotImplemented if a guard does not hold."""
    return _Call(plan).run(leaves)


def suits(plan: Plan) -> bool:
    """Whether a call takes but milliseconds longer here, and nothing that it does can be seen before it ends.

    Here kernels run on one thread and each step takes some Python. Loops may take any number of steps, and other
    threads may run in the middle of an update.
    """
    if len(plan.steps) > _LIGHT_STEPS or any(isinstance(s, Jump | JumpIfFalse) for s in plan.steps):
        return False
    if any(c.written for c in plan.captures):
        return False
    given = [a for a in plan.args if isinstance(a, TensorArg)]
    arrays: list[TensorArg | Capture | Output] = [*given, *plan.captures, *plan.outputs]
    size = plan.arena_bytes + sum(a.dtype.itemsize * math.prod(a.shape) for a in arrays)
    return size * len(plan.steps) <= _LIGHT_BYTES


def flatten(plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any] | None:
    """The plan's arguments out of those of a call, or None if they do not stand as its form says."""
    if plan.form is None:
        return list(args) if not kwargs and len(args) == len(plan.args) else None
    form = plan.form
    leaves = [a.object if isinstance(a, StaticArg) else None for a in plan.args]
    fitting = _collect(form.args, args, leaves) and _collect(form.kwargs, kwargs, leaves)
    return leaves if fitting else None


def _collect(pattern: Any, value: Any, leaves: list[Any]) -> bool:
    if isinstance(pattern, int):
        leaves[pattern] = value
        return True
    if isinstance(pattern, Fields):
        if type(value) is not pattern.cls or layout.version(pattern.cls) != pattern.version:
            return False
        if pattern.own is not None and len(value.__dict__) != pattern.own:
            return False
        items = pattern.items.items()
        return all(hasattr(value, k) and _collect(p, getattr(value, k), leaves) for k, p in items)
    if type(value) is not type(pattern) or len(value) != len(pattern):
        return False
    if isinstance(pattern, dict):
        return list(value) == list(pattern) and _collect(tuple(pattern.values()), tuple(value.values()), leaves)
    return all(_collect(p, v, leaves) for p, v in zip(pattern, value))


def fits(a: object, dtype: np.dtype[Any], shape: Shape) -> TypeGuard[npt.NDArray[Any]]:
    """Whether `a` is an ndarray that a kernel for this dtype and shape may read."""
    return (
        type(a) is np.ndarray
        and a.dtype is dtype
        and a.shape == shape
        and a.flags.c_contiguous
        and a.flags.aligned
    )


def _scalar(value: object, a: ScalarArg) -> npt.NDArray[Any] | None:
    """A Python number as an array of the wanted dtype, or None if it does not match."""
    if type(value) is not a.python:
        return None
    if a.python is int:
        bits = 32 if a.dtype.name == "int32" else 64
        if not -(1 << bits - 1) <= value < 1 << bits - 1:  # type: ignore[operator]
            return None
        if a.low is not None and not a.low <= value <= a.high:  # type: ignore[operator]
            return None
    with np.errstate(over="ignore"):
        return np.array(float(value) if a.dtype.kind == "f" else value, a.dtype)  # type: ignore[arg-type]


class _Call:
    """One call of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.frame = (ctypes.c_int64 * max(1, plan.held_at + plan.held))(*plan.frame)
        self.held: list[object] = []  # arrays the frame points to
        self.pc = 0

    def run(self, leaves: Sequence[Any]) -> Any:
        p = self.plan
        if len(leaves) != len(p.args):
            return NotImplemented
        if not all(map(self.bind, leaves, p.args)) or not all(map(self.capture, p.captures)):
            return NotImplemented
        shared = [c for c in p.captures if c.written and self.is_shared(c)]
        for c in shared:
            if p.unshare is not None:
                p.unshare(c.variable)
        if not all(map(self.capture, shared)):
            return NotImplemented
        made = list(self.allocate())
        try:
            while self.pc < len(p.steps):
                step = p.steps[self.pc]
                self.pc += 1
                self.step(step)
        finally:
            for slot in range(p.held_at, p.held_at + p.held):
                if self.frame[slot]:
                    ctypes.pythonapi.Py_DecRef(ctypes.cast(self.frame[slot], ctypes.py_object))
        return self.result(made)

    def point(self, slot: int, a: npt.NDArray[Any]) -> None:
        self.held.append(a)
        self.frame[slot] = a.ctypes.data

    def bind(self, value: Any, a: Argument) -> bool:
        if isinstance(a, StaticArg):
            return value is a.object or (a.by_value and type(value) is type(a.value) and value == a.value)
        if isinstance(a, TensorArg):
            array = getattr(value, "_a", None) if type(value) is self.plan.tensor else value
            if not fits(array, a.dtype, a.shape):
                return False
        else:
            array = _scalar(value, a)
            if array is None:
                return False
        self.point(a.slot, array)
        return True

    def capture(self, c: Capture) -> bool:
        # not held: whether a written variable's array is shared is told by its references
        array = getattr(c.variable, "_a", None)
        if not fits(array, c.dtype, c.shape):
            return False
        self.frame[c.slot] = array.ctypes.data
        return True

    def is_shared(self, c: Capture) -> bool:
        if _references(c.variable) > _ALONE:
            return True
        flags = c.variable._a.flags
        return not (flags.owndata and flags.writeable)

    def allocate(self) -> Iterator[object]:
        p = self.plan
        if p.arena_bytes:
            arena = np.empty(p.arena_bytes + _ALIGNMENT, np.uint8)
            start = -(-arena.ctypes.data // _ALIGNMENT) * _ALIGNMENT
            self.held.append(arena)
            for slot, at in p.arena:
                self.frame[slot] = start + at
        self.held += [c.variable._a for c in p.captures]
        for o in p.outputs:
            a = quietly(np.empty, o.shape, o.dtype)  # which lies where other results do
            self.point(o.slot, a)
            if o.wrap:
                t: Any = object.__new__(p.tensor)
                t._a = a
                yield t
            else:
                yield a

    def step(self, s: StepRecord) -> None:
        frame = self.frame
        match s:
            case Kernel() | ParallelKernel():
                operands = (ctypes.c_int32 * max(1, len(s.operands)))(*s.operands)
                kernel = (_KERNEL if self.plan.release_gil else _HOLDING_GIL)(s.function)
                kernel(ctypes.addressof(frame), ctypes.addressof(operands), 0, s.n)
            case Host():
                s.function(ctypes.addressof(frame))
            case Jump():
                self.pc = s.target
            case JumpIfFalse():
                if not ctypes.c_bool.from_address(frame[s.slot]).value:
                    self.pc = s.target
            case Copy():
                ctypes.memmove(frame[s.target], frame[s.source], s.nbytes)
            case Swap():
                frame[s.a], frame[s.b] = frame[s.b], frame[s.a]

    def result(self, made: list[object]) -> Any:
        r = self.plan.returns
        items = tuple(i.value if isinstance(i, Constant) else made[i] for i in r.items)
        if r.finish is not None:
            self.held.clear()
            return r.finish(items)
        return {"none": None, "single": items[0] if items else None, "tuple": items, "list": list(items)}[r.kind]
