"""The plan: what a concrete function does at one set of sizes, as plain data that native code or Python carries out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError
from tracejit.runtime import interpreter, layout
from tracejit.runtime.encoder import FORMATS, encode
from tracejit.runtime.executor import native, ready
from tracejit.runtime.guards import Guards
from tracejit.runtime.records import (
    Argument,
    Capture,
    Constant,
    Copy,
    Fields,
    Form,
    Host,
    Jump,
    JumpIfFalse,
    Kernel,
    Output,
    ParallelKernel,
    Returns,
    ScalarArg,
    StaticArg,
    StepRecord,
    Swap,
    TensorArg,
    moved,
)  # fmt: skip
from tracejit.runtime.table import Table

_LARGEST_FORM = 8192  # its leaves are collected on the stack


class Plan(Table):
    """A straight-line program with its guards, memory and result. Immutable; keeps what it refers to alive.

    Parameters
    ----------
    tensor : the Tensor class, whose slot `_a` holds the array
    args : one record for each argument
    form : how the arguments stand in a call; without one, each is a positional argument
    frame : the initial contents of the slots: addresses of constants, sizes, strides; 0 where something is filled in
    arena_bytes, arena : memory for one call, and the (slot, offset) pairs that point into it
    keep : what must live as long as the plan: constants, libraries that own the kernels
    unshare : called with a written variable whose array is shared; must give it an array of its own
    release_gil : let other Python threads run during the steps
    parallel : the address of `tj_parallel`
    guards : what must be so outside the arguments for a call to take the plan; only the choice of a plan asks
    held : slots from `held_at` on in which steps may leave references to objects, dropped when the call ends

    Everything is checked and allocated before the first step: a call that does not match, or for which memory is
    lacking, changes nothing. Two calls may run the same plan at the same time; each has its own frame.
    """

    __slots__ = (
        "tensor", "args", "form", "captures", "frame", "arena_bytes", "arena", "outputs", "steps", "returns",
        "keep", "unshare", "release_gil", "parallel", "held", "guards", "_referred",
    )  # fmt: skip

    def __init__(
        self,
        tensor: type,
        *,
        args: Iterable[Argument] = (),
        form: Form | None = None,
        captures: Iterable[Capture] = (),
        frame: Iterable[int] = (),
        arena_bytes: int = 0,
        arena: Iterable[tuple[int, int]] = (),
        outputs: Iterable[Output] = (),
        steps: Iterable[StepRecord] = (),
        returns: Returns = Returns(),  # noqa: B008  (immutable)
        keep: object = None,
        unshare: Callable[[Any], object] | None = None,
        release_gil: bool = False,
        parallel: int = 0,
        held: int = 0,
        guards: Guards | None = None,
    ) -> None:
        self.tensor, self.args, self.form, self.captures = tensor, tuple(args), form, tuple(captures)
        self.frame, self.arena_bytes, self.arena = tuple(frame), arena_bytes, tuple(arena)
        self.outputs, self.steps, self.returns = tuple(outputs), tuple(steps), returns
        self.keep, self.unshare, self.release_gil, self.parallel = keep, unshare, release_gil, parallel
        self.held, self.guards = held, guards
        _check(self)
        self._settle()

    def _settle(self) -> None:
        """Make the table, and hold what it refers to by address."""
        if self.form is not None:
            self.form = _checked_form(self.form, self.args)
        self._referred = (
            self.tensor, self.args, self.form, self.captures, self.outputs, self.steps, self.returns, self.unshare,
            self.keep,
        )  # fmt: skip
        if layout.unsupported() is None:
            self._table = encode(self)

    @property
    def held_at(self) -> int:
        return len(self.frame) + sum(isinstance(a, ScalarArg) for a in self.args)

    def called_as(self, form: Form | None) -> Plan:
        """The same plan for calls in which the arguments stand in another form."""
        other = object.__new__(Plan)
        for name in Plan.__slots__:
            setattr(other, name, getattr(self, name))
        other.form = form
        other._settle()
        return other

    def guarded(self, guards: Guards | None) -> Plan:
        """The same plan for calls in which these guards hold."""
        if guards is None:
            return self
        other = self.called_as(self.form)
        other.guards = guards
        other._settle()
        return other

    def preceded_by(self, steps: Sequence[StepRecord]) -> Plan:
        """The same plan with steps in front of its own."""
        other = self.called_as(self.form)
        other.steps = (*steps, *moved(self.steps, len(steps)))
        other._settle()
        return other

    def run(self, leaves: Sequence[Any]) -> Any:
        """Carry out the plan on these arguments; NotImplemented if a guard does not hold."""
        if not ready() and interpreter.suits(self):
            return self.run_python(leaves)
        module = native()
        return module.execute(self, leaves) if module is not None else self.run_python(leaves)

    def run_python(self, leaves: Sequence[Any]) -> Any:
        """The same as `run` step by step in Python: for debugging, and where there is no native code (yet)."""
        return interpreter.run(self, leaves)

    def describe(self) -> str:
        """The plan as text: guards, memory, steps, result."""
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        return f"<Plan: {len(self.args)} arguments, {len(self.steps)} steps, {len(self.outputs)} outputs>"


# --- checking ---------------------------------------------------------------------------------------------------
def _slots_of(step: StepRecord) -> Sequence[int]:
    match step:
        case Kernel(operands=operands) | ParallelKernel(operands=operands):
            return operands
        case JumpIfFalse(slot=slot):
            return (slot,)
        case Copy(target=a, source=b) | Swap(a=a, b=b):
            return (a, b)
    return ()


def _filled(p: Plan) -> list[int]:
    """The slots that get their contents during a call."""
    args = [a.slot for a in p.args if not isinstance(a, StaticArg)]
    return args + [c.slot for c in p.captures] + [s for s, _ in p.arena] + [o.slot for o in p.outputs]


def _check(p: Plan) -> None:
    slots = [*_filled(p), *(s for step in p.steps for s in _slots_of(step))]
    if any(not 0 <= s < len(p.frame) for s in slots):
        raise ArgumentError(f"a plan with {len(p.frame)} slots refers to slot {max(slots, key=abs)}")
    if any(not 0 <= at <= p.arena_bytes for _, at in p.arena):
        raise ArgumentError("an arena offset lies outside the arena")
    if len({id(c.variable) for c in p.captures}) < len(p.captures):
        raise ArgumentError("a variable is captured twice")
    if any(c.written for c in p.captures) and p.unshare is None:
        raise ArgumentError("a plan that writes variables needs `unshare`")
    for a in p.args:
        if isinstance(a, ScalarArg) and (a.python, a.dtype.name) not in FORMATS:
            raise ArgumentError(f"a Python {a.python.__name__} cannot be given as {a.dtype}")
    for s in p.steps:
        if isinstance(s, Jump | JumpIfFalse) and not 0 <= s.target <= len(p.steps):
            raise ArgumentError(f"a jump to step {s.target} of {len(p.steps)}")
        if isinstance(s, Kernel | ParallelKernel) and not s.function:
            raise ArgumentError(f"{s.name} has no address")
        if isinstance(s, ParallelKernel) and not p.parallel:
            raise ArgumentError("a plan with parallel kernels needs `parallel`")
    r = p.returns
    if r.kind not in ("none", "single", "tuple", "list", "call") or (r.kind == "single" and len(r.items) != 1):
        raise ArgumentError(f"a result of kind {r.kind!r} with {len(r.items)} items")
    if (r.finish is not None) != (r.kind == "call"):
        raise ArgumentError("`finish` goes with results of kind 'call'")
    if any(isinstance(i, int) and not 0 <= i < len(p.outputs) for i in r.items):
        raise ArgumentError("the result refers to an output that does not exist")


def _checked_form(form: Form, args: Sequence[Argument]) -> Form:
    """The form with strings as calls have them: one object for each name."""
    seen: list[int] = []

    def walk(p: Any) -> Any:
        if type(p) is int:
            seen.append(p)
            return p
        if type(p) is dict:
            return {sys.intern(k) if type(k) is str else k: walk(x) for k, x in p.items()}
        if type(p) in (tuple, list):
            return type(p)(map(walk, p))
        if isinstance(p, tuple) and hasattr(p, "_fields"):
            return tuple.__new__(type(p), map(walk, p))
        if isinstance(p, Fields):
            return Fields(p.cls, p.version, {sys.intern(k): walk(x) for k, x in p.items.items()}, p.own)
        raise ArgumentError(f"a form is made of tuples, lists, dicts and numbers, got {p!r}")

    checked = Form(walk(form.args), walk(dict(form.kwargs)))
    static = {i for i, a in enumerate(args) if isinstance(a, StaticArg)}
    if len(set(seen)) < len(seen) or set(seen) - set(range(len(args))) or set(range(len(args))) - set(seen) - static:
        raise ArgumentError(f"the form has the arguments {sorted(seen)} of {len(args)}")
    if len(args) > _LARGEST_FORM:
        raise ArgumentError(f"a form of {len(args)} arguments; at most {_LARGEST_FORM} fit")
    return checked


# --- text -------------------------------------------------------------------------------------------------------
def _array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{dtype.name}[{', '.join(map(str, shape))}]"


def _argument_text(a: Argument) -> str:
    if isinstance(a, TensorArg):
        return f"{_array(a.dtype, a.shape)} -> %{a.slot}"
    if isinstance(a, ScalarArg):
        limits = "" if a.low is None else f" from {a.low} to {a.high}"
        return f"{a.python.__name__} as {a.dtype.name}{limits} -> %{a.slot}"
    return f"is {a.object!r}"


def _step_text(s: StepRecord) -> str:
    def slots(numbers: Sequence[int]) -> str:
        return ", ".join(f"%{n}" for n in numbers)

    match s:
        case Kernel():
            return f"{s.name}({slots(s.operands)}) x {s.n}"
        case ParallelKernel():
            return f"{s.name}({slots(s.operands)}) x {s.n} in parallel, {s.chunk} at a time"
        case Host():
            return f"host {getattr(s.function, '__qualname__', s.function)}"
        case Jump():
            return f"jump to {s.target}"
        case JumpIfFalse():
            return f"if not %{s.slot} jump to {s.target}"
        case Copy():
            return f"copy %{s.source} to %{s.target}, {s.nbytes} bytes"
        case Swap():
            return f"swap %{s.a} and %{s.b}"


def _lines(p: Plan) -> Iterator[str]:
    for i, a in enumerate(p.args):
        yield f"argument {i}: {_argument_text(a)}"
    if p.form is not None:
        given = [repr(x) for x in p.form.args] + [f"{k}={x!r}" for k, x in p.form.kwargs.items()]
        yield f"called as: ({', '.join(given)})"
    for c in p.captures:
        name = getattr(c.variable, "name", type(c.variable).__name__)
        yield f"variable {name}: {_array(c.dtype, c.shape)} -> %{c.slot}{', updated in place' if c.written else ''}"
    yield f"frame: {len(p.frame)} slots" + (", GIL released" if p.release_gil else "")
    filled = set(_filled(p))
    yield from (f"  %{i} = {v:#x}" for i, v in enumerate(p.frame) if i not in filled)
    if p.arena_bytes:
        yield f"arena: {p.arena_bytes} bytes"
        yield from (f"  %{s} at {at}" for s, at in p.arena)
    for i, o in enumerate(p.outputs):
        yield f"output {i}: {_array(o.dtype, o.shape)} -> %{o.slot}{'' if o.wrap else ', as an ndarray'}"
    for i, s in enumerate(p.steps):
        yield f"{i:3d}: {_step_text(s)}"
    r = p.returns
    items = ", ".join(repr(i.value) if isinstance(i, Constant) else f"output {i}" for i in r.items)
    finish = f", then {getattr(r.finish, '__qualname__', r.finish)}" if r.finish is not None else ""
    yield f"returns {r.kind}" + (f" ({items})" if r.items else "") + finish
