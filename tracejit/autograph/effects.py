"""What a traced function does to Python objects, as a program that does it again after each call, with its values."""

from __future__ import annotations

import collections
import copy
import operator
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from tracejit import forks
from tracejit.autograph.places import Place, own
from tracejit.autograph.values import Undefined
from tracejit.errors import Location
from tracejit.intervals import Limits
from tracejit.runtime import memory
from tracejit.tensor import Operand, Tensor
from tracejit.tree import Structure, own_slots, unflatten

Path = tuple[Any, ...]
Fill = Callable[[Sequence[Tensor], dict[int, Any]], Any]  # a value, from the call's outputs and what was made before
ABSENT: Any = object()
GIVEN = -1  # among what was made before: the containers of the call's arguments, by their paths
CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv,
    "%=": operator.imod, "**=": operator.ipow, "@=": operator.imatmul, "&=": operator.iand, "|=": operator.ior,
    "^=": operator.ixor, "<<=": operator.ilshift, ">>=": operator.irshift,
}  # fmt: skip


# --- values -----------------------------------------------------------------------------------------------------------
def known(x: Any) -> Fill:
    return lambda outputs, made: x


def given(path: Path) -> Fill:
    """A container among the arguments."""
    return lambda outputs, made: made[GIVEN][path]


def output(k: int, python: type | None) -> Fill:
    """An output as a tensor, or as the Python number that it is."""
    if python is None:
        return lambda outputs, made: outputs[k]
    return lambda outputs, made: python(outputs[k].numpy())


class Splice(list[Any]):
    """Items of a list that stand in one tensor."""


def spliced(rows: Fill, python: type | None) -> Fill:
    """What a loop or branch has added to a list."""

    def fill(outputs: Sequence[Tensor], made: dict[int, Any]) -> Any:
        t = rows(outputs, made)
        return Splice(t.numpy().tolist() if python is not None else [t[i] for i in range(t.shape[0])])

    return fill


def piled(count: Fill, parts: Sequence[Fill], structure: Structure | None) -> Fill:
    """The first items of a list that loops add to and take from, each of these parts."""

    def fill(outputs: Sequence[Tensor], made: dict[int, Any]) -> Any:
        rows = [p(outputs, made) for p in parts]
        n = count(outputs, made) if structure is not None else 0
        return Splice([unflatten(structure, [r[i] for r in rows]) for i in range(n)])  # type: ignore[arg-type]

    return fill


def text(x: Any, parts: Sequence[Fill]) -> Fill:
    return lambda outputs, made: x.filled([p(outputs, made) for p in parts])


def perhaps(flag: Fill, value: Fill, none: bool) -> Fill:
    return lambda outputs, made: value(outputs, made) if flag(outputs, made) else None if none else ABSENT


def one_of(number: Fill, values: Sequence[Fill]) -> Fill:
    """One of a few known values."""
    return lambda outputs, made: values[number(outputs, made)](outputs, made)


def either(flag: Fill, one: Fill, two: Fill) -> Fill:
    return lambda outputs, made: (one if flag(outputs, made) else two)(outputs, made)


def container(x: Any, items: Sequence[tuple[Any, Fill]], known_as: Any) -> Fill:
    """A list, tuple, dict, set or plain object made anew for each call; the same one wherever it stands."""
    kind = type(x)

    def fill(outputs: Sequence[Tensor], made: dict[int, Any]) -> Any:
        key = id(known_as)
        if key not in made:
            if isinstance(x, tuple):
                values = [f(outputs, made) for _, f in items]
                made[key] = kind(*values) if hasattr(kind, "_fields") else kind(values)
            else:
                made[key] = new = copy.copy(x)
                filled(new, [(k, f(outputs, made)) for k, f in items])
        return made[key]

    return fill


def filled(new: Any, items: Sequence[tuple[Any, Any]]) -> None:
    """Let a container hold these, or an object have these attributes."""
    if isinstance(new, list):
        new[:] = [y for _, v in items for y in (v if type(v) is Splice else [v])]
    elif isinstance(new, set):
        new.clear()
        new.update([v for _, v in items])
    elif isinstance(new, dict):
        kind = collections.OrderedDict if isinstance(new, collections.OrderedDict) else dict
        new.clear()
        kind.update(new, [(k, v) for k, v in items if v is not ABSENT])  # a Counter would count pairs
    elif isinstance(new, collections.deque):
        new.clear()
        new.extend([v for _, v in items])
    else:
        slots = own_slots(type(new))
        for k, v in items:
            if v is ABSENT:
                new.__dict__.pop(k, None)
            elif k in slots:
                object.__setattr__(new, k, v)
            else:
                new.__dict__[k] = v


# --- inputs -----------------------------------------------------------------------------------------------------------
class Moving:
    """A number or tensor at a place that changes: read again for each call, into a fixed array."""

    __slots__ = ("place", "python", "_a", "tensor", "limits")

    def __init__(self, place: Place, value: Any) -> None:
        self.place = place
        self.python = type(value) if type(value) in (int, float) else None
        if self.python is None:
            self._a: np.ndarray = memory.empty(value._a.shape, value._a.dtype)
        else:
            self._a = np.zeros((), np.float64 if self.python is float else np.int32)
        self.tensor: Any = None  # what tapes know it by
        self.limits = Limits(value if self.python is int else 0)

    def fits(self) -> bool:
        """Whether there is such a value at the place now."""
        x = self.place.get()
        if self.python is not None:
            return type(x) is self.python and (self.python is float or self.limits.hold(x))
        return type(x) is Tensor and x._a.dtype == self._a.dtype and x._a.shape == self._a.shape

    def read(self) -> None:
        self.tensor = self.place.get()
        self._a[...] = self.tensor._a if self.python is None else self.tensor


