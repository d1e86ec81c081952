"""Listens while a function is traced to what it does to Python objects, and makes a program of it."""

from __future__ import annotations

import collections
import contextvars
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracejit.autograph import effects, growing, items, places, reads
from tracejit.autograph.attempts import Ahead, Memory, MovingPlaces, TensorItems, Unheard
from tracejit.autograph.deferring import Deferring
from tracejit.autograph.effects import Effect, Effects, Moving, Path, Pending, follow
from tracejit.autograph.holders import Note, Outside, held_elsewhere, parts_of
from tracejit.autograph.places import ALL, Place
from tracejit.autograph.recipes import Recipes, refused
from tracejit.autograph.values import Optional, Undefined
from tracejit.context import context
from tracejit.errors import ConversionError, Location, user_frame
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, as_dtype, int64
from tracejit.runtime.guards import raw
from tracejit.runtime.interrupts import whole_call
from tracejit.tensor import Tensor, Variable, wrap
from tracejit.tracing import NeedStatic, Trace
from tracejit.tree import flatten

TAKING = {"pop", "popleft", "popitem"}


class Raw(Note):
    """An effect as it was heard: `kind` is "set", "item", "delete", "whole", "diff" or the name of a method."""

    __slots__ = ("kind", "owner", "key", "value", "loc")

    def __init__(self, kind: str, owner: Any, key: Any, value: Any, loc: Location | None) -> None:
        self.kind, self.owner, self.key, self.value, self.loc = kind, owner, key, value, loc


