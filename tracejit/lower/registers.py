"""Control flow among single elements as one native function: loops and branches whose values stay in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.text import number, show_node
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.tracing import constant

_LOOPS = ("cond", "while", "scan")
_HALVES = ("float16", "bfloat16")  # kept wider in registers than between steps of a loop


def fits(n: Node) -> bool:
    """Whether a node of control flow reads and makes single elements only, by operations with a scalar form."""
    if n.op.name not in _LOOPS or not n.pure:
        return False
    rows = n.attr("m") if n.op.name == "scan" else 0
    first = n.attr("n") if n.op.name == "scan" else 0
    for i, v in enumerate(n.inputs):
        if not _plain(v, 1 if first <= i < first + rows else 0):
            return False
    if n.op.name == "scan":
        if len(n.outs) > first or any(v.dtype.kind == "b" for v in n.inputs[first : first + rows]):
            return False
    return all(_plain(v, 0) for v in n.outs) and all(_scalar(g) for _, g in n.attrs if type(g) is Graph)


def _plain(v: Value, rank: int) -> bool:
    return len(v.shape) == rank and v.dtype.kind in "biuf" and v.dtype.name not in _HALVES


def _scalar(g: Graph) -> bool:
    for n in g.nodes:
        if n.op is constant:
            ok = n.attr("value").array is None and _plain(n.out, 0)
        elif n.op.family == "control":
            ok = n.op.name != "scan" and fits(n)
        else:
            ok = n.op.family == "elementwise" and n.op.scalar is not None
            ok = ok and all(_plain(v, 0) for v in (*n.inputs, n.out))
        if not ok:
            return False
    return all(_plain(p, 0) for p in g.params)


def text(n: Node) -> str:
    """What identifies the function: the node and its regions, without lines of the user's code."""
    g = Graph("", [], [n], [])
    return "\n".join(["region", *_lines(g), *[f"{v.dtype.short}{len(v.shape)}" for v in n.inputs]])


def _lines(g: Graph) -> list[str]:
    names = number(g)
    out = [", ".join(f"{names[p]}:{p.dtype.short}" for p in g.params)]
    for n in g.nodes:
        out.append(show_node(n, names))
        for _, v in n.attrs:
            if type(v) is Graph:
                out += ["  " + line for line in _lines(v)]
    return [*out, ", ".join(names[r] for r in g.results)]


def emit(module: Module, name: str, node: Node) -> None:
    """`void name(ptr frame, ptr idx, i64 lo, i64 hi)`: idx: operands, results, a scan's length."""
    f = module.function(name, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    frame, idx = f.args[:2]
    m = LLVMScalar(f, 1)

    def slot(k: int) -> Val:
        return f.gep(frame, f.cast("zext", f.load("i32", f.gep(idx, 4 * k)), "i64"), "i64")

    pointers = [f.load("ptr", slot(i)) for i in range(len(node.inputs) + len(node.outs))]
    length = f.load("i64", slot(len(pointers))) if node.op.name == "scan" else i64(0)
    args: list[Any] = [
        m.load(p, v.dtype, None) if not v.shape else p for p, v in zip(pointers, node.inputs, strict=False)
    ]
    _Writer(f, m, length).results(node, args, pointers[len(node.inputs) :])
    f.ret_()


class _Writer:
    def __init__(self, f: Fn, m: LLVMScalar, length: Val) -> None:
        self.f, self.m, self.length = f, m, length

    def results(self, node: Node, args: Sequence[Any], to: Sequence[Val]) -> None:
        for s, p in zip(self.control(node, args), to, strict=True):
            self.m.store(s, p, None)

    def graph(self, g: Graph, args: Sequence[S]) -> list[S]:
        env: dict[Value, S] = dict(zip(g.params, args, strict=True))
        for n in g.nodes:
            xs = [env[v] for v in n.inputs]
            if n.op is constant:
                env[n.out] = self.m.const(n.attr("value").splat.item(), n.out.dtype)
            elif n.op.family == "control":
                env.update(zip(n.outs, self.control(n, xs), strict=True))
            else:
                env[n.out] = n.op.scalar(self.m, *xs, **dict(n.attrs))  # type: ignore[misc]
        return [env[r] for r in g.results]

    def control(self, n: Node, xs: Sequence[Any]) -> list[S]:
        f = self.f
        types = [v.dtype for v in n.outs]
        if n.op.name == "cond":
            got = f.if_(
                xs[0].v,
                lambda: [s.v for s in self.graph(n.attr("then"), xs[1:])],
                lambda: [s.v for s in self.graph(n.attr("orelse"), xs[1:])],
            )
            return [S(v, d) for v, d in zip(got, types, strict=True)]
        k = n.attr("n")
        body: Graph = n.attr("body")
        if n.op.name == "while":
            cond: Graph = n.attr("cond")

            def state(vs: Sequence[Val]) -> list[Any]:
                return [*[S(v, d) for v, d in zip(vs, types, strict=True)], *xs[k:]]

            got = f.while_(
                [x.v for x in xs[:k]],
                lambda *vs: self.graph(cond, state(vs))[0].v,
                lambda *vs: [s.v for s in self.graph(body, state(vs))],
            )
            return [S(v, d) for v, d in zip(got, types, strict=True)]
        m = n.attr("m")

        def step(i: Val, *vs: Val) -> list[Val]:
            at = f.sub(f.add(self.length, i64(-1)), i) if n.attr("reverse") else i
            rows = [
                self.m.load(f.gep(xs[k + j], at, self.m.memory(v.dtype)), v.dtype, None)
                for j, v in enumerate(n.inputs[k : k + m])
            ]
            carried = [S(v, d) for v, d in zip(vs, types, strict=True)]
            return [s.v for s in self.graph(body, [*carried, *rows, *xs[k + m :]])]

        got = f.loop(i64(0), self.length, step, [x.v for x in xs[:k]])
        return [S(v, d) for v, d in zip(got, types, strict=True)]
