"""Graphs as text, one line per operation, and back; and the verifier."""

from __future__ import annotations

import ast
import itertools
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tracejit.errors import GraphError, Location, TracejitError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Const, Graph, Node, Value, freeze, next_scope
from tracejit.ir.op import OPS
from tracejit.ir.types import ALL, DType, TensorType

SHORT = 16  # elements up to which a constant is written out
_DTYPES = {d.short: d for d in ALL}


# --- printing -----------------------------------------------------------------------------------------------------
def show(graph: Graph) -> str:
    """The graph as text: a head with the parameters, one line per operation, the results.

    Regions follow the operation that holds them, indented. Symbols are listed in the head with the sizes seen while
    tracing. `parse` reads it back if no constant is larger than `SHORT`.
    """
    seen = symbols(graph)
    head = f" [{', '.join(f'{k}={n}' for k, n in sorted(seen.items()))}]" if seen else ""
    return "\n".join(_lines(graph, head))


def symbols(graph: Graph) -> dict[str, int]:
    """The symbols in the shapes and attributes of a graph, each with the size seen while tracing."""
    seen: dict[str, int] = {}
    for g in walk(graph):
        for d in _dims_of(g):
            _hints(d, seen)
    return seen


def walk(graph: Graph, but: str = "") -> Iterator[Graph]:
    """The graph, and the regions inside it, except those of one operation."""
    yield graph
    for n in graph.nodes:
        for _, v in n.attrs:
            if isinstance(v, Graph) and n.op.name != but:
                yield from walk(v, but)


def _lines(graph: Graph, sizes: str = "") -> list[str]:
    names = number(graph)
    params = ", ".join(f"{names[p]}: {p.type!r}" for p in graph.params)
    rows: list[tuple[str, str, list[str]]] = []
    for n in graph.nodes:
        regions = [v for _, v in n.attrs if isinstance(v, Graph)]
        inner = []
        for i, r in enumerate(regions):
            first, *rest = _lines(r)
            inner += [f"  @{i} {first}", *[f"  {line}" for line in rest]]
        rows.append((show_node(n, names), f"   # {n.loc}" if n.loc else "", inner))
    width = min(max([len(text) for text, _, _ in rows], default=0), 72)
    out = [f"graph {graph.name}({params}){sizes}:"]
    for text, loc, inner in rows:
        out.append(f"  {text:<{width}}{loc}" if loc else f"  {text}")
        out += [f"  {line}" for line in inner]
    out.append("  return " + ", ".join(names[r] for r in graph.results) if graph.results else "  return")
    return out


def number(graph: Graph) -> dict[Value, str]:
    """%0, %1 … for the parameters and the results of the nodes in order."""
    values = [*graph.params, *[v for n in graph.nodes for v in n.outs]]
    return {v: f"%{i}" for i, v in enumerate(values)}


def show_node(n: Node, names: dict[Value, str]) -> str:
    """`%5 = matmul(%4, %1, ta=True) : f32[5,2]`."""
    args = [names.get(v, "%?") for v in n.inputs]
    region = 0
    for k, v in n.attrs:
        if n.op.name == "constant" and k == "value":
            args.append(_show_const(v))
        elif isinstance(v, Graph):
            args.append(f"{k}=@{region}")
            region += 1
        else:
            args.append(f"{k}={_show_attr(v)}")
    call = f"{n.op.name}({', '.join(args)})"
    if not n.outs:
        return call
    types = repr(n.outs[0].type) if len(n.outs) == 1 else f"({', '.join(repr(v.type) for v in n.outs)})"
    return f"{', '.join(names.get(v, '%?') for v in n.outs)} = {call} : {types}"


def _show_attr(x: Any) -> str:
    if isinstance(x, DType):
        return x.short
    if isinstance(x, tuple):
        return "(" + ", ".join(map(_show_attr, x)) + ("," if len(x) == 1 else "") + ")"
    if isinstance(x, Const):
        return f"const({_show_const(x)} : {TensorType(x.dtype, x.shape)!r})"
    if isinstance(x, np.generic):
        return _show_attr(x.item())
    if isinstance(x, complex):
        return f"complex({_show_attr(x.real)}, {_show_attr(x.imag)})"
    return repr(x) if isinstance(x, (bool, int, float, str, Dim, type(None))) else f"<{type(x).__name__}>"


def _show_const(c: Const) -> str:
    if c.array is None:
        return _show_element(c.splat)
    if c.array.size > SHORT:
        return f"…{zlib.crc32(c.array.tobytes()):08x}"
    return _show_nest(c.array)


