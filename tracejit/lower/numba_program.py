"""A whole program as one Python module: imports, helper functions, kernels, and `main`, which calls them in order."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.errors import ArgumentError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Value
from tracejit.lower.emit_numba import PARTS, emit
from tracejit.lower.found import FoundUnit
from tracejit.lower.numba_access import Placement, Size, place, place_parts, same
from tracejit.lower.numba_args import Argument, Setting, Written
from tracejit.lower.numba_dialect import CPU, Dialect
from tracejit.lower.numba_expr import WIDTH, Names, Writer
from tracejit.lower.numba_host import array_text, host_lines, numpy_type, tuple_text
from tracejit.lower.numba_lines import call_results, name_of, show_line, variables
from tracejit.lower.numba_product import emit_product
from tracejit.lower.numba_scalar import Helpers
from tracejit.lower.program import CopyUnit, LoopUnit, NodeUnit, ProductUnit, Program, Unit

INLINE = 256  # elements up to which a constant array is written out


@dataclass
class Module:
    """A program's source.

    text        the module
    parameters  of `main`: graph parameters and constant arrays too large to be written out, in order
    results     how many arrays `main` returns; one alone is returned as it is
    """

    text: str
    parameters: list[Value]
    results: int


@dataclass(frozen=True)
class Naming:
    """What `main` and its arguments are called.

    title     the first lines of its docstring
    params    names of the graph's parameters
    states    names of the Variables behind the last results
    numbers   parameters that are Python numbers
    """

    title: Sequence[str]
    params: Mapping[Value, str]
    states: Sequence[str] = ()
    numbers: frozenset[Value] = frozenset()


class ModulePrinter:
    """Writes the module of one program."""

    def __init__(self, program: Program, graph: Graph, naming: Naming, dialect: Dialect = CPU) -> None:
        self.p, self.graph, self.naming, self.dialect = program, graph, naming, dialect
        self.module = Names(taken=["main", "ml_dtypes", "OPS", "as_dtype", *dialect.taken])
        self.helpers = Helpers(dialect, self.module)
        self.local = Names(self.module)
        self.names: dict[Value, str] = {}
        self.wishes = variables(program.graph.nodes)
        self.labels = call_results(program.graph.nodes) | self.wishes
        self.symbols: dict[str, str] = {}
        self.kernels: dict[str, str] = {}  # text with neutral names → name, and how it is launched
        self.functions: list[str] = []
        self.constants: list[str] = []
        self.extra: list[Value] = []
        self.out = Writer(1)

    # --- names --------------------------------------------------------------------------------------------------------
    def _name_values(self) -> None:
        for p in self.graph.params:
            self.names[p] = self.local.new(self.naming.params[p])
        for d in [d for p in self.graph.params for d in p.shape if isinstance(d, Dim)]:
            for s in sorted(d.symbols - self.symbols.keys()):
                self.symbols[s] = self.local.new(s)
        count = len(self.graph.results) - len(self.naming.states)
        for i, r in enumerate(self.graph.results):
            wish = "result" if count == 1 else f"result_{i + 1}"
            if i >= count:
                wish = f"new_{self.naming.states[i - count]}"
            self.names[r] = self.local.new(wish)

    def label(self, v: Value) -> str:
        if v not in self.names:
            if v.node is not None and v.node.op.name == "constant":
                self._constant(v)
            else:
                self.names[v] = self.local.new(self.labels.get(v) or (v.node.op.name if v.node else "value"))
        return self.names[v]

    def _constant(self, v: Value) -> None:
        assert v.node is not None
        array = v.node.attr("value").array
        if array is not None and array.size <= INLINE:
            self.names[v] = self._global("CONSTANT")
            self.constants.append(f"{self.names[v]} = {array_text(array, v.dtype)}")
        else:
            self.names[v] = self.local.new("constant")
            self.extra.append(v)

    def _global(self, wish: str) -> str:
        """A name in the module that main does not use for anything else."""
        name = self.module.new(wish)
        while name in self.local.taken:
            name = self.module.new(wish)
        return name

    def number(self, v: Value) -> bool:
        return v in self.naming.numbers

    # --- sizes and arrays ---------------------------------------------------------------------------------------------
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
        if name in d.opaque:
            kind, inner, k = d.opaque[name]
            return f"(({self.size(inner)}) {kind} {k})"
        return self.symbols[name]

    def shape(self, shape: Sequence[Size]) -> str:
        return tuple_text([self.size(d) for d in shape])

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
        elif len(p.shape) != len(v.shape) or not all(same(x, y) for x, y in zip(p.shape, v.shape, strict=True)):
            text = f"{text}.reshape({self.shape(p.shape)})"
        return f"{text}.view(np.uint16)" if v.dtype.kind == "f" and v.dtype.bits == 16 else text

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

    # --- units --------------------------------------------------------------------------------------------------------
    def _unit(self, u: Unit) -> None:
        """The lines of main for a unit."""
        if isinstance(u, NodeUnit):
            self._host(u)
            return
        if isinstance(u, FoundUnit):
            raise ArgumentError(f"a program with a {u.describe()} has no form as Numba source")
        for v in u.writes:
            shape = self.shape(v.shape)
            self.out.line(f"{self.label(v)} = np.empty({shape}, {numpy_type(v.dtype)})")
        if isinstance(u, ProductUnit):
            self._kernel(kernel_name(u), lambda s: emit_product(s, u))
            return
        if not isinstance(u, (LoopUnit, CopyUnit)):
            raise ArgumentError(f"{u.describe()} has no form as Numba source")
        for x in [u.instance] if isinstance(u, LoopUnit) else u.instances:
            self._kernel(kernel_name(u), functools.partial(emit, instance=x))

    def _kernel(self, wish: str, write: Callable[[Setting], Written]) -> None:
        """A kernel's function, shared with an equal one, and the line of main that calls it."""
        letters = iter(f"a{i}" for i in range(10**6))
        neutral: dict[Value, str] = {}

        def plain(v: Value) -> str:
            return neutral.setdefault(v, next(letters))

        key = write(Setting(self.dialect, self.helpers, plain, self.number, self.wishes, show_line)).text("")
        w = write(Setting(self.dialect, self.helpers, self.label, self.number, self.wishes, show_line))
        if key not in self.kernels:
            name = self._global(f"kernel_{wish}")
            text = w.text(name)
            kind = self.dialect.kind(text)
            self.kernels[key] = name + self.dialect.launches[kind]
            self.functions.append(f"{self.dialect.decorators[kind]}\n{text}")
        self.out.call(f"{self.kernels[key]}(", [self.given(a) for a in w.arguments])

    def _host(self, u: NodeUnit) -> None:
        args = [self.view(u, i) for i in range(len(u.inputs))]
        if u.node.loc is not None:
            self.out.line(f"# {show_line(u.node.loc)}")
        for line in host_lines(u.node, [self.label(v) for v in u.writes], args, self.size):
            self.out.line(line)

    def _sources(self) -> None:
        """Symbolic sizes that are read as numbers."""
        read = {v for u in self.p.units for v in u.reads}
        for n in self.p.graph.nodes:
            if n.op.name == "dim" and n.out in read:
                self.out.line(f"{self.label(n.out)} = np.array({self.size(n.attr('size'))}, {numpy_type(n.out.dtype)})")

    # --- the module ---------------------------------------------------------------------------------------------------
    def run(self) -> Module:
        self._name_values()
        for p in self.graph.params:
            if self.number(p):
                self.out.line(f"{self.names[p]} = {numpy_type(p.dtype)}({self.names[p]})")
        self._symbol_lines()
        self._sources()
        for u in self.p.units:
            self._unit(u)
        results = [self.names[r] for r in self.graph.results]
        plain = f"return {', '.join(results) or '()'}"
        if len(plain) < WIDTH:
            self.out.line(plain)
        else:
            self.out.call("return (", results)
        params = [*self.graph.params, *self.extra]
        main = Writer()
        main.call("def main(", [self.names[p] for p in params], "):")
        main.depth = 1
        for line in self._docstring(params):
            main.line(line)
        body = "\n\n\n".join([*self.helpers.texts, *self.functions, f"{main.text()}\n{self.out.text()}"])
        blocks = [self._imports(body), *(["\n".join(self.constants)] if self.constants else []), body]
        return Module("\n\n\n".join(blocks) + "\n", params, len(results))

    def _symbol_lines(self) -> None:
        found: set[str] = set()
        for p in self.graph.params:
            for axis, d in enumerate(p.shape):
                if isinstance(d, Dim):
                    (s,) = d.symbols if len(d.symbols) == 1 else ("",)
                    if s not in found and d.same(Dim.symbol(s, 1)):
                        found.add(s)
                        self.out.line(f"{self.symbols[s]} = {self.names[p]}.shape[{axis}]")
        if missing := self.symbols.keys() - found:
            raise ArgumentError(f"no argument has the size {', '.join(sorted(missing))} as an axis")

    def _docstring(self, params: Sequence[Value]) -> list[str]:
        types = [f"{self.names[p]}: {_type_text(p)}" for p in params]
        results = [f"{self.names[r]}: {_type_text(r)}" for r in self.graph.results]
        lines = [*self.naming.title, *(["", "Takes", *[f"    {t}" for t in types]] if types else [])]
        lines += ["", "Returns", *[f"    {t}" for t in results]] if results else []
        return [f'"""{lines[0]}', *lines[1:], '"""']

    def _imports(self, body: str) -> str:
        code = "\n".join([x for x in body.splitlines() if not x.lstrip().startswith("#")])
        lines = list(self.dialect.imports)
        if "math." in code and "import math" not in lines:
            lines = ["import math", "", *lines]
        if "ml_dtypes." in code:
            lines += ["", "import ml_dtypes"]
        own = ["from tracejit.ir.op import OPS"] if "OPS[" in code else []
        own += ["from tracejit.ir.types import as_dtype"] if "as_dtype(" in code else []
        return "\n".join([*lines, *(["", *own] if own else [])])


