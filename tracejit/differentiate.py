"""A compiled call under an eager tape: a forward that keeps residuals, a compiled backward, to any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.autodiff.tape import GradientTape
from tracejit.concrete import Executable, Parts, array_of, graph_executable, run_flat
from tracejit.context import context
from tracejit.ir.graph import Graph, Value
from tracejit.ir.types import TensorType
from tracejit.passes.partition import partition
from tracejit.passes.pipeline import optimize
from tracejit.runtime.records import Returns
from tracejit.tensor import Operand, Tensor, Variable, wrap
from tracejit.tracing import replay, trace_graph


class Differentiable:
    """What is known of a graph's derivative: the joint graph, which gradients exist, and the compiled halves.

    The graph's parameters are those of the call; its first `outputs` results have cotangents if they are floating.
    """

    def __init__(self, graph: Graph, outputs: int, numerics: str) -> None:
        self.graph = optimize(graph, numerics, differentiated=False)
        self.outputs, self.numerics = outputs, numerics
        self.name = graph.name
        self.sources = [i for i, p in enumerate(self.graph.params) if p.dtype.kind in "fc"]
        linked = _linked(self.graph)
        self.targets = [i for i, r in enumerate(self.graph.results[:outputs]) if r in linked]
        self.linked: list[int] = []  # parameters that a gradient exists for
        self._joint: Graph | None = None
        self._backward: Executable | None = None
        self._gradient: Differentiable | None = None
        self.kept: tuple[tuple[str, int], ...] = ()
        self._forward: Graph | None = None

    def joint(self) -> Graph:
        """(parameters, cotangents) → (results, gradients that exist)."""
        if self._joint is None:
            types = [_strong(p.type) for p in self.graph.params]
            types += [_strong(self.graph.results[i].type) for i in self.targets]
            n = len(self.graph.params)

            def both(*xs: Tensor) -> tuple[Tensor, ...]:
                with GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(*[xs[i] for i in self.sources])
                    ys = replay(self.graph, xs[:n])
                grads = tape.gradient(
                    [ys[i] for i in self.targets], [xs[i] for i in self.sources], output_gradients=list(xs[n:])
                )
                self.linked = [i for i, g in zip(self.sources, grads, strict=True) if g is not None]
                return (*ys, *[g for g in grads if g is not None])

            self._joint = trace_graph(both, types, f"vjp_{self.name}")
        return self._joint

    def halves(self) -> tuple[Graph, Executable]:
        """The forward graph, with what it keeps as extra results, and the compiled backward."""
        if self._backward is None:
            joint = optimize(self.joint(), self.numerics)
            p = partition(joint, len(self.graph.params), len(self.graph.results))
            self._forward, self.kept = p.forward, p.kept
            self._backward = graph_executable(p.backward, self.numerics, optimized=True)
        assert self._forward is not None
        return self._forward, self._backward

    def gradient(self) -> Differentiable:
        """The gradient as a differentiable graph of its own: (parameters, cotangents) → gradients."""
        if self._gradient is None:
            j = self.joint()
            g = Graph(f"d_{self.name}", j.params, j.nodes, j.results[len(self.graph.results) :])
            self._gradient = Differentiable(g, len(g.results), self.numerics)
        return self._gradient

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the graph, which must be free of Variables, and let the tapes know."""
        forward, _ = self.halves()
        exe = self._executable(forward)
        outs = run_flat(exe, values)
        return self.record(values, values, outs)

    def _executable(self, forward: Graph) -> Executable:
        if not hasattr(self, "_exe"):
            self._exe = graph_executable(forward, self.numerics, optimized=True)
        return self._exe

    def record(self, keys: Sequence[Operand], values: Sequence[Tensor], outs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tell the tapes of a call whose results, with what was kept, are `outs`; returns the caller's part."""
        kept = [values[i] if kind == "param" else outs[i] for kind, i in self.kept]
        mine = outs[: self.outputs]
        call = _Call(self, kept)
        heard = tuple([mine[i] for i in self.targets])
        for tape in context.tapes if heard else ():
            tape.record(call, tuple(keys), tuple(values), {}, heard)
        return mine


class _Call:
    """One call as tapes remember it: an op whose vjp runs the compiled backward."""

    __slots__ = ("of", "kept", "name")
    pure = True

    def __init__(self, of: Differentiable, kept: list[Tensor]) -> None:
        self.of, self.kept, self.name = of, kept, of.name

    def vjp(self, g: Any, y: Any, *values: Tensor) -> tuple:
        of = self.of
        cotangents = g if type(g) is tuple else (g,)
        if context.trace is not None:
            grads = replay(of.gradient().graph, [*values, *cotangents])
        elif context.tapes:
            grads = of.gradient()([*values, *cotangents])
        else:
            grads = run_flat(of.halves()[1], [*self.kept, *cotangents])
        by_param = dict(zip(of.linked, grads, strict=True))
        return tuple([by_param.get(i) for i in range(len(values))])


def _linked(graph: Graph) -> set[Value]:
    """The values that a gradient can flow back from to some parameter."""
    found = {p for p in graph.params if p.dtype.kind in "fc"}
    for n in graph.nodes:
        if n.op.vjp is not None and not found.isdisjoint(n.inputs):
            found |= {v for v in n.outs if v.dtype.kind in "fc"}
    return found


def _strong(t: TensorType) -> TensorType:
    return TensorType(t.dtype, t.shape)


def record_call(concrete: Any, inputs: list[Any], sizes: dict[str, int]) -> list[Tensor]:
    """Run a concrete function while tapes listen: the tensor leaves of its result."""
    exe: Executable = concrete.executable
    parts: Parts = exe.parts
    if concrete.forward is None:
        d = Differentiable(parts.graph, parts.outputs, exe.numerics)
        forward, _ = d.halves()
        n, w = parts.outputs, len(parts.writes)
        assigned = forward.results[n : n + w]
        # what is kept and assigned to a Variable as well is a result twice: the Variable goes on changing
        twice = [assigned[i - n] for kind, i in d.kept if kind == "result" and n <= i < n + w]
        results = (*forward.results[:n], *forward.results[n + w :], *twice, *assigned)
        graph = Graph(forward.name, forward.params, forward.nodes, results)
        old = dict(zip(parts.graph.params, graph.params, strict=True))
        moved = Parts(
            graph, parts.leaves, [(old[p], o) for p, o in parts.captures], [(old[p], v) for p, v in parts.reads],
            parts.writes, len(results) - w,
        )  # fmt: skip
        concrete.forward = (d, Executable(moved, exe.numerics, None, graph))
    d, fwd = concrete.forward
    keys, values = _operands(parts, inputs)
    n, w = parts.outputs, len(parts.writes)
    if fwd.program is None:
        out, new = fwd.interpret([v._a for v in values])
        for v, a in zip(parts.writes, new, strict=True):
            v._a = a
    else:
        plan = fwd.plan(sizes, Returns("tuple", tuple(range(fwd.parts.outputs))))
        ready = [x.value if x.kind in ("static", "variable") else None for x in parts.leaves]
        for i, leaf in enumerate(parts.leaves):
            if leaf.kind == "tensor":
                ready[i] = np.asarray(values[leaf.param]._a, order="C")
            elif leaf.kind == "scalar":
                ready[i] = inputs[leaf.param]
        out = plan.run(ready)
        if out is NotImplemented:
            raise AssertionError("the forward plan does not fit the arguments that it was made for")
    # what is kept is numbered among the results with the new values of Variables in between
    wanted = [kind == "result" and n <= i < n + w for kind, i in d.kept]
    rest = iter(out[len(out) - sum(wanted) :])
    middle: list[Any] = [None] * w
    for (_, i), hit in zip(d.kept, wanted, strict=True):
        if hit:
            middle[i - n] = next(rest)
    return list(d.record(keys, values, (*out[:n], *middle, *out[n:])))


def _operands(parts: Parts, inputs: list[Any]) -> tuple[list[Operand], list[Tensor]]:
    """For each parameter of the graph: what the user knows it by, and its value now."""
    index = {p: i for i, p in enumerate(parts.graph.params)}
    keys: list[Any] = [None] * len(index)
    for i, x in enumerate(inputs):
        d = parts.graph.params[i].dtype
        if isinstance(x, Tensor):
            keys[i] = x
        else:
            a = np.asarray(x)
            # the user may write to an array before the gradient is taken
            keys[i] = wrap(np.array(a, d.np, order="C", copy=True))
    for p, owner in parts.captures:
        keys[index[p]] = owner if isinstance(owner, Tensor) else wrap(array_of(owner).copy())
    for p, v in parts.reads:
        keys[index[p]] = v
    values = [wrap(k._a) if isinstance(k, Variable) else k for k in keys]
    return keys, values