def _show_nest(a: np.ndarray) -> str:
    return _show_element(a[()]) if not a.ndim else "[" + ", ".join(map(_show_nest, a)) + "]"


def _show_element(x: Any) -> str:
    if isinstance(x, np.float32) and np.isfinite(x):
        return repr(float(str(x)))
    if isinstance(x, np.complexfloating):
        return _show_attr(complex(x))
    return _show_attr(x.item() if isinstance(x, (np.bool_, np.number)) else float(x))


def _dims_of(graph: Graph) -> Iterator[Dim]:
    stack: list[Any] = [p.type.shape for p in graph.params]
    for n in graph.nodes:
        stack += [v.type.shape for v in n.outs] + [v.shape if isinstance(v, Const) else v for _, v in n.attrs]
    while stack:
        x = stack.pop()
        if isinstance(x, Dim):
            yield x
        elif isinstance(x, tuple):
            stack += x


def _hints(d: Dim, out: dict[str, int]) -> None:
    """The sizes of the symbols in `d`, as far as `d` tells them."""
    for _, *parts in d.opaque.values():
        for inner in parts:
            if isinstance(inner, Dim):
                _hints(inner, out)
    if len(d.symbols) == 1:
        (name,) = d.symbols
        known = solve(d, d.hint)
        if known is not None:
            out[name] = known
            return
    for name in d.symbols:
        out.setdefault(name, 2)


def solve(d: Dim, size: int) -> int | None:
    """The size of the only symbol of `d` for which `d` is `size`; None if `d` is not linear in one symbol."""
    if len(d.symbols) != 1:
        return None
    (name,) = d.symbols
    if set(d.terms) - {(), (name,)}:
        return None
    rest = size - d.terms.get((), 0)
    n, left = divmod(rest, d.terms[(name,)])
    return n if not left and n >= 0 else None


