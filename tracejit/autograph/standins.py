"""Containers that stand in the place of several, of which a tensor decides, and what would be wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from tracejit.autograph import aliases, places, reads
from tracejit.autograph.apart import Apart, given_at
from tracejit.autograph.attempts import Identities, Memory, calling
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.effects import Moving, Path
from tracejit.autograph.holders import MANY, Outside, parts_of
from tracejit.autograph.origins import Origin
from tracejit.autograph.recipes import refused
from tracejit.errors import Location, user_frame
from tracejit.ir.graph import Value
from tracejit.tensor import Operand, Tensor
from tracejit.tree import flatten

NEVER_SHARED = 3  # the containers of all arguments: both, positional ones, those by name


class StandIns:
    """The part of a trace's listener that knows which containers others may be when the program runs."""

    memory: Memory
    log: places.Log
    made: dict[int, Any]
    given: dict[int, Path]
    moving: list[tuple[Moving, Value]]

    def __init__(self) -> None:
        self.fillers: dict[int, Any] = {}  # what stands where branches have no value
        self.depths: dict[int, int] = {}  # how deep in branches and loops those were made that stand for several
        self.origins: dict[int, Origin] = {}  # what tells which container is meant by such a one
        self.told_apart: dict[int, Origin] = {}  # the same where it counts
        self.apart: Apart | None = None  # what the arguments are taken not to be
        self.asks_identity = False  # whether the function asks if two containers among the arguments are one
        self._several: dict[int, tuple[Any, list[Any]]] = {}  # containers that stand for one of several others
        self._could_be_one = set[int]()  # of these the ones that could be the very containers that they stand for
        self._in_place_of: dict[int, set[int]] = {}  # and by container, which stand in its place
        self._changed: list[tuple[list[Any], Location | None]] = []  # what those stand for that are changed
        self._copied: dict[int, Any] = {}  # containers of which lists that grow hold copies
        self._compared = set[int]()  # the arguments of which it asks whether they are containers from outside
        self._reached = set[int]()  # what is reached from results and from what is put elsewhere
        self.variables: dict[int, Any] = {}  # of which a tensor stands for one
        self.found_in: dict[Any, places.Recalled] = {}  # the places that branches write to, by their code
        self._late: list[Any] = []  # containers that calls in branches and loops are given

    def own(self) -> list[Any]:
        """What holds containers for this only."""
        return [self._several, self._changed, self._copied, self.origins, self._late, self.fillers, self.found_in]

    def forget(self) -> None:
        self._several, self._changed, self._copied, self.origins, self._late, self.fillers = {}, [], {}, {}, [], {}
        self.found_in = {}

    @property
    def by_identity(self) -> bool:
        return self.memory.by_identity

    def stands_for(self, new: Any, others: Sequence[Any]) -> None:
        every = [y for x in others for y in self._several.get(id(x), (None, [x]))[1]]
        self._several[id(new)] = new, every
        for y in every:
            self._in_place_of.setdefault(id(y), set()).add(id(new))
        self.depths[id(new)] = places.depth()
        if not any(map(places.is_new, others)):
            self._could_be_one.add(id(new))

    def is_one_of_several(self, x: Any) -> bool:
        return id(x) in self._several

    def _may_be(self, x: Any) -> set[int]:
        """The identities of the containers that this one may be when the program runs."""
        if not self._several:
            return set()
        those = {id(y) for y in self._several.get(id(x), (None, [x]))[1]}
        return those.union(*[self._in_place_of.get(i, ()) for i in those]) - {id(x)}

    def theirs(self, x: Any) -> str | None:
        """What a container is called that was there before; None for others."""
        return None if id(x) in self.made or id(x) in self._several else reads.label(x)

    def is_reachable(self, which: Collection[int]) -> bool:
        """Whether the function may still use one of these objects."""
        return bool(which) and aliases.is_reachable(which, [*self._late, *[p.get() for p, _ in self.log.values()]])

    def compared(self, a: Any, b: Any) -> None:
        """The function asks whether these are one."""
        if self.variables and not self.by_identity and any(id(x) in self.variables for x in (a, b)):
            if isinstance(a, Operand) and isinstance(b, Operand):
                raise Identities
        if type(a) is type(b) and a is not b and id(b) in self._may_be(a):
            if self.by_identity:
                raise refused("two containers are compared that are one, or not, as a tensor decides", user_frame(3))
            raise Identities
        if type(a) is type(b) is Tensor and a is not b and self._may_be_one(a, b):
            said = "it is asked whether a tensor at a place that changes is another one from outside"
            raise refused(said, user_frame(3))
        self.asks_identity |= id(a) in self.given and id(b) in self.given
        for x, y in ((a, b), (b, a)):
            if id(x) in self.given and (name := self.theirs(y)) is not None:
                if given_at(self.given[id(x)]) is y:
                    raise refused(f"{name} is an argument too, and it is asked whether it is", user_frame(3))
                self._compared.add(id(x))

    def _may_be_one(self, a: Tensor, b: Tensor) -> bool:
        """Whether one is an input that stands for what is at a place, and the other a tensor from outside."""
        inputs = {v for _, v in self.moving}
        from_outside = [type(x._a) is not Value or x._a.node is None for x in (a, b)]
        places = [type(x._a) is Value and x._a in inputs for x in (a, b)]
        return all(from_outside) and places[0] != places[1]

    def mixed(self, variables: Sequence[Any]) -> None:
        """Several Variables become one tensor, which is that of one of them."""
        self.variables.update({id(v): v for v in variables})
        if not self.by_identity and len({tuple(v.shape) for v in variables}) > 1:
            raise Identities

    def assigned(self, x: Any) -> None:
        """A tensor is to be assigned, which may stand for one of several Variables."""
        if self.variables and not hasattr(x, "_slice_of"):
            if not self.by_identity:
                raise Identities
            raise refused("one of several Variables is assigned, and which it is a tensor decides", user_frame(3))

    def looked_at(self, f: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Tapes and optimizers are given Variables, or what stands for one of several."""
        module, name = f.__module__, getattr(f, "__name__", "")
        if not self.by_identity and module.startswith(("tracejit.autodiff", "tracejit.optimizers")):
            sources = [*(args if name == "watch" else args[1:]), *kwargs.values()]
            if "optimizers" in module or any(type(x) is Tensor for x in flatten(sources)[0]):
                raise Identities

    def is_copied(self, x: Any) -> None:
        if id(x) not in self.made:
            raise refused(f"a {type(x).__name__} that others may hold is put into a list that grows", user_frame(3))
        self._copied[id(x)] = x

    def changes_several(self, owner: Any, summed: bool = False) -> None:
        if id(owner) in self._copied:
            raise refused(f"a {type(owner).__name__} in a list that grows is changed", user_frame(3))
        if id(owner) in self._several:
            if not self.by_identity and id(owner) in self._could_be_one:
                raise Identities
            self._changed.append((self._several[id(owner)][1], user_frame(3)))
            self.origins.pop(id(owner), None)
        if not summed and self.is_reachable(self._may_be(owner)):
            if not self.by_identity:
                raise Identities
            raise refused("a container is changed that others may be, and which ones a tensor decides", user_frame(3))

    # --- the end ------------------------------------------------------------------------------------------------------
    def check_written(self, written: Sequence[Any]) -> None:
        """A Variable is assigned, which others in the function stand for."""
        if not self.by_identity and any(id(v) in self.variables for v in written):
            raise Identities

    def check_given(self, changed: set[int]) -> None:
        """An argument that is a container, of which the trace has its own, is not changed and reached otherwise."""
        if calling.arguments is None or len(self.given) <= NEVER_SHARED:
            return
        found = list[tuple[Path, list[Any]]]()
        for i, path in self.given.items():
            x = given_at(path)
            name = reads.label(x)
            if name is not None and "defaults__[" not in name and (i in changed or id(x) in changed):
                raise refused(f"{name} is an argument too, and is changed", None)
            if isinstance(x, (list, dict)):
                every = i in changed or i in self._compared
                others = [y for y in reads.containers() if y is not x and (every or id(y) in changed)]
                others = [y for y in others if self.theirs(y)]
                found += [(path, others)] * bool(others)
        self.apart = Apart(found) if found else None

    def keepers(self, returned: Any, changed: set[int], put_elsewhere: Sequence[Any]) -> Callable[[Any], bool]:
        """What says of a container that is returned whether others hold it when the function has ended: its caller, or
        what the function has put it into."""
        every = changed | set(self.given)
        put = _reached([*self._late, *put_elsewhere])
        found = _objects([returned])
        self._reached = put | set(found)
        every |= _reached([v for x in found.values() if type(x) is Chosen for v in x.values])
        several = {i: set(map(id, among)) for i, (_, among) in self._several.items() if i in self._reached}
        every |= put.union(*several.values())

        def held(x: Any) -> bool:
            if id(x) in every or self.theirs(x) is not None:
                return True
            among = several.get(id(x), set())
            return not (among <= self.made.keys() and self._reached.isdisjoint(self._may_be(x)))

        return held

    def tell_apart(self, outside: Outside) -> None:
        """Of the containers that stand for several and that are kept, find what tells which ones they are, where it
        counts: others hold these too."""
        for several, loc in self._changed:
            if any(id(x) in outside for x in several):
                raise refused("a container is changed that is one of several, and which it is a tensor decides", loc)
        todo = []
        for i, (x, every) in self._several.items():
            if i in self._reached:
                others = any(id(y) in outside for y in every) or not self._reached.isdisjoint(self._may_be(x))
                todo += [i] * others
        while todo:
            if (i := todo.pop()) not in self.origins:
                if not self.by_identity:
                    raise Identities
                raise refused("one of several containers is kept, and which it is a tensor decides", None)
            if i not in self.told_apart:
                self.told_apart[i] = self.origins[i]
                todo += [k for k in map(id, self.told_apart[i].containers()) if k in self._several]


def _reached(values: list[Any]) -> set[int]:
    """The identities of all objects in these."""
    return set(_objects(values))


def _objects(values: list[Any]) -> dict[int, Any]:
    seen = dict[int, Any]()
    while values and len(seen) < MANY:
        x = values.pop()
        if id(x) not in seen:
            seen[id(x)] = x
            values += parts_of(x)
    return seen
