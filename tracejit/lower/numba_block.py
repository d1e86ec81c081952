"""The units of a block as lines: single numbers where they stand, conditions in the statements that ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracejit.ir.graph import Graph, Value
from tracejit.lower.block import Block
from tracejit.lower.checkunit import CheckUnit
from tracejit.lower.numba_dialect import CPU, Dialect
from tracejit.lower.numba_main import Lines, Naming, forms_of, is_half
from tracejit.lower.numba_scalar import NumbaScalar
from tracejit.lower.numba_single import Assignment, Outside, Single, in_order, is_name, single
from tracejit.lower.units import BasesUnit, LoopUnit, Unit


@dataclass
class Operand:
    """What a region's parameter stands for.

    text    its name, or an expression
    scalar  whether it is a NumPy scalar
    free    whether nothing else needs its name
    value   what it is, if that is known
    wish    how the user calls it
    """

    text: str
    scalar: bool
    free: bool
    value: object = None
    wish: str | None = None


@dataclass
class Frame:
    """A block whose units are being written: those still to come, and values whose names its code may set anew."""

    block: Block
    own: set[Value]
    later: list[Unit]


class Blocks(Lines):
    """Writes the units of blocks. Names are set anew, arrays are never written to twice."""

    def __init__(self, graph: Graph, naming: Naming, dialect: Dialect = CPU) -> None:
        super().__init__(graph, naming, dialect)
        self.frames: list[Frame] = []
        self.depth = 0  # how many regions are around
        self.inside = False  # a function of single numbers, which Numba compiles
        self.m: NumbaScalar = Outside(self.helpers)
        self.awaited: set[Value] = set()  # results of regions that have to be scalars
        self.expected: Value | None = None  # the condition that comes next
        self.conditions: dict[Value, str] = {}

    # --- blocks -------------------------------------------------------------------------------------------------------
    def block(self, b: Block, own: set[Value]) -> None:
        """The lines of a block's units."""
        self.sources(b)
        frame = Frame(b, own | {v for u in b.units for v in u.writes}, list(b.units))
        self.frames.append(frame)
        for u in b.units:
            frame.later.pop(0)
            self.unit(u, b)
            self._settled(u.writes)
        self.frames.pop()

    def _settled(self, values: Sequence[Value]) -> None:
        """What regions have to hand on as scalars becomes so; sizes get names."""
        for v in values:
            if v in self.awaited and v not in self.scalars:
                self.out.line(f"{self.names[v]} = {self.names[v]}[()]")
                self.scalars.add(v)
        if not self.inside:
            self.sizes_found(values)

    def unit(self, u: Unit, block: Block) -> None:
        if all(v in self.names for v in u.writes) and copies(u) and self.depth:
            return  # other names of what is there
        if single(u) and self.dialect is CPU and (self.depth or self._steers(u)):
            assert isinstance(u, LoopUnit)
            self._single(u)
        else:
            super().unit(u, block)

    def _steers(self, u: Unit) -> bool:
        """Whether only control flow reads the results of a unit."""
        frame = self.frames[-1]
        readers = [r for r in frame.later if not set(u.writes).isdisjoint(r.reads)]
        steers = all(isinstance(r, (BasesUnit, CheckUnit)) for r in readers)
        return bool(readers) and steers and set(u.writes).isdisjoint(frame.block.graph.results)

    def _single(self, u: LoopUnit) -> None:
        """The assignments of single numbers."""
        frame = self.frames[-1]
        fresh = {v for v in u.writes if v not in self.names}
        pairs = Single(self, self.setting(self.label), u.instance, self.m).pairs(fresh)
        self.scalars.update(u.writes)
        known = []
        for v, text, e in pairs:
            if v in fresh and e.value is not None:
                self.literals[v], self.names[v] = e.value, text
                continue
            if v is self._next_condition(frame) and len(pairs) == 1:
                self.conditions[v] = text
                self.said_at(e.line)
                return
            known.append(Assignment(self.label(v), text, e.line if e.args else None))
        self.assign(known)

    def _next_condition(self, frame: Frame) -> Value | None:
        """The value that the next statement asks for and nothing else reads."""
        if not frame.later:
            return self.expected
        u = frame.later[0]
        wanted: Value | None = None
        if isinstance(u, BasesUnit) and u.node.op.name == "cond":
            wanted = u.bases[0] if u.bases[0] not in u.bases[1:] else None
        elif isinstance(u, CheckUnit) and u.inputs[0] is not None:
            wanted = u.inputs[0].base
            if any(x is not None and x.base is wanted for x in u.inputs[1:]):
                return None
        read = any(wanted in r.reads for r in frame.later[1:]) or wanted in frame.block.graph.results
        return None if read else wanted

    def test(self, v: Value) -> str:
        return self.conditions.pop(v) if v in self.conditions else self.label(v)

    def assign(self, pairs: Sequence[Assignment]) -> None:
        """Names get their new values, all of them from the old ones."""
        changed = [x for x in pairs if x.name != x.text]
        rows, rest = [x for x in changed if not is_name(x.name)], [x for x in changed if is_name(x.name)]
        ordered = in_order(rest)
        for x in [*rows, *(ordered or ())]:
            self.said_at(x.line)
            self.out.line(f"{x.name} = {x.text}")
        if ordered is None:
            self.said_at(rest[0].line)
            self.out.line(f"{', '.join(x.name for x in rest)} = {', '.join(x.text for x in rest)}")

    # --- operands and results -----------------------------------------------------------------------------------------
    def operands(self, u: BasesUnit) -> list[Operand]:
        out = []
        for i, (v, base) in enumerate(zip(u.node.inputs, u.bases, strict=True)):
            text = self.conditions.pop(base, None) or self.shaped(v, base)
            free = text == self.names.get(base) and self._is_free(base, [*u.bases[:i], *u.bases[i + 1 :]])
            if not is_name(text) and v.shape != base.shape:
                name = self.local.new(self.wish(v))
                self.out.line(f"{name} = {text}")
                text, free = name, False
            value = self.literals.get(base) if v.shape == base.shape else None
            wish = next((self.wishes[x] for x in forms_of(v) if x in self.wishes), None)
            scalar = base in self.scalars and not v.shape and not base.shape
            out.append(Operand(text, scalar, free, value, wish))
        return out

    def _is_free(self, v: Value, others: Sequence[Value]) -> bool:
        """Whether nothing else reads a value, so that its name can pass on to what comes of it."""
        frame = self.frames[-1]
        if v not in frame.own or v in others or v in frame.block.graph.results:
            return False
        return is_name(self.names[v]) and not any(v in r.reads for r in frame.later)

    def is_read(self, v: Value) -> bool:
        """Whether a value is a result, or still to be read."""
        frame = self.frames[-1]
        return v in frame.block.graph.results or any(v in r.reads for r in frame.later)

    def bind(self, param: Value, text: str, scalar: bool) -> None:
        self.names[param] = text
        if scalar:
            self.scalars.add(param)

    def stands_for(self, param: Value, x: Operand) -> None:
        self.bind(param, x.text, x.scalar)
        if x.value is not None:
            self.literals[param] = x.value

    def result(self, o: Value, likes: Sequence[Value], operand: Operand | None, usual: str = "") -> str:
        """The name of a node's result: that of the operand which it replaces, or as the user calls the new values."""
        if o not in self.names:
            if operand is not None and operand.free:
                self.names[o] = operand.text
            else:
                wish = next((self.wishes[w] for v in (o, *likes) for w in _behind(v) if w in self.wishes), None)
                usual = usual or {"b": "flag", "i": "step", "u": "step"}.get(o.dtype.kind, "value")
                name = operand.text if operand is not None and is_name(operand.text) else usual
                wish = wish or (operand.wish if operand is not None else None)
                self.names[o] = self.local.new(wish or self.labels.get(o) or name)
        if plain(o):
            self.scalars.add(o)
        return self.names[o]


def plain(v: Value) -> bool:
    """Whether control flow carries a value as a scalar."""
    return not v.shape and not is_half(v.dtype)


def _behind(v: Value) -> Iterator[Value]:
    """A value, those of which it is another form, and those that a region makes it of."""
    for x in forms_of(v):
        yield x
    n = x.node
    for _, g in n.attrs if n is not None else ():
        if type(g) is Graph and x.index < len(g.results):
            yield from _behind(g.results[x.index])


def copies(u: Unit) -> dict[Value, Value]:
    """The results of a unit that does nothing but hand on parameters of its region, and these."""
    if not isinstance(u, LoopUnit):
        return {}
    found = {n.out: n.inputs[0] for n in u.group.nodes if n.op.name == "copy"}
    whole = len(found) == len(u.group.nodes) and all(q.node is None for q in found.values())
    whole = whole and all(u.layouts.place(v).base is v for v in found)
    return found if whole and found.keys() == set(u.writes) else {}
