"""What one attempt at a trace finds out for the next."""

from __future__ import annotations

import copy
import itertools
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph.items import changing, lasting
from tracejit.autograph.places import Place
from tracejit.errors import Abandoned, ConversionError, locate
from tracejit.runtime.guards import Guards
from tracejit.runtime.held import reference
from tracejit.tracing import SameTensors

BIRTHS = 8  # calls for equal arguments that may make Variables before the function runs as plain Python
PLACES = 4096  # places that are inputs before something must be wrong with them


class _Calling(threading.local):
    arguments: Any = None  # of the call for which a trace is looked for: how they are bound, positional, by name


calling = _Calling()


class MovingPlaces(Abandoned):
    """The function reads and writes numbers or tensors at these places, which become inputs: trace again."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places


class TensorItems(Abandoned):
    """The function reads all of these containers, which it changes, or tuples at places to which it writes: the tensors
    in them become inputs: trace again."""

    def __init__(self, inside: Sequence[Any], single: Sequence[Place]) -> None:
        self.inside, self.single = inside, single


class MadeHere(Abandoned):
    """What a line adds to in a branch or loop is the function's own, or is read afterwards: trace again."""

    def __init__(self, sites: set[Site | None]) -> None:
        self.sites = sites


class Identities(Abandoned):
    """A container or record is changed that is one of several: branches are to tell them apart: trace again."""


class Unheard(ConversionError):
    """A Python object is changed in a part of the trace that does not carry such changes."""


def unheard(what: str) -> Unheard:
    said = f"{what} differs after a function that is traced as part of an operation"
    return locate(Unheard(said, remedy="return the value, and do it where the function is called"))  # type: ignore[return-value]


Site = tuple[str, int]


Containers = dict[int, Callable[[], Any]]  # by identity, weakly if possible
Items = tuple[Containers, dict[tuple, Place]]


class Memory:
    """What earlier attempts at a trace have found out."""

    def __init__(self) -> None:
        self.moving: dict[tuple, Place] = {}
        self.varying: dict[tuple, Place] = {}  # places that are only read, whose numbers are inputs too
        self.inside: Containers = {}  # those in which tensors are inputs
        self.single: dict[tuple, Place] = {}  # tensors at other places, and in tuples there
        self.seen = Counter[Any]()  # how often such containers held other tensors than before
        self.one_each = False  # whether those that are one tensor are one input
        self.as_they_are = False  # whether there are none of them, since it did not work
        self.fixed: set[tuple] = set()  # places whose numbers steer Python control flow
        self.open: set[tuple] = set()  # places whose numbers did, with a trace for each: conditions are left to the run
        self.closed: set[tuple] = set()  # where that did not work
        self.alone: set[tuple[tuple, Any]] = set()  # values of open ones that have a trace of their own all the same
        self.ahead: dict[int, Ahead] = {}
        self.births = 0  # traces that made Variables
        self.local: set[Site | None] = set()
        self.by_identity = False  # whether containers that branches choose are told apart, and not made anew

    def learn(self, found: MovingPlaces | TensorItems | SameTensors | MadeHere | Identities) -> None:
        if isinstance(found, Identities):
            self.by_identity = True
        elif isinstance(found, SameTensors):
            self.one_each = True
        elif isinstance(found, TensorItems):
            self.take_in(found.inside, found.single)
        elif isinstance(found, MadeHere):
            self.local |= found.sites
        else:
            self.moving.update({p.key: p.lasting() for p in found.places})
            if len(self.moving) > PLACES:
                raise locate(ConversionError("the places that are written to are others in each attempt at a trace"))

    def take_in(self, inside: Sequence[Any], single: Sequence[Place]) -> None:
        """Tensors in containers, and at single places, are inputs from now on."""
        if not self.as_they_are:
            self.inside.update({id(x): reference(x) for x in inside})
            self.single.update({p.key: lasting(p) for p in single})

    def has_changed(self, latest: Guards | None) -> None:
        """The latest trace does not hold any more."""
        self.take_in(*changing(latest, self.seen))

    def without_items(self) -> Items | None:
        """Let tensors in containers be what they are; what there was in their place."""
        if not self.inside and not self.single:
            return None
        found = self.inside, self.single
        self.inside, self.single, self.as_they_are = {}, {}, True
        return found

    def with_items(self, found: Items | None) -> None:
        if found is not None:
            self.inside, self.single = found
            self.as_they_are = False

    def count_births(self) -> None:
        self.births += 1
        if self.births > BIRTHS:
            raise locate(
                ConversionError(
                    "Variables that outlive the call are made in each call",
                    remedy="make them once, and assign to them",
                )
            )

    def moved_on(self) -> bool:
        """Whether tracing has taken something from iterators that cannot be given back."""
        return any(a.values for a in self.ahead.values())

    def unfix(self, places: set[tuple]) -> None:
        """Traces hold for one number at these places each, and new ones come."""
        again = (places & self.fixed) - self.closed
        self.fixed -= again
        self.open |= again

    def close(self, places: set[tuple]) -> bool:
        """Numbers at these places, or at all, are constants after all; whether any was none."""
        found = self.open & places
        self.open -= found
        self.closed |= found
        self.fixed |= found
        return bool(found)

    def leave_alone(self) -> bool:
        """The numbers that are at open places now are constants; whether any was none."""
        there = {k: p.now() for k, p in {**self.moving, **self.varying}.items() if k in self.open}
        values = [(k, p.get()) for k, p in there.items() if p is not None]
        found = {(k, n) for k, n in values if type(n) in (int, float)} - self.alone
        self.alone |= found
        return bool(found)

    def is_constant(self, key: tuple, value: Any) -> bool:
        """Whether a number at a place is none of a trace's inputs."""
        number = type(value) in (int, float)
        return key in self.fixed or (number and key in self.open and (key, value) in self.alone)

    def fix(self, params: set[Any]) -> bool:
        """Whether Python needs the values at places only, which are constants from now on."""
        places = {p for p in params if p in self.moving or p in self.varying}
        self.close(places)
        self.fixed |= places
        return len(places) == len(params) > 0


