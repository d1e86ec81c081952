"""Why a gradient is missing: what a tape notes beside its records, and the path from a source to a target in words."""

from __future__ import annotations

import linecache
import sys
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from types import CodeType, FrameType
from typing import Any

from tracejit.autodiff.reverse import Record
from tracejit.errors import Location, is_internal, location_in
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.op import Op
from tracejit.tensor import Operand, Variable

_SHOWN = 6  # operations of a path
_CODES = 4096


class Note:
    """A result that no gradient flows back from, though something watched leads to it.

    `parents` are ids of watched operands, which the tape holds, and other notes; no tensor is held.
    """

    __slots__ = ("op", "parents", "type", "where")

    def __init__(self, op: Op | Unlinked, parents: tuple[Any, ...], y: Operand, where: Place) -> None:
        self.op, self.parents, self.where = op, parents, where
        self.type = y.type

    def reason(self) -> str:
        if isinstance(self.op, Unlinked):
            return self.op.reason()
        if self.op.name == "stop_gradient":
            return "it stops gradients"
        if self.type.dtype.kind not in "fc":
            return f"its result is {self.type}, and only floating dtypes have derivatives"
        return "the operation has no gradient"

    def cut(self) -> Cut:
        return self.reason(), self.where


class Unlinked:
    """A call of a traced function, for a result that no gradient flows back from."""

    __slots__ = ("name", "graph", "number")
    vjp = jvp = None
    pure = True

    def __init__(self, name: str, graph: Graph, number: int) -> None:
        self.name, self.graph, self.number = name, graph, number

    def reason(self) -> str:
        """Which operation of the graph cuts all paths to the result."""
        leading = {p for p in self.graph.params if p.dtype.kind in "fc"}
        first: dict[Value, Node] = {}  # the operation that a value is cut off by
        for n in self.graph.nodes:
            cut = next((first[v] for v in n.inputs if v in first), None)
            leads = not leading.isdisjoint(n.inputs)
            for v in n.outs:
                if leads and n.op.vjp is not None and v.dtype.kind in "fc":
                    leading.add(v)
                elif leads or cut is not None:
                    first[v] = n if leads else cut  # type: ignore[assignment]
        node = first.get(self.graph.results[self.number])
        if node is None:
            return "its result does not depend on any floating argument"
        kind = "it stops gradients" if node.op.name == "stop_gradient" else f"it gives {node.out.type}"
        return f"inside, no gradient flows through `{node.op.name}`{_at(node.loc)}: {kind}"


Place = Location | tuple[CodeType, int] | None  # a tuple is one that nobody has asked for yet
_outside: dict[CodeType, bool] = {}  # whether code is the user's


def _here(skip: int) -> Place:
    """The instruction of the user's that runs now."""
    f: FrameType | None = sys._getframe(skip)
    while f is not None:
        code = f.f_code
        outside = _outside.get(code)
        if outside is None:
            if len(_outside) >= _CODES:
                _outside.clear()
            outside = _outside[code] = not is_internal(code.co_filename)
        if outside:
            return code, f.f_lasti
        f = f.f_back
    return None


def _made_at(y: Operand) -> Place:
    """The user's line that makes a result now."""
    a = y._a
    if type(a) is Value:
        return a.node.loc if a.node is not None else None
    return _here(4)


class Notes:
    """What a tape remembers of operations that its gradients do not go through."""

    __slots__ = ("found", "left")

    def __init__(self) -> None:
        self.found: dict[int, tuple[Callable[[], Operand | None], Note]] = {}
        self.left: list[tuple[int, str, Place]] = []  # values that were given to Python or NumPy

    def of(self, x: Any) -> Note | None:
        known = self.found.get(id(x))
        return known[1] if known is not None and known[0]() is x else None

    def add(
        self, op: Op | Unlinked, keys: Sequence[Operand], watched: Collection[int], outs: Sequence[Operand]
    ) -> None:
        """An operation through whose results `outs` no gradient flows."""
        parents: list[Any] = []
        cut = False
        for k in keys:
            if id(k) in watched:
                parents.append(id(k))
                cut = True
            elif self.found and (note := self.of(k)) is not None:
                parents.append(note)
        if not parents:
            return
        for y in outs:
            self.found[id(y)] = weakref.ref(y), Note(op, tuple(parents), y, _made_at(y) if cut else None)

    def leave(self, x: Operand, what: str) -> None:
        """The value of a watched tensor is read by Python or NumPy: what they make of it is not heard of."""
        if len(self.left) < 1000:
            self.left.append((id(x), what, _here(4)))


# --- paths ------------------------------------------------------------------------------------------------------------
Cut = tuple[str, Place]


class _Step:
    """How a search from the target came to something: the step after it, the operation between, whether that cuts."""

    __slots__ = ("node", "after", "name", "cut")

    def __init__(self, node: int | Note, after: _Step | None, name: str, cut: Cut | None) -> None:
        self.node, self.after, self.name, self.cut = node, after, name, cut

    def path(self) -> list[_Step]:
        """From the source to the target."""
        out, s = [], self
        while s.after is not None:
            out.append(s)
            s = s.after
        return out