# --- parsing ------------------------------------------------------------------------------------------------------
class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = [x for x in text.splitlines() if x.strip()]
        self.at = 0
        self.symbols: dict[str, Dim] = {}

    def fault(self, why: str) -> GraphError:
        line = self.lines[min(self.at, len(self.lines) - 1)] if self.lines else ""
        return GraphError(f"line {self.at + 1} of the graph's text: {why}: {line.strip()}")

    def graph(self) -> Graph:
        head = re.fullmatch(r"\s*(?:@\d+ )?graph ([^\s(]+)\((.*?)\)(?: \[(.*)\])?:", self.lines[self.at])
        if head is None:
            raise self.fault("a graph starts with 'graph name(%0: f32[3]):'")
        for s in _split(head[3] or ""):
            k, n = s.split("=")
            self.symbols[k] = Dim.symbol(k, int(n))
        scope, env = next_scope(), {}
        params = []
        for i, p in enumerate(_split(head[2])):
            name, t = p.split(":", 1)
            params.append(Value(None, self.type(t), scope, i))
            env[name.strip()] = params[-1]
        nodes: list[Node] = []
        self.at += 1
        while self.at < len(self.lines):
            line, _, loc = self.lines[self.at].partition("   # ")
            line = line.strip()
            if line == "return" or line.startswith("return "):
                self.at += 1
                return Graph(head[1], params, nodes, [self.operand(env, r) for r in _split(line[6:])])
            nodes.append(self.node(line, loc, env, scope))
        raise self.fault("a graph ends with 'return'")

    def operand(self, env: dict[str, Value], name: str) -> Value:
        if name not in env:
            raise self.fault(f"{name} is not defined")
        return env[name]

    def node(self, line: str, loc: str, env: dict[str, Value], scope: int) -> Node:
        m = re.match(r"(?:(%[%\d, ]*) = )?(\w+)(?=\()", line)
        if m is None or m[2] not in OPS:
            raise self.fault(f"no operation {m[2]!r}" if m else "not an operation")
        close = m.end() + _closing(line[m.end() :])
        names, types = _split(m[1] or ""), self.types(line[close + 1 :].removeprefix(" : "))
        inputs: list[Value] = []
        attrs: dict[str, Any] = {}
        regions: dict[int, str] = {}
        for a in _split(line[m.end() + 1 : close]):
            key, _, text = a.partition("=")
            if a.startswith("%"):
                inputs.append(self.operand(env, a))
            elif not key.isidentifier() or not text:
                attrs["value"] = self.const(a, types[0])
            elif text.startswith("@"):
                regions[int(text[1:])] = key
            else:
                attrs[key] = self.attr(text)
        self.at += 1
        for _, key in sorted(regions.items()):
            attrs[key] = self.graph()
        where = re.fullmatch(r"(.*):(\d+)", loc.strip())
        at = Location(where[1], int(where[2]), "") if where else None
        n = Node(OPS[m[2]], tuple(inputs), freeze(attrs), types, scope, at)
        env.update(zip(names, n.outs, strict=True))
        return n

    def types(self, text: str) -> list[TensorType]:
        text = text.strip()
        return [self.type(t) for t in _split(text[1:-1] if text.startswith("(") else text)]

    def type(self, text: str) -> TensorType:
        m = re.fullmatch(r"\s*(\w+)(~?)\[(.*)\]\s*", text)
        if m is None or m[1] not in _DTYPES:
            raise self.fault(f"{text!r} is not a type")
        return TensorType(_DTYPES[m[1]], [self.dim(d) for d in _split(m[3])], bool(m[2]))

    def const(self, text: str, t: TensorType) -> Const:
        if text.startswith("…"):
            raise self.fault("a large constant is not written out")
        if not text.startswith("["):
            return Const(None, self.attr(text), t.shape, t.dtype)
        return Const(np.array(self.nest(text)).astype(t.dtype.np).reshape([int(d) for d in t.shape]))

    def nest(self, text: str) -> Any:
        return [self.nest(x) for x in _split(text[1:-1])] if text.startswith("[") else self.attr(text)

    def attr(self, text: str) -> Any:
        text = text.strip()
        if text in _WORDS:
            return _WORDS[text]
        if text in _DTYPES:
            return _DTYPES[text]
        if text[:1] in "'\"":
            return ast.literal_eval(text)
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        if re.fullmatch(r"-?\d[\d.]*(e[-+]?\d+)?", text):
            return float(text)
        if text == "()" or (text.startswith("(") and _closing(text) == len(text) - 1 and "," in _outer(text[1:-1])):
            return tuple([self.attr(x) for x in _split(text[1:-1])])
        if text.startswith("complex("):
            return complex(*[self.attr(x) for x in _split(text[8:-1])])
        if text.startswith("const("):
            value, t = text[6:-1].rsplit(" : ", 1)
            return self.const(value, self.type(t))
        return self.dim(text)

    def dim(self, text: str) -> int | Dim:
        """An integer polynomial: terms with + and −, factors with *, among them (…)//k, (…)%k, (…)mink, (…)with(…)."""
        total: int | Dim = 0
        for sign, term in _terms(text.strip()):
            value: int | Dim = sign
            for f in _split(term, "*"):
                value = value * self.factor(f)
            total = total + value
        return total

    def factor(self, f: str) -> int | Dim:
        if f.isdigit():
            return int(f)
        if f in self.symbols:
            return self.symbols[f]
        end = _closing(f) if f.startswith("(") else 0
        if f[end + 1 :].startswith("with("):
            a, b = self.dim(f[1:end]), self.dim(f[end + 6 : -1])
            assert isinstance(a, Dim) and isinstance(b, Dim)
            return a.beside(b)
        rest = re.fullmatch(r"(//|%|min)(\d+)", f[end + 1 :])
        if rest is None:
            raise self.fault(f"{f!r} is not a size")
        inner, k = self.dim(f[1:end]), int(rest[2])
        if rest[1] == "min":
            return inner.upto(k) if isinstance(inner, Dim) else min(inner, k)
        return inner // k if rest[1] == "//" else inner % k


