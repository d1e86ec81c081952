"""A whole program as one Python module: imports, helper functions, kernels, and `main`, which calls them in order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.errors import ArgumentError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Value
from tracejit.lower.numba_block import plain
from tracejit.lower.numba_dialect import CPU, Dialect
from tracejit.lower.numba_expr import WIDTH, Writer
from tracejit.lower.numba_flow import Flow
from tracejit.lower.numba_host import numpy_type
from tracejit.lower.numba_main import Naming
from tracejit.lower.program import Program


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


class ModulePrinter(Flow):
    """Writes the module of one program."""

    def __init__(self, program: Program, graph: Graph, naming: Naming, dialect: Dialect = CPU) -> None:
        super().__init__(graph, naming, dialect)
        self.p = program

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
            elif r.node is not None and r.node.op.family == "control":
                continue  # called as in the region
            self.names[r] = self.local.new(wish)

    # --- the module ---------------------------------------------------------------------------------------------------
    def run(self) -> Module:
        self._name_values()
        for p in self.graph.params:
            if plain(p):
                self.scalars.add(p)
                self.out.line(f"{self.names[p]} = {numpy_type(p.dtype)}({self.names[p]})")
            elif not p.shape:
                self.out.line(f"{self.names[p]} = np.asarray({self.names[p]}, {numpy_type(p.dtype)})")
        self._symbol_lines()
        documented = [f"{self.names[p]}: {self._type(p)}" for p in self.graph.params]
        self.block(self.p, set(self.graph.params))
        results = [self._returned(r) for r in self.graph.results]
        line = f"return {', '.join(results) or '()'}"
        if len(line) < WIDTH:
            self.out.line(line)
        else:
            self.out.call("return (", results)
        params = [*self.graph.params, *self.extra]
        main = Writer()
        main.call("def main(", [self.names[p] for p in params], "):")
        main.depth = 1
        documented += [f"{self.names[v]}: {self._type(v)}" for v in self.extra]
        for line in self._docstring(documented):
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

    def _returned(self, r: Value) -> str:
        """A result as it is returned; Python's own truth values get NumPy's type."""
        return f"np.bool_({self.names[r]})" if r in self.scalars and r.dtype.kind == "b" else self.names[r]

    def _docstring(self, types: Sequence[str]) -> list[str]:
        results = [f"{self.names[r]}: {self._type(r)}" for r in self.graph.results]
        lines = [*self.naming.title, *(["", "Takes", *[f"    {t}" for t in types]] if types else [])]
        lines += ["", "Returns", *[f"    {t}" for t in results]] if results else []
        return [f'"""{lines[0]}', *lines[1:], '"""']

    def _type(self, v: Value) -> str:
        return f"{v.dtype.name}[{', '.join(map(self.size, v.shape))}]"

    def _imports(self, body: str) -> str:
        code = "\n".join([x for x in body.splitlines() if not x.lstrip().startswith("#")])
        lines = list(self.dialect.imports)
        if "math." in code and "import math" not in lines:
            lines = ["import math", "", *lines]
        if "ml_dtypes." in code:
            lines += ["", "import ml_dtypes"]
        return "\n".join(lines)


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
    naming = Naming(c.function.__name__, title(c), names, [states[id(v)] for v in exe.parts.writes])
    return ModulePrinter(exe.program, exe.prepared, naming, dialect).run()


def title(c: Any) -> list[str]:
    """Which function the source was made from, and from which of its lines."""
    f = c.function
    code = getattr(f.python_function, "__code__", None)
    where = f", {os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code else ""
    symbols = c.executable.symbols
    sizes = f"Sizes that may differ from call to call: {', '.join(symbols)}."
    sizes = sizes if symbols else "Traced for these sizes only."
    limits = [f"For {', '.join(found)} only."] if (found := c.narrowed()) else []
    return [f"Made from {f.__name__}{where}.", "", sizes, *limits]


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
