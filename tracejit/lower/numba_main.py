"""The lines of `main`: names of values and sizes, arrays as kernels take them, and a call for each unit."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracejit.errors import ArgumentError, Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Value
from tracejit.ir.text import walk
from tracejit.ir.types import DType
from tracejit.lower.block import Block
from tracejit.lower.checkunit import CheckUnit
from tracejit.lower.emit_numba import PARTS, emit
from tracejit.lower.numba_access import Placement, Size, place, place_parts, same
from tracejit.lower.numba_args import Argument, Setting, Written
from tracejit.lower.numba_dialect import CPU, Dialect
from tracejit.lower.numba_expr import Names, Writer
from tracejit.lower.numba_helpers import literal
from tracejit.lower.numba_host import array_text, check_lines, host_lines, numpy_type, tuple_text
from tracejit.lower.numba_lines import call_results, name_of, show_line, variables
from tracejit.lower.numba_product import emit_product
from tracejit.lower.numba_scalar import Helpers
from tracejit.lower.units import BasesUnit, CopyUnit, LoopUnit, NodeUnit, ProductUnit, Unit
from tracejit.passes.groups import is_scalar_constant

OTHERWISE = {"constant": "value", "slice": "part", "dim": "size"}  # than the op's name
FORMS = ("cast", "copy", "identity", "reshape", "complex")
INLINE = 256  # elements up to which a constant array is written out


@dataclass(frozen=True)
class Naming:
    """What `main` and its arguments are called.

    function  the user's function
    title     the first lines of main's docstring
    params    names of the graph's parameters
    states    names of the Variables behind the last results
    """

    function: str
    title: Sequence[str]
    params: Mapping[Value, str]
    states: Sequence[str] = ()


class Lines(ABC):
    """Writes the body of `main`, and the kernels that it calls.

    A single number is a NumPy scalar where it is an argument or is carried through control flow (`scalars`), else an
    array without axes, which a kernel has written.
    """

    def __init__(self, graph: Graph, naming: Naming, dialect: Dialect = CPU) -> None:
        self.graph, self.naming, self.dialect = graph, naming, dialect
        self.module = Names(taken=["main", "ml_dtypes", *dialect.taken])
        self.helpers = Helpers(dialect, self.module)
        self.local = Names(self.module)
        self.names: dict[Value, str] = {}
        self.scalars: set[Value] = set()
        self.wishes: dict[Value, str] = {}
        self.labels: dict[Value, str] = {}
        self.symbols: dict[str, str] = {}
        self.kernels: dict[str, str] = {}  # text with neutral names → name, and how it is launched
        self.functions: list[str] = []
        self.constants: list[str] = []
        self.extra: list[Value] = []
        self.allocated: set[Value] = set()  # of values that several units write parts of, and others
        self.literals: dict[Value, object] = {}
        self.out = Writer(1)
        self.learn(graph)

    # --- names --------------------------------------------------------------------------------------------------------
    def learn(self, graph: Graph) -> None:
        """How the user calls the values of a graph and its regions."""
        for g in walk(graph):
            wishes = variables(g.nodes)
            self.wishes |= wishes
            self.labels |= call_results(g.nodes) | wishes

    def label(self, v: Value) -> str:
        """The name of a value, or what else stands for it."""
        if v not in self.names:
            if v.node is not None and v.node.op.name == "constant":
                self._constant(v)
            else:
                self.names[v] = self.local.new(self.wish(v))
        return self.names[v]

    def wish(self, v: Value) -> str:
        forms = list(forms_of(v))
        found = next((self.labels[x] for x in forms if x in self.labels), None)
        last = forms[-1].node
        return found or (OTHERWISE.get(last.op.name, last.op.name) if last is not None else "value")

    def _constant(self, v: Value) -> None:
        assert v.node is not None
        array = v.node.attr("value").array
        if array is not None and array.size <= INLINE:
            self.names[v] = self.named_globally("CONSTANT")
            self.constants.append(f"{self.names[v]} = {array_text(array, v.dtype)}")
        else:
            self.names[v] = self.local.new("constant")
            self.extra.append(v)

    def named_globally(self, wish: str) -> str:
        """A name in the module that main does not use for anything else."""
        name = self.module.new(wish)
        while name in self.local.taken:
            name = self.module.new(wish)
        return name

    def called(self, v: Value) -> str:
        """What a kernel calls a value."""
        return self.wish(v) if v in self.literals else self.label(v)

    def number(self, v: Value) -> bool:
        """Whether a value is a NumPy scalar."""
        return v in self.scalars

    # --- sizes --------------------------------------------------------------------------------------------------------
    def size(self, d: Size) -> str:
        """A size as an expression of main's variables."""
        if not isinstance(d, Dim):
            return str(d)
        parts = []
        for m, c in sorted(d.terms.items(), key=lambda t: (not t[0], t[0])):
            factors = [*([str(c)] if c != 1 or not m else []), *[self._symbol(d, s) for s in m]]
            parts.append(" * ".join(factors))
        return " + ".join(parts).replace("+ -", "- ")

    def _symbol(self, d: Dim, name: str) -> str:
        kind, inner, k = d.opaque.get(name, ("<=", None, 0))
        if kind == "min":
            return f"min({self.size(inner)}, {k})"
        if kind == "with":
            return f"({self.size(k)} if {self.size(inner)} == 1 else {self.size(inner)})"
        if kind != "<=":  # which says of a symbol what it is never above
            return f"(({self.size(inner)}) {kind} {k})"
        if name not in self.symbols:
            raise ArgumentError(f"the size {name} is not known where Numba source needs it")
        return self.symbols[name]

    def shape(self, shape: Sequence[Size]) -> str:
        return tuple_text([self.size(d) for d in shape])

    def sizes_found(self, values: Sequence[Value]) -> None:
        """Lines that name the sizes which these values are the first to have."""
        for v in values:
            for axis, d in enumerate(v.shape):
                if not isinstance(d, Dim):
                    continue
                s = next(iter(d.symbols))
                if s not in self.symbols and d.same(Dim.symbol(s, 1)):
                    text = f"len({self.label(v)})" if axis == 0 else f"{self.label(v)}.shape[{axis}]"
                    self.symbols[s] = self.local.new("count")
                    self.out.line(f"{self.symbols[s]} = {text}")

    # --- arrays -------------------------------------------------------------------------------------------------------
    def given(self, a: Argument) -> str:
        """What `main` passes for a kernel's argument."""
        if a.value is None:
            assert a.size is not None
            return self.size(a.size)
        v, p = a.value, a.placement
        assert p is not None
        text = self.label(v)
        if self.number(v):
            return text
        if p.flat:
            text = f"{text}.reshape(-1)" if len(v.shape) != 1 else text
        elif not _equal(p.shape, v.shape):
            text = f"{text}.reshape({self.shape(p.shape)})"
        return f"{text}.view(np.uint16)" if is_half(v.dtype) else text

    def view(self, u: NodeUnit, i: int) -> str:
        """An operand of a host op, as an array of its own shape."""
        lay, v = u.inputs[i], u.node.inputs[i]
        assert lay is not None
        base = self._array(lay.base)
        put = place if lay.part is None else place_parts
        p = put(lay.base.shape, v.shape, lay.strides, lay.offset - (lay.part or 0))
        if p.flat or any(len(x.terms) > 1 for x in p.indices):
            offset = self.size(lay.offset)
            strides = tuple_text([f"{self.size(s)} * {v.dtype.size}" for s in lay.strides])
            flat = f"{base}.reshape(-1)" + ("" if lay.part is None else f".view({numpy_type(v.dtype)})")
            flat += "" if offset == "0" else f"[{offset}:]"
            return f"np.lib.stride_tricks.as_strided({flat}, {self.shape(v.shape)}, {strides})"
        return self._shaped(base, lay.base, v, p) + PARTS[lay.part]

    def _array(self, v: Value) -> str:
        """A buffer as main's code names it; one value everywhere is written as such."""
        if v.node is not None and v.node.op.name == "constant" and v.node.attr("value").array is None:
            return f"np.full({self.shape(v.shape)}, {v.node.attr('value').splat.item()!r}, {numpy_type(v.dtype)})"
        return f"np.asarray({self.label(v)})" if self.number(v) else self.label(v)

    def _shaped(self, text: str, base: Value, v: Value, p: Placement) -> str:
        if not _equal(p.shape, base.shape):
            text = f"{text}.reshape({self.shape(p.shape)})"
        parts, order = [], []
        for x, d in zip(p.indices, p.shape, strict=True):
            if not x.terms:
                parts.append(self.size(x.start))
                continue
            axis, step = x.terms[0]
            order.append(axis)
            whole = x.axis is not None and same(d, v.shape[axis])
            end = x.start + step * v.shape[axis]
            last = "" if isinstance(end, int) and end < 0 else self.size(end)
            parts.append(":" if whole else f"{self.size(x.start)}:{last}:{self.size(step)}")
        if any(x != ":" for x in parts):
            text += f"[{', '.join(parts)}]"
        if order != sorted(order):
            rank = {a: k for k, a in enumerate(sorted(order))}
            text += f".transpose({tuple_text([str(order.index(a)) for a in sorted(rank)])})"
        have = [v.shape[a] for a in sorted(order)]
        if _equal(have, v.shape):
            return text
        full = [v.shape[a] if a in order else 1 for a in range(len(v.shape))]
        text = f"{text}.reshape({self.shape(full)})"
        return text if _equal(full, v.shape) else f"np.broadcast_to({text}, {self.shape(v.shape)})"

    def shaped(self, v: Value, base: Value) -> str:
        """A value that lies in a buffer as it is, perhaps under another shape."""
        text = self.label(base)
        return text if _equal(v.shape, base.shape) else f"{self._array(base)}.reshape({self.shape(v.shape)})"

    # --- units --------------------------------------------------------------------------------------------------------
    def unit(self, u: Unit, block: Block) -> None:
        """The lines for a unit."""
        if isinstance(u, CheckUnit):
            self._check(u)
        elif isinstance(u, NodeUnit):
            self._host(u)
        elif isinstance(u, BasesUnit):
            self.region(u, block)
        elif self.dialect is CPU and (v := _counts(u)) is not None:
            self.out.line(f"{self.label(v)} = np.arange({self.size(v.shape[0])}, dtype={numpy_type(v.dtype)})")
        elif self.dialect is CPU and (fills := _fills(u)):
            for x, value in fills:
                self._fill(x, value)
        else:
            self._loops(u, block)

    @abstractmethod
    def region(self, u: BasesUnit, block: Block) -> None:
        """The lines for a node of control flow, or one whose result has a size that the program finds out."""

    def _loops(self, u: Unit, block: Block) -> None:
        for v in dict.fromkeys([block.layouts.place(w).base for w in u.writes]):
            name = self.label(v)
            if name.isidentifier() and v not in self.allocated:  # else it is a row of an array that is there
                self.allocated.add(v)
                self.out.line(f"{name} = np.empty({self.shape(v.shape)}, {numpy_type(v.dtype)})")
        if isinstance(u, ProductUnit):
            self._kernel(kernel_name(u), lambda s: emit_product(s, u))
            return
        if not isinstance(u, (LoopUnit, CopyUnit)):
            raise ArgumentError(f"{u.describe()} has no form as Numba source")
        for x in [u.instance] if isinstance(u, LoopUnit) else u.instances:
            self._kernel(kernel_name(u), functools.partial(emit, instance=x))

    def setting(self, label: Callable[[Value], str]) -> Setting:
        return Setting(self.dialect, self.helpers, label, self.number, self.wishes, show_line)

    def _kernel(self, wish: str, write: Callable[[Setting], Written]) -> None:
        """A kernel's function, shared with an equal one, and the line of main that calls it."""
        letters = iter(f"a{i}" for i in range(10**6))
        neutral: dict[Value, str] = {}

        def plain(v: Value) -> str:
            return neutral.setdefault(v, next(letters))

        key = write(self.setting(plain)).text("")
        w = write(self.setting(self.called))
        if key not in self.kernels:
            name = self.named_globally(f"kernel_{wish}")
            text = w.text(name)
            kind = self.dialect.kind(text)
            self.kernels[key] = name + self.dialect.launches[kind]
            self.functions.append(f"{self.dialect.decorators[kind]}\n{text}")
        self.out.call(f"{self.kernels[key]}(", [self.given(a) for a in w.arguments])

    def _fill(self, v: Value, value: object) -> None:
        shape, d = self.shape(v.shape), v.dtype
        usual = {0: "zeros", 1: "ones"}.get(value) if not str(value).startswith("-") else None  # type: ignore[call-overload]
        text = f"np.{usual}({shape}, {numpy_type(d)})"
        if usual is None:
            text = f"np.full({shape}, {literal(value, d)}, {numpy_type(d)})"  # type: ignore[arg-type]
        self.out.line(f"{self.label(v)}{'' if self.label(v).isidentifier() else '[...]'} = {text}")

    def _host(self, u: NodeUnit) -> None:
        args = [self.view(u, i) for i in range(len(u.inputs))]
        self.said_at(u.node.loc)
        for line in host_lines(u.node, [self.label(v) for v in u.writes], args, self.size):
            self.out.line(line)

    def said_at(self, line: Location | None) -> None:
        """The user's line, unless it is the same as before."""
        if line is not None and (line.file, line.line) != self.out.last:
            self.out.last = (line.file, line.line)
            self.out.line(f"# {show_line(line)}")

    def _check(self, u: CheckUnit) -> None:
        ok = u.inputs[0]
        assert ok is not None
        if is_scalar_constant(ok.base):
            assert ok.base.node is not None
            if ok.base.node.attr("value").splat:
                return
            test = "False"
        else:
            test = self.test(ok.base) if not ok.base.shape else self.view(u, 0)
        self.said_at(u.node.loc)
        data = [self.label(x.base) if x is not None and self.number(x.base) else self.view(u, i + 1)
                for i, x in enumerate(u.inputs[1:])]  # fmt: skip
        for line in check_lines(u.node, test, data, self.size):
            self.out.line(line)

    def test(self, v: Value) -> str:
        """A condition as main's code names it."""
        return self.label(v)

    def sources(self, block: Block) -> None:
        """Symbolic sizes that are read as numbers."""
        read = {v for u in block.units for v in u.reads}
        for n in block.graph.nodes:
            if n.op.name == "dim" and n.out in read:
                text = f"{numpy_type(n.out.dtype)}({self.size(n.attr('size'))})"
                if is_half(n.out.dtype):
                    text = f"np.array({text})"
                else:
                    self.scalars.add(n.out)
                self.out.line(f"{self.label(n.out)} = {text}")


