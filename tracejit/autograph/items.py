"""Tensors in lists, dicts and deques from outside of which everything is read: they become inputs of the trace."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from tracejit.autograph import places, reads
from tracejit.autograph.places import Entry, Place, Row
from tracejit.ir.graph import Value
from tracejit.runtime.contents import Snapshot
from tracejit.runtime.guards import Guard, Guards, Whole
from tracejit.tensor import Tensor

MOST: Final = 256  # tensors of a container; each is copied in each call
CHANGES: Final = 2  # after so many a container that the function itself does not change holds inputs
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


def tensors_in(x: Any) -> list[Place]:
    """The places of the tensors in a container; none of a container of the user's own class, or of very many."""
    if type(x) in _ROWS:
        found: list[Place] = [Row("items", f"[{i}]", x, i) for i, y in enumerate(x) if is_known(y)]
    elif type(x) in _DICTS:
        found = [Entry("items", repr(k), x, k) for k, y in x.items() if is_known(y) and reads.hashable(k)]
    else:
        return []
    return found if len(found) <= MOST else []


def is_known(x: Any) -> bool:
    return type(x) is Tensor and type(x._a) is not Value


def lasting(place: Place) -> Place:
    return LastingItem(place) if type(place.owner).__weakrefoffset__ else place


def changing(latest: Guards | None, seen: collections.Counter[Any]) -> list[Place]:
    """The tensors in containers that are not as they were in the latest trace, if it is not for the first time."""
    found: list[Place] = []
    for g in latest.guards if latest is not None else ():
        if isinstance(g, (Whole, Snapshot)) and g.owner() is not None and not g.holds():
            seen[g.key] += 1
            found += tensors_in(g.owner()) if seen[g.key] >= CHANGES else []
    return found


class Same(Guard):
    """Which of the tensors at some places, `key[2]`, are one."""

    __slots__ = ()

    def now(self) -> Any:
        numbers: dict[int, int] = {}
        return tuple([numbers.setdefault(id(p.get()), len(numbers)) for p in self.key[2]])

    def change(self) -> str:
        return f"{self.label} changed"


def stand_in(
    inside: dict[tuple, Place], others: Iterable[Place], make: Callable[[tuple, Place, Any], Tensor], one_each: bool
) -> set[tuple]:
    """Put inputs of the trace in the place of tensors: of those in containers of which everything is read, the keys of
    which are the result, and of others. With `one_each` those that are one tensor are one input, and the trace is for
    others of which the same ones are one."""
    there = [(p, now) for p in (*inside.values(), *others) if (now := p.now()) is not None and is_known(now.get())]
    by_owner: dict[int, list[Place]] = {}
    for _, now in there:
        if now.key in inside:
            by_owner.setdefault(id(now.owner), []).append(now)
    for same in by_owner.values():
        owner = same[0].owner
        reads.stand_inside(owner, {p.at for p in same}, places.snapshot(owner))
    if one_each and there:
        reads.same_tensors(Same, tuple([p for p, _ in there]), there[0][1].owner)
    made: dict[int, tuple[Any, Tensor]] = {}
    for place, now in there:
        if not is_known(value := now.get()):  # by another index
            continue
        if not one_each or id(value) not in made:
            made[id(value)] = value, make(place.key, place, value)
        places.remember(places.Items(now.owner) if place.key[0] == "items" else now)
        reads.written(place.key, now.owner)
        now.put(made[id(value)][1])
    return {p.key for p, _ in there if p.key in inside}