class Ahead:
    """What tracing took from an iterator, to know its type: the next runs get it."""

    def __init__(self, iterator: Any) -> None:
        self.iterator, self.values = iterator, deque[Any]()
        self.begin()

    def begin(self) -> None:
        """A trace begins."""
        self.seen, self._copy = 0, None

    def look(self, step: Callable[[Any], Any]) -> Any:
        if not self.values and (self._copy is not None or not self.seen):
            self._copy = copied(self.iterator) if self._copy is None else self._copy
            if self._copy is not None:
                return step(self._copy)
        if self.seen == len(self.values):
            self.values.append(step(self.iterator))
        self.seen += 1
        return self.values[self.seen - 1]

    def take(self, step: Callable[[Any], Any]) -> Any:
        return self.values.popleft() if self.values else step(self.iterator)


_SIMPLE: set[type] = {itertools.count, itertools.repeat, *map(type, map(iter, ([], (), range(0), "")))}  # type: ignore[arg-type]


def copied(iterator: Any) -> Any:
    """An iterator that goes the same way, for tracing to look ahead; None where there is no making one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # those of itertools can be copied until Python 3.14
        try:
            return _copied(iterator)
        except TypeError:
            return None


def _copied(iterator: Any) -> Any:
    if type(iterator) in _SIMPLE:
        return copy.copy(iterator)
    if type(iterator) is itertools.cycle and hasattr(iterator, "__setstate__"):  # newer ones do not tell
        _, given, state = iterator.__reduce__()  # type: ignore[misc, str-unpack]
        if (made := copied(given[0])) is not None:
            made = itertools.cycle(made)
            made.__setstate__((list(state[0]), state[1]))  # type: ignore[attr-defined,index]
        return made
    if type(iterator) not in (zip, enumerate):
        return None
    kind, args, *_ = iterator.__reduce__()
    parts = [copied(x) for x in (args[:1] if kind is enumerate else args)]
    return None if any(x is None for x in parts) else kind(*parts, *args[1:] if kind is enumerate else ())