class Recorder(Deferring):
    """The listener of one trace."""

    def __init__(self, trace: Trace, memory: Memory, arguments: Any) -> None:
        super().__init__()
        self.trace, self.memory = trace, memory
        self.log: places.Log = {}
        self.made: dict[int, Any] = {}
        self.pending = Pending()
        self.moving: list[tuple[Moving, Value]] = []
        self._raws: list[Raw | None] = []
        self._set_at: dict[tuple, int] = {}
        self._open: Raw | None = None
        self._restored = False
        self.kept_variables: list[Variable] = []  # made in the trace, and outliving it
        self.given: dict[int, Path] = {}  # containers among the arguments, in the place of which the call has its own
        self.detached: ConversionError | None = None  # why tapes would not know how values came about
        self._known = set[int]()  # objects among the arguments
        self.built = set[int]()  # the identities of objects of libraries' classes that the function makes
        self.tokens: list[contextvars.Token[Any]] = []  # of context variables that it sets
        self.handed: dict[int, Any] = {}  # what libraries' objects are given that the function makes
        self.alone: dict[int, Any] = {}  # by identity, what only the function holds of what libraries' code has given
        self.said = set[int]()  # the identities of libraries' objects that the program calls for what they do
        self.outside: Outside | None = None  # what others hold, of what effects and results are made of
        self.draws_arrays = False  # whether arrays of random numbers are tensors in it
        self.items = set[tuple]()  # the keys of tensors in containers that are inputs
        self._on_arguments = set[Path]()
        self._returned: list[Any] = []
        self._look_at(arguments, ())
        for a in memory.ahead.values():
            a.begin()

    def _look_at(self, x: Any, path: Path) -> None:
        _, structure = flatten(x)
        if structure.kind is None:
            self._known.add(id(x))
            return
        self.given[id(x)] = path
        for k in structure.keys:
            self._look_at(follow(x, (k,)), (*path, k))

    # --- inputs -------------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Put inputs of the trace at the places that are known to move."""
        others = {k: p for k, p in self.memory.moving.items() if k not in self.memory.fixed}
        inside = [x for ref in self.memory.inside.values() if (x := ref()) is not None]
        self.items = items.stand_in(inside, self.memory.single, others, self._input, self.memory.one_each)
        if not self.memory.one_each:
            self.trace.items = {v for _, v in self.moving}
        for key, place in list(self.memory.moving.items()):
            there = place.now()
            if there is None:  # another object may come to have its key
                del self.memory.moving[key]
                continue
            if self.memory.is_constant(key, there.get()) or not _moves(there.get()):
                continue
            t = self._input(key, place, there.get())
            owner = there.owner
            places.remember(places.Items(owner) if key[0] == "items" else there)
            reads.written(key, owner)
            there.put(t)
        for key, place in self.memory.varying.items():
            there = place.now()
            if there is None or key in self.memory.moving or self.memory.is_constant(key, there.get()):
                continue
            if _moves(there.get()):
                reads.stand_in(key, self._input(key, place, there.get()))

    def _input(self, key: tuple, place: Place, value: Any) -> Tensor:
        m = Moving(place, value)
        t = wrap(self.trace.capture(m, m._a, _type_of(m)))
        self.moving.append((m, t._a))
        if m.python is not None:
            self.trace.scalars[t._a] = key  # type: ignore[assignment]
            if m.python is int:
                self.trace.numbers[t._a] = m.limits
            if key in self.memory.open:
                self.trace.open.add(key)
            if m.python is int:
                t = self.trace.emit(OPS["cast"], (t._a,), (("dtype", int64), ("weak", True)))
        return t

    # --- hearing ------------------------------------------------------------------------------------------------------
    @property
    def elsewhere(self) -> bool:
        """Whether operations go to a part of the trace: a branch, a step of a loop."""
        return context.trace is not self.trace

    def _unheard(self, what: str) -> bool:
        if self.elsewhere and not places.within_log():
            said = f"{what} in a function that is traced as part of an operation"
            error = Unheard(said, remedy="return the value, and do it where the function is called")
            error.where = [loc] if (loc := user_frame(3)) is not None else []
            raise error
        return self.elsewhere

    def sets(self, place: Place) -> None:
        self.changes_several(place.owner)
        if id(place.owner) in self.made or self._unheard(f"{place.name} is set"):
            return
        self.settle()
        before = self._set_at.get(place.key)
        if before is not None:
            self._raws[before] = None
        self._set_at[place.key] = len(self._raws)
        self._raws.append(Raw("set", place, None, None, user_frame(2)))

    def changes(self, owner: Any, key: Any, deleted: bool, summed: bool = False) -> None:
        self.changes_several(owner, summed)
        if summed:
            self.carried(owner)
        if id(owner) in self.made or self._unheard("an item of a container is set"):
            return  # what the function made itself is seen as it is in the end
        self.settle()
        kind = "delete" if deleted else "diff" if key is ALL or isinstance(key, slice) else "item"
        raw = Raw(kind, owner, key, places.snapshot(owner) if kind == "diff" else None, user_frame(2))
        self._raws.append(raw)
        self._open = raw

    def calls(self, owner: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        self.changes_several(owner)
        if id(owner) not in self.made and not self._unheard(f"{name}() of a {type(owner).__name__} is called"):
            self.settle()
            self._raws.append(Raw(name, owner, None, (args, kwargs), user_frame(2)))

    def retract(self, owner: Any) -> None:
        """What was heard last of a container has not happened."""
        if self.elsewhere or id(owner) in self.made:
            return
        self._open = None
        if self._raws and (last := self._raws[-1]) is not None and last.owner is owner:
            self._raws.pop()

    def seen_ahead(self, iterator: Any) -> Ahead:
        return self.memory.ahead.setdefault(id(iterator), Ahead(iterator))

    def settle(self) -> None:
        """What an assignment that was announced has done."""
        raw, self._open = self._open, None
        if raw is None:
            return
        if growing.is_grown(raw.owner):  # whose items stand no longer one by one
            raw.kind, raw.key, raw.value = "whole", None, places.snapshot(raw.owner)
            self._keeps_items(raw)
        elif raw.kind == "item":
            there = raw.key in raw.owner if isinstance(raw.owner, dict) else True
            raw.value = raw.owner[raw.key] if there else Undefined(repr(raw.key))
        elif raw.kind == "diff":
            raw.kind, raw.key, raw.value = _difference(raw.owner, raw.value)
            if raw.kind == "whole":
                self._keeps_items(raw)

    def _keeps_items(self, raw: Raw) -> None:
        """A container that is given what it holds as a whole keeps items of before, which count as read."""
        before = self.log.get(("items", id(raw.owner)))
        if id(raw.owner) not in self.made and id(raw.owner) not in self.given:
            reads.from_outside(raw.owner)
        reads.items_kept(raw.owner, raw.value if before is None else before[1])

    def takes(self, owner: Any, value: Any, loc: Location | None) -> None:
        """A value was taken out of a container: was it there before the function ran, it is not the next call's."""
        found = self.log.get(("items", id(owner)))
        old = found[1] if found is not None else owner
        value = value[1] if isinstance(old, dict) and type(value) is tuple else value  # of popitem
        there = old.values() if isinstance(old, dict) else old
        if any(value is y for y in there) and id(owner) not in self.made:
            self._raws.append(Raw("taken", owner, None, value, loc))

    # --- the program --------------------------------------------------------------------------------------------------
    def finish(self, returned: list[Any]) -> tuple[Effects | None, list[Value]]:
        """The effects, and the values in the graph that they take; the places hold again what they held before.

        Objects that only `returned` holds, of those the function returns, are the call's own.
        """
        self._returned = returned
        self.settle()
        self._check_context()
        self.check_given(self.changed())
        if not (self._raws or self._deferred or self.trace.made or self.moving or self._changed or self._several):
            own = [(p, p.get()) for p, _ in self.log.values() if id(p.owner) in self.made]
            self.restore()
            for p, value in own:
                p.put(value)
            self.made = {}
            self.forget()
            return None, []
        for r in self._raws:
            if r is not None and r.kind == "set":
                r.value = r.owner.get()
        finals = [(p, p.get()) for p, _ in self.log.values()]
        self.restore()
        if self._deferred:
            self.check_deferred(self._outside(finals))
        self.outside = outside = self._outside(finals)
        for p, value in finals:
            if id(p.owner) not in outside:
                p.put(value)
        raws = [r if r is not None and _owner(r) in outside else None for r in self._raws]
        self._check_items(raws)
        self._check(raws)
        self._check_moving(raws)
        self.tell_apart(outside)
        self._check_wholes()
        self.kept_variables = self._kept(raws, outside)
        values = Recipes(self.trace, outside, self.given, self._on_arguments, self.told_apart)
        values.inputs = {v: m for m, v in self.moving if m.python is None}
        steps = [None if r is None else self._effect(r, values) for r in raws]
        late = [values.of(x) for x in self._late]
        self.trace.builder.loc = None
        used = {v for n in self.trace.builder.nodes for v in n.inputs} | set(values.results)
        moving = [m for m, v in self.moving if v in used or m.limits.narrowed or m in values.kept]
        made = Effects(steps, self.pending, moving, len(values.results), self._on_arguments, late)
        there = any(steps) or made.moving or self._deferred or self.kept_variables
        self._raws, self.made, self.log, self._returned = [], {}, {}, []  # what only these hold
        self.handed = {}
        self.forget()
        return (made if there else None), values.results

    def changed(self) -> set[int]:
        """The identities of containers around the function that it changes, and of arguments that hold such."""
        every = {_owner(r) for r in self._raws if r is not None and r.kind != "taken"}
        every = (every | {id(t.owner) for t in self._deferred}) - set(self.made)
        paths = [self.given[i] for i in every if i in self.given]
        return every | {i for i, p in self.given.items() if any(q[: len(p)] == p for q in paths)}

    def keeps(self, returned: Any) -> Callable[[Any], bool]:
        """What says of a container that is returned whether others hold it when the function has ended."""
        self.settle()
        put = [r.owner.get() if r.kind == "set" else r.value for r in self._raws if r is not None]
        return self.keepers(returned, self.changed(), put)

    def moving_among(self, results: Iterable[Value]) -> list[Moving]:
        """The inputs that the graph takes, which has these results."""
        every = {v for n in self.trace.builder.nodes for v in n.inputs} | set(results)
        return [m for m, v in self.moving if v in every or m.limits.narrowed]

    def restore(self) -> None:
        """Let the places hold what they held before the trace."""
        if not self._restored:
            whole_call(self._restore)

    def _check_context(self) -> None:
        """Context variables that the function sets it has to reset."""
        for t in self.tokens:
            if not _is_reset(t):
                raise refused(f"the context variable {t.var.name!r} is set", None)

    def _restore(self) -> None:
        self._restored = True
        for t in reversed(self.tokens):
            if not _is_reset(t):
                t.var.reset(t)
        places.restore(self.log)
        for k, (p, _) in list(self.log.items()):
            self.log[k] = p, None

    @property
    def arguments(self) -> set[int]:
        """The identities of the objects and containers among the arguments."""
        return {*self._known, *self.given}

    def _outside(self, finals: Any) -> Outside:
        known = self.arguments | {id(p.owner) for p, _ in self.log.values() if p.key[0] == "global"}
        ours = [self._raws, self.log, finals, self.made, self.handed, self.trace.made, self._returned, *self.own()]
        return held_elsewhere(ours, reads.settled(), known)

    def _check(self, raws: Iterable[Raw | None]) -> None:
        for r in raws:
            if r is not None and r.kind == "taken":
                raise refused("a value is taken out of a container that outlives the call", r.loc)

    def _check_wholes(self) -> None:
        """Of a container that is read as a whole only tensors are inputs."""
        moving = [m.place for m, _ in self.moving if m.place.key not in self.items]
        found = {p.key for p in moving if reads.is_whole(p.now())}
        if found:
            raise NeedStatic(found, set())  # type: ignore[arg-type]

    def _check_items(self, raws: Sequence[Raw | None]) -> None:
        """Tensors in containers that are changed are inputs, if all of them are read, or some are taken out."""
        if self.memory.as_they_are:
            return
        changed = {id(x): x for x in self._changed_containers(raws)}
        taken = {id(r.owner) for r in raws if r is not None and r.kind == "taken" and items.is_known(r.value)}
        every = [x for i, x in changed.items() if i in taken or reads.is_everything_read(x)]
        known = self.memory.inside
        inside = [x for x in every if not (id(x) in known and known[id(x)]() is x) and items.tensors_in(x)]
        single = [p for p in self._tuples(raws) if p.key not in self.memory.single and id(p.owner) not in known]
        if inside or single:
            raise TensorItems(inside, single)

    @staticmethod
    def _tuples(raws: Sequence[Raw | None]) -> list[Place]:
        """The places of tuples with tensors that are read and replaced."""
        every = [r.owner if r.kind == "set" else _item_place(r) for r in raws if r is not None]
        there = [p for p in every if p is not None and reads.is_read(p.key) and isinstance(p.get(), tuple)]
        return [p for p in there if items.holds_tensors(p)]

    def _changed_containers(self, raws: Sequence[Raw | None]) -> list[Any]:
        every = [r.owner for r in raws if r is not None and r.kind != "set"] + [t.owner for t in self._deferred]
        return [x for x in every if id(x) not in self.given]

    def _kept(self, raws: Sequence[Raw | None], outside: Outside) -> list[Variable]:
        """The Variables made in the trace that outlive it."""
        if not self.trace.made:
            return []
        seen: set[int] = set()
        todo = [r.value for r in raws if r is not None]
        while todo:
            x = todo.pop()
            if id(x) not in seen and id(x) not in outside:
                seen.add(id(x))
                todo += parts_of(x)
        return [v for k, (v, _) in self.trace.made.items() if k in seen or k in outside]

    def _check_moving(self, raws: Iterable[Raw | None]) -> None:
        """Numbers and tensors at places that are written to are inputs, not constants."""
        found: dict[tuple, Place] = {}
        told = {*[m.place.key for m, _ in self.moving], *self.memory.moving, *self.memory.fixed}
        for r in raws:
            if r is None or _owner(r) in self.given:  # what was there is an argument
                continue
            place = r.owner if r.kind == "set" else _item_place(r)
            if place is not None and place.key not in told and _moves(place.get()) and not _is_computed(place):
                found[place.key] = place
        if found:
            raise MovingPlaces(list(found.values()))

    def _effect(self, r: Raw, values: Recipes) -> Effect | None:
        values.loc = self.trace.builder.loc = r.loc
        path = self.given.get(_owner(r))
        if path is not None:
            self._on_arguments.add(path)
        if r.kind == "taken":
            return None
        if r.kind == "set":
            values.key(r.owner.at)
            do = effects.put if path is None else effects.put_field(r.owner.at)
            return Effect(do, r.owner.lasting(), path, [values.of(r.value)], r.loc, empties=True)
        if r.kind == "item":
            return Effect(effects.put_item(values.key(r.key)), r.owner, path, [values.of(r.value)], r.loc, empties=True)
        if r.kind == "delete":
            return Effect(effects.delete_item(values.key(r.key)), r.owner, path, [], r.loc)
        if r.kind == "whole":
            return Effect(places.refill, r.owner, path, [values.inside(r.value)], r.loc)
        args, kwargs = r.value
        if r.kind == "update" and args and type(args[0]) is dict and any(type(v) is Optional for v in args[0].values()):
            fills = [values.of(v) for v in args[0].values()]
            return Effect(effects.put_items([*map(values.key, args[0])]), r.owner, path, fills, r.loc, empties=True)
        fills = [values.of(x) for x in (*args, *kwargs.values())]
        return Effect(effects.call(r.kind, len(args), list(kwargs)), r.owner, path, fills, r.loc)


def _is_reset(t: contextvars.Token[Any]) -> bool:
    return repr(t).startswith("<Token used")


def _owner(r: Raw) -> int:
    return id(r.owner.owner) if r.kind == "set" else id(r.owner)


def _item_place(r: Raw) -> Place | None:
    return places.item_of(r.owner, r.key) if r.kind == "item" else None


def _difference(owner: Any, before: Any) -> tuple[str, Any, Any]:
    """What was done to a container, told from what it held before."""
    n = len(before)
    if isinstance(owner, list) and len(owner) >= n and all(x is y for x, y in zip(before, owner)):
        return "extend", None, ((owner[n:],), {})
    if isinstance(owner, set) and owner >= before:
        return "update", None, ((owner - before,), {})
    keeps_order = isinstance(owner, dict) and list(owner)[:n] == list(before)
    if keeps_order and not isinstance(owner, collections.Counter):
        changed = {k: v for k, v in owner.items() if k not in before or before[k] is not v}
        return "update", None, ((changed,), {})
    return "whole", None, places.snapshot(owner)


def _is_computed(place: Place) -> bool:
    """Whether a class of C's takes what is put there, which has to be a number."""
    name, cls = place.key[-1], type(place.owner)
    return place.key[0] == "attribute" and type(raw(cls, name)) is types.GetSetDescriptorType


def _moves(x: Any) -> bool:
    """Whether a value is one that an input can stand for."""
    if type(x) is Tensor:
        return type(x._a) is not Value
    return type(x) is float or (type(x) is int and -(2**31) <= x < 2**31)


def _type_of(m: Moving) -> TensorType:
    return TensorType(as_dtype(m._a.dtype), m._a.shape, m.python is not None)