# --- the program ------------------------------------------------------------------------------------------------------
def follow(x: Any, path: Path) -> Any:
    """What stands at a path of indices, keys and names of fields."""
    for k in path:
        x = x[k] if isinstance(x, dict) or type(k) is int else getattr(x, k)
    return x


class Effect:
    """One step: `do` is given what it changes, which is `target` or stands at `path` in the arguments, and values.

    Where a branch may have left a value away, the step is left out, or `empties` its place.
    """

    __slots__ = ("do", "target", "path", "values", "loc", "empties")

    def __init__(
        self, do: Callable[..., Any], target: Any, path: Path | None, values: Sequence[Fill], loc: Location | None,
        empties: bool = False,
    ) -> None:  # fmt: skip
        self.do, self.target, self.path, self.values, self.loc, self.empties = do, target, path, values, loc, empties


class Late:
    """Among the values of what a branch or loop does: a container that is made when the call ends."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Pending(threading.local):
    """What branches and loops of the running call have done, with the number of the effect that each comes before, and
    the arguments."""

    def __init__(self) -> None:
        self.queue: list[tuple[int, Effect, Structure, list[Any]]] = []


class Effects:
    """All effects of one trace, in order. A call that fails has none."""

    def __init__(
        self, effects: Sequence[Effect | None], pending: Pending, moving: Sequence[Moving], outputs: int,
        on_arguments: set[Path], late: Sequence[Fill] = (),
    ) -> None:  # fmt: skip
        self.late = late  # containers that branches and loops put elsewhere
        self.effects, self.pending, self.moving, self.outputs = list(effects), pending, list(moving), outputs
        self.lock: Any = forks.rlock() if moving else nullcontext()  # the arrays of inputs serve one call at a time
        self.on_arguments = on_arguments  # containers that the call gives and that they use

    def read_too(self, moving: Sequence[Moving]) -> None:
        """Read these for each call as well."""
        if moving:
            self.moving += [m for m in moving if m not in self.moving]
            self.lock = forks.rlock()

    def fit(self) -> bool:
        return all(m.fits() for m in self.moving)

    def begin(self) -> None:
        """Before a call: read what the function reads from places that it writes to."""
        self.pending.queue = []
        for m in self.moving:
            m.read()

    def end(self, outputs: Sequence[Tensor], arguments: Any) -> dict[int, Any]:
        """After a call, with the outputs that the effects take. What was made for them, for the call's result."""
        found = {path: follow(arguments, path) for path in self.on_arguments}
        made: dict[int, Any] = {GIVEN: found}
        queue, self.pending.queue = self.pending.queue, []

        def apply(_: int, deferred: Effect, structure: Structure, values: list[Any]) -> None:
            every = [self.late[v.number](outputs, made) if type(v) is Late else v for v in values]
            positional, named = unflatten(structure, every)
            _apply(deferred, [*positional, *named.values()], found)

        at = 0
        for i, e in enumerate(self.effects):
            while at < len(queue) and queue[at][0] <= i:
                apply(*queue[at])
                at += 1
            if e is not None:
                values = [f(outputs, made) for f in e.values]
                if e.empties or not any(v is ABSENT for v in values):
                    _apply(e, values, found)
        for step in queue[at:]:
            apply(*step)
        return made


def _apply(e: Effect, values: Sequence[Any], given: dict[Path, Any]) -> None:
    e.do(e.target if e.path is None else given[e.path], *values)


# --- steps ------------------------------------------------------------------------------------------------------------
def put(place: Any, value: Any) -> None:
    place.put(Undefined(place.name) if value is ABSENT else value)


def put_field(name: str) -> Callable[..., None]:
    def do(owner: Any, value: Any) -> None:
        if value is not ABSENT:
            setattr(owner, name, value)
        elif hasattr(owner, name):
            delattr(owner, name)

    return do


def put_item(key: Any) -> Callable[..., None]:
    def do(owner: Any, value: Any) -> None:
        if value is ABSENT or type(value) is Undefined:
            own(owner, "pop")(key, None)
        else:
            own(owner, "__setitem__")(key, value)

    return do


def put_items(keys: Sequence[Any]) -> Callable[..., None]:
    steps = [put_item(k) for k in keys]

    def do(owner: Any, *values: Any) -> None:
        for step, v in zip(steps, values, strict=True):
            step(owner, v)

    return do


def delete_item(key: Any) -> Callable[..., None]:
    def do(owner: Any) -> None:
        own(owner, "__delitem__")(key)

    return do


def call(name: str, positional: int, names: Sequence[str]) -> Callable[..., None]:
    """A method, or one of `CHANGES` of an item."""

    def do(owner: Any, *values: Any) -> None:
        own(owner, name)(*values[:positional], **dict(zip(names, values[positional:], strict=True)))

    def change(owner: Any, key: Any, value: Any) -> None:
        owner[key] = CHANGES[name](owner[key], np.asarray(value) if isinstance(value, Operand) else value)

    return change if name in CHANGES else do