def _fills(u: Unit) -> list[tuple[Value, object]]:
    """The buffers that a unit does nothing with but give all elements one value, and that value."""
    if not isinstance(u, LoopUnit) or u.instance.kernel.lates:
        return []
    k = u.instance.kernel
    by_id = {s.id: s for s in k.stmts}
    out = []
    for i, a in k.stores:
        s, v = by_id[i], u.instance.operands[a.operand]
        while s.kind == "op" and s.op is not None and s.op.name in ("copy", "identity"):
            s = by_id[s.args[0]]
        if s.kind != "const" or v not in u.writes:
            return []
        out.append((v, s.value))
    return out


def _counts(u: Unit) -> Value | None:
    """The buffer that a unit does nothing with but count its elements."""
    if not isinstance(u, LoopUnit) or len(u.writes) != 1:
        return None
    v = u.writes[0]
    n = list(forms_of(v))[-1].node
    if n is None or n.op.name != "iota" or n.out.dtype is not v.dtype or len(v.shape) != 1:
        return None
    return v if n.attr("shape") == v.shape and u.layouts.place(v).base is v else None


def forms_of(v: Value) -> Iterator[Value]:
    """A value, and those of which it is another form."""
    yield v
    while v.node is not None and v.node.op.name in FORMS:
        v = v.node.inputs[0]
        yield v


def is_half(d: DType) -> bool:
    return d.kind == "f" and d.bits == 16


def _equal(a: Sequence[Size], b: Sequence[Size]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def kernel_name(u: Unit) -> str:
    """What a unit does."""
    group = getattr(u, "group", None)
    nodes = [*(group.nodes if group else []), *([u.node] if isinstance(u, CopyUnit) else [])]
    return name_of(nodes, "matmul" if isinstance(u, ProductUnit) else "")