class Trail:
    """What was computed from what while a tape listened, by ids: it holds no tensors.

    `dead` are records and numbers of operands for which a gradient was asked and was None.
    """

    def __init__(self, records: Sequence[Record], notes: Notes, dead: Collection[tuple[int, int]]) -> None:
        self.notes = {i: note for i, (y, note) in notes.found.items() if y() is not None}
        self.left = notes.left
        self.made: dict[int, tuple[str, list[tuple[int | Note, Cut | None]]]] = {}
        self.used: set[int] = {p for n in self.notes.values() for p in n.parents if type(p) is int}
        for at, r in enumerate(records):
            parents: list[tuple[int | Note, Cut | None]] = []
            for j, k in enumerate(r.keys):
                cut = ("its gradient for this operand is None", _line(r.outs[0])) if (at, j) in dead else None
                parents.append((self.notes.get(id(k)) or id(k), cut))
            self.used.update(map(id, r.keys))
            self.made.update(dict.fromkeys(map(id, r.outs), (r.op.name, parents)))

    def search(self, y: int, x: int) -> tuple[_Step | None, int]:
        """The way from x to y with the fewest cuts, if there is one; and how many things y is computed from."""
        todo: deque[_Step] = deque([_Step(self.notes.get(y, y), None, "", None)])
        seen: set[int | Note] = set()
        while todo:
            s = todo.popleft()
            node = s.node
            if node in seen:
                continue
            seen.add(node)
            if node == x:
                return s, len(seen)
            if type(node) is Note:
                name, above = node.op.name, [(p, None if type(p) is Note else node.cut()) for p in node.parents]
            else:
                name, above = self.made.get(node, ("", []))  # type: ignore[arg-type]
            for p, cut in above:
                step = _Step(p, s, name, cut)
                if cut is None:
                    todo.appendleft(step)
                else:
                    todo.append(step)
        return None, len(seen)

    # --- words --------------------------------------------------------------------------------------------------
    def connection(self, y: int, x: int) -> str:
        """That a gradient flows from y to x, and through what."""
        step, _ = self.search(y, x)
        return f"the target depends on the source: {_route(step.path() if step is not None else [])}"

    def reason(self, y: int, x: int, target: str, source: str) -> str:
        """Which operation keeps the gradient from flowing from y to x, which is watched."""
        step, above = self.search(y, x)
        if step is not None:
            path = step.path()
            cuts = [f"the gradient is cut at `{s.name}`{_at(s.cut[1])}: {s.cut[0]}" for s in path if s.cut is not None]
            return "; ".join(cuts[:3] or ["every operation between has a gradient"]) + f"\n  path: {_route(path)}"
        for t, what, where in reversed(self.left):
            if self.search(t, x)[0] is not None:
                return (
                    f"the value of {'the source' if t == x else 'a tensor that follows from the source'} was taken by "
                    f"{what}{_at(where)}: what Python or NumPy compute from it is a constant to the tape"
                )
        if x not in self.used:
            return f"no operation that the tape heard after watching {source} uses it"
        if above == 1:
            return (
                f"the target, {target}, is no result of an operation that the tape heard: it was made before, while "
                "the tape did not record, or from other values"
            )
        return "nothing that the target is computed from follows from the source"


def _line(y: Operand) -> Location | None:
    return y._a.node.loc if type(y._a) is Value and y._a.node is not None else None


# --- words ------------------------------------------------------------------------------------------------------------
def named(x: Operand) -> str:
    """A tensor or Variable in a sentence."""
    return x._label() if isinstance(x, Variable) else f"a tensor {x.type}"


def _at(where: Place) -> str:
    if where is None:
        return ""
    if isinstance(where, tuple):
        where = location_in(*where)
    text = linecache.getline(where.file, where.line).strip()
    return f" at {where}" + (f", `{text}`" if text else "")


def _route(path: Sequence[_Step]) -> str:
    names = [s.name for s in path]
    if len(names) > _SHOWN:
        names = [*names[: _SHOWN // 2], f"… {len(names) - _SHOWN} more …", *names[-_SHOWN // 2 :]]
    return " → ".join(["source", *names, "target"]) if names else "the target is the source"


def unwatched(x: Operand, automatic: bool) -> str:
    """Why a source is not watched."""
    if isinstance(x, Variable):
        if not x.trainable:
            return f"{named(x)} is not trainable, so it is not watched; call tape.watch(v) before it is used"
        if not automatic:
            return f"{named(x)} is not watched: the tape has watch_accessed_variables=False; call tape.watch(v)"
        return f"{named(x)} was not read while the tape recorded"
    return (
        f"{named(x)} is not watched: call tape.watch(x) in the tape's block, before it is used, and compute the target "
        "from that very tensor"
    )