def _equal(a: Sequence[Size], b: Sequence[Size]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def _type_text(v: Value) -> str:
    return f"{v.dtype.name}[{', '.join(map(str, v.shape))}]"


def kernel_name(u: Unit) -> str:
    """What a unit does."""
    group = getattr(u, "group", None)
    nodes = [*(group.nodes if group else []), *([u.node] if isinstance(u, CopyUnit) else [])]
    return name_of(nodes, "matmul" if isinstance(u, ProductUnit) else "")


def module(c: Any, structure: Any = None, dialect: Dialect = CPU) -> Module:
    """The source of a concrete function; `structure` is that of its arguments."""
    exe = c.executable
    if exe.program is None:
        raise ArgumentError(f"{c.function.__name__} was not compiled: {exe.error}")
    old, new = exe.parts.graph.params, exe.prepared.params
    at = dict(zip(old, new, strict=True))
    names: dict[Value, str] = {}
    paths = list(structure.paths()) if structure is not None else []
    for i, leaf in enumerate(exe.parts.leaves):
        if leaf.param >= 0:
            names[new[leaf.param]] = argument_name(c.function, paths[i]) if paths else f"x{leaf.param + 1}"
    for i, (p, _) in enumerate(exe.parts.captures):
        names[at[p]] = f"captured_{i + 1}"
    states = {id(v): variable_name(v) for _, v in exe.parts.reads}
    for p, v in exe.parts.reads:
        names[at[p]] = states[id(v)]
    numbers = frozenset({new[x.param] for x in exe.parts.leaves if x.kind == "scalar"})
    naming = Naming(title(c), names, [states[id(v)] for v in exe.parts.writes], numbers)
    return ModulePrinter(exe.program, exe.prepared, naming, dialect).run()


def title(c: Any) -> list[str]:
    """Which function the source was made from, and from which of its lines."""
    f = c.function
    code = getattr(f.python_function, "__code__", None)
    where = f", {os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code else ""
    symbols = c.executable.symbols
    sizes = f"Sizes that may differ from call to call: {', '.join(symbols)}."
    sizes = sizes if symbols else "Traced for these sizes only."
    return [f"Made from {f.__name__}{where}.", "", sizes]


def argument_name(function: Any, path: str) -> str:
    """An identifier for a leaf such as `[0][1].w`: the parameter's name and what follows."""
    m = re.match(r"\[0\]\[(\d+)\](.*)|\[1\]\['(\w+)'\](.*)", path)
    if m is None:
        return path
    signature = function._signature
    if m[3]:
        return f"{m[3]}{m[4]}"
    k = int(m[1])
    names = list(signature.parameters) if signature else []
    variadic = k >= len(names) or signature.parameters[names[k]].kind is signature.parameters[names[k]].VAR_POSITIONAL
    return (f"argument_{k + 1}" if not names or variadic else names[k]) + m[2]


def variable_name(v: Any) -> str:
    name = re.sub(r"\W+", "_", v._name).strip("_") or "variable"
    return name[0].lower() + name[1:]