_WORDS = {"True": True, "False": False, "None": None, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _depths(text: str) -> Iterator[tuple[int, str, int]]:
    """Each character outside string literals with its position and the depth of brackets around it."""
    depth, quote = 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote and text[i - 1] != "\\" else quote
        elif c in "'\"":
            quote = c
        elif c in "([":
            yield i, c, depth
            depth += 1
        elif c in ")]":
            depth -= 1
            yield i, c, depth
        else:
            yield i, c, depth


def _split(text: str, at: str = ",") -> list[str]:
    """Split at a character outside brackets; a trailing empty part is left out."""
    cuts = [i for i, c, depth in _depths(text) if c == at and depth == 0]
    parts = [text[a + 1 : b].strip() for a, b in zip([-1, *cuts], [*cuts, len(text)], strict=True)]
    return parts[:-1] if not parts[-1] else parts


def _outer(text: str) -> str:
    return "".join(c for _, c, depth in _depths(text) if depth == 0)


def _closing(text: str) -> int:
    return next((i for i, c, depth in _depths(text) if i and c == ")" and depth == 0), -1)


def _terms(text: str) -> list[tuple[int, str]]:
    cuts = [i for i, c, depth in _depths(text) if c in "+-" and depth == 0 and i]
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    return [(-1 if p.startswith("-") else 1, p.lstrip("+-")) for p in parts]


def parse(text: str) -> Graph:
    """The graph that `show` printed. Raises `GraphError` that names the line."""
    p = _Parser(text)
    if not p.lines:
        raise p.fault("no graph")
    g = p.graph()
    if p.at < len(p.lines):
        raise p.fault("text after the end of the graph")
    verify(g)
    return g


# --- verifying ----------------------------------------------------------------------------------------------------
def verify(graph: Graph, like: Graph | None = None) -> None:
    """Check the rules of the IR: values defined before they are used and in this graph, types as the ops infer them,
    attributes hashable, results defined. With `like`, the graph a pass started from: the same parameters and results
    by type, and the same effects in the same order. Raises `GraphError` naming the node and the user's line.
    """
    names = number(graph)
    defined = set(graph.params)
    if len(defined) != len(graph.params):
        raise GraphError(f"graph {graph.name}: a parameter is listed twice")
    for n in graph.nodes:
        why = _fault_of(n, defined, names)
        if why:
            where = f"   # {n.loc}" if n.loc else ""
            raise GraphError(f"graph {graph.name}: {why}: {show_node(n, names)}{where}")
        defined.update(n.outs)
        for _, v in n.attrs:
            if isinstance(v, Graph):
                verify(v)
    for i, r in enumerate(graph.results):
        if r not in defined:
            raise GraphError(f"graph {graph.name}: result {i} is not made in this graph")
    if like is not None:
        _compare(graph, like)


def _fault_of(n: Node, defined: set[Value], names: dict[Value, str]) -> str:
    if n.op is not OPS.get(n.op.name):
        return f"{n.op.name} is not the operation of that name in the table"
    for i, v in enumerate(n.inputs):
        if v not in defined:
            return f"operand {i} is " + ("used before it is made" if v in names else "a value of another graph")
    if any(v in defined for v in n.outs) or any(v.node is not n or v.index != i for i, v in enumerate(n.outs)):
        return "the results do not belong to this node alone"
    try:
        hash(n.attrs)
    except TypeError:
        return "an attribute cannot be hashed"
    if list(n.attrs) != sorted(n.attrs, key=lambda kv: kv[0]):
        return "the attributes are not sorted by name"
    try:
        t = n.op.infer(*[v.type for v in n.inputs], **dict(n.attrs))
    except (TracejitError, TypeError) as e:
        return f"the operands do not fit ({e})"
    have, want = tuple([v.type for v in n.outs]), t if type(t) is tuple else (t,)
    if have != want:
        return f"recorded as {', '.join(map(str, have))}, inferred as {', '.join(map(str, want))}"
    return ""


def _compare(graph: Graph, like: Graph) -> None:
    def seen(values: tuple[Value, ...]) -> list[tuple[DType, tuple[int | Dim, ...]]]:
        return [(v.dtype, v.shape) for v in values]

    for what, have, want in (
        ("parameters", seen(graph.params), seen(like.params)),
        ("results", seen(graph.results), seen(like.results)),
    ):
        if have != want:
            raise GraphError(f"graph {graph.name}: the {what} changed from {want} to {have}")
    left = _effects(graph)
    if len(left) not in _reached({0}, like, left):
        raise GraphError(f"graph {graph.name}: the effects changed from {_effects(like)} to {left}")


def _effects(g: Graph) -> list[str]:
    out: list[str] = []
    for n in g.nodes:
        if n.op.name == "sized":  # which only puts off what is in it
            out += _effects(n.attr("body"))
        elif not n.pure:  # the steps of a loop are the same whether it stacks values or not
            out.append(n.op.name.removesuffix("_saving"))
    return out


def _reached(at: set[int], g: Graph, left: list[str]) -> set[int]:
    """Up to where in `left` the effects of a graph may go that begin at one of these places.

    A check may be found to hold always, a branch to be taken always, and a loop to do nothing but that.
    """
    for n in g.nodes:
        if n.pure:
            continue
        if n.op.name == "sized":
            at = _reached(at, n.attr("body"), left)
            continue
        name, body = n.op.name.removesuffix("_saving"), dict(n.attrs).get("body")
        after = {i + 1 for i in at if left[i : i + 1] == [name]}
        if n.op.name == "cond":
            after |= _reached(at, n.attr("then"), left) | _reached(at, n.attr("orelse"), left)
        elif n.op.name == "check" or (isinstance(body, Graph) and 0 in _reached({0}, body, [])):
            after |= at
        at = after
    return at


Graph.printer = staticmethod(show)
