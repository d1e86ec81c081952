"""Tensors in lists, dicts, deques and tuples from outside that are read as a whole: they become inputs of the trace."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

from tracejit.autograph import places, reads
from tracejit.autograph.places import Entry, Place, Row
from tracejit.autograph.varying import VALUES, place_of
from tracejit.ir.graph import Value
from tracejit.runtime.contents import Snapshot
from tracejit.runtime.guards import Guard, Guards, Whole, form_of
from tracejit.runtime.held import is_plain
from tracejit.tensor import Tensor

MOST: Final = 256  # tensors of a container; each is copied in each call
CHANGES: Final = 2  # after so many a container that the function itself does not change holds inputs
SINGLE_CHANGES: Final = VALUES - 1  # the same of other places
_ROWS: Final = (list, collections.deque)
_DICTS: Final = (dict, collections.OrderedDict, collections.defaultdict)


class LastingItem(Place):
    """An item of a container that may end."""

    __slots__ = ("_make", "_ref")

    def __init__(self, of: Place) -> None:
        self.key, self.name, self.at, self._make = of.key, of.name, of.at, type(of)
        self._ref = weakref.ref(of.owner)

    def now(self) -> Place | None:
        x = self._ref()
        return None if x is None else self._make("items", self.name, x, self.at)

    def get(self) -> Any:
        place = self.now()
        return None if place is None else place.get()

    def put(self, value: Any) -> None:
        if (place := self.now()) is not None:
            place.put(value)


class Part(Place):
    """A tensor in a tuple, which stands at another place and is made anew to put one there."""

    __slots__ = ("base",)

    def __init__(self, base: Place, path: tuple[int, ...]) -> None:
        self.key, self.name, self.at, self.base = ("part", base.key, path), base.name, path, base

    @property
    def owner(self) -> Any:  # type: ignore[override]
        return self.base.owner

    def get(self) -> Any:
        x = self.base.get()
        for i in self.at:
            x = x[i] if isinstance(x, tuple) and i < len(x) else None
        return x

    def put(self, value: Any) -> None:
        self.base.put(_with(self.base.get(), self.at, value))

    def now(self) -> Place | None:
        base = self.base.now()
        return None if base is None else Part(base, self.at)


def _with(x: Any, path: tuple[int, ...], value: Any) -> Any:
    """A tuple with another tensor at a path."""
    if not path:
        return value
    return tuple.__new__(type(x), [_with(y, path[1:], value) if i == path[0] else y for i, y in enumerate(x)])


def _paths(x: Any) -> list[tuple[int, ...]]:
    """Where the tensors are in a tuple of tensors, plain values and such tuples, or in a tensor; [] for all else."""
    if is_known(x):
        return [()]
    if not _is_tuple(x) or len(x) > MOST or not all(is_plain(y) or _paths(y) for y in x):
        return []
    return [(i, *p) for i, y in enumerate(x) for p in _paths(y)]


def _is_tuple(x: Any) -> bool:
    if type(x) is tuple or not isinstance(x, tuple):
        return type(x) is tuple
    return not type(x).__dictoffset__ and str(type(x).__new__.__module__).startswith("namedtuple_")


def _part(place: Place, path: tuple[int, ...]) -> Place:
    return Part(place, path) if path else place


def holds_tensors(place: Place) -> bool:
    """Whether at a place there is a tensor, or a tuple with tensors."""
    return 0 < len(_paths(place.get())) <= MOST


def tensors_in(x: Any) -> list[Place]:
    """The places of a container that hold tensors; none of one of the user's own class, or of very many."""
    if type(x) in _ROWS:
        every: list[Place] = [Row("items", f"[{i}]", x, i) for i in range(len(x))] if len(x) <= reads.MOST else []
    elif type(x) in _DICTS:
        every = [Entry("items", repr(k), x, k) for k in x if reads.hashable(k)]
    else:
        return []
    found = [p for p in every if holds_tensors(p)]
    return found if len(found) <= MOST else []


def is_known(x: Any) -> bool:
    return type(x) is Tensor and type(x._a) is not Value


def lasting(place: Place) -> Place:
    """The place for use after the trace: containers that can end are not kept alive by it."""
    if place.key[0] == "items":
        return LastingItem(place) if type(place.owner).__weakrefoffset__ else place
    return place.lasting()


def changing(latest: Guards | None, seen: collections.Counter[Any]) -> tuple[list[Any], list[Place]]:
    """The containers, and single places of tensors, that are not as they were in the latest trace, nor before."""
    inside, single = list[Any](), list[Place]()
    for g in latest.guards if latest is not None else ():
        if g.owner() is None or g.holds():
            continue
        whole = isinstance(g, (Whole, Snapshot))
        place = None if whole else place_of(g)
        seen[g.key] += 1
        if whole and seen[g.key] >= CHANGES:
            inside += [g.owner()] if tensors_in(g.owner()) else []
        elif place is not None and seen[g.key] >= SINGLE_CHANGES:
            single += [place] if holds_tensors(place) else []
    return inside, single


class Formed(Guard):
    """The dtypes and shapes of the tensors at a place, `key[2]`, or in a tuple there."""

    __slots__ = ()

    def now(self) -> Any:
        return form_of(self.key[2].get())


class Same(Guard):
    """Which of the tensors at some places, `key[2]`, are one."""

    __slots__ = ()

    def now(self) -> Any:
        numbers: dict[int, int] = {}
        return tuple([numbers.setdefault(id(p.get()), len(numbers)) for p in self.key[2]])

    def change(self) -> str:
        return f"{self.label} changed"


def stand_in(
    inside: Sequence[Any], single: dict[tuple, Place], others: dict[tuple, Place],
    make: Callable[[tuple, Place, Any], Tensor], one_each: bool,
) -> set[tuple]:  # fmt: skip
    """Put inputs of the trace in the place of tensors: of those in containers of which everything is read, the keys of
    which are the result, of those at places that are read one by one, of which the forms are told, and of others. With
    `one_each` those that are one tensor are one input, and the trace is for others of which the same ones are one."""
    there = list[tuple[Place, Place]]()
    for x in inside:
        if found := tensors_in(x):
            reads.stand_inside(x, {p.at for p in found}, places.snapshot(x))
            there += [(_part(lasting(p), path), _part(p, path)) for p in found for path in _paths(p.get())]
    keys = {p.key for p, _ in there}
    for place in {**others, **single}.values():
        now = place.now()
        paths = [] if now is None or any(x is now.owner for x in inside) else _paths(now.get())
        if now is None or not 0 < len(paths) <= MOST or (paths != [()] and now.key not in single):
            continue
        if now.key in single:
            guard = Formed(("form", id(now.owner), place), f"{now.key[0]} {now.name}", now.owner)
            reads.stand_at(now.key, guard)
        there += [(_part(place, p), _part(now, p)) for p in paths]
    if one_each and there:
        reads.same_tensors(Same, tuple([p for p, _ in there]), there[0][1].owner)
    made: dict[int, tuple[Any, Tensor]] = {}
    for place, now in there:
        if not is_known(value := now.get()):  # by another index
            continue
        if not one_each or id(value) not in made:
            made[id(value)] = value, make(place.key, place, value)
        base = now.base if type(now) is Part else now
        places.remember(places.Items(base.owner) if base.key[0] == "items" else base)
        reads.written(base.key, base.owner)
        now.put(made[id(value)][1])
    return keys
