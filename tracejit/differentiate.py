"""A compiled call under an eager tape: a forward that keeps residuals, a compiled backward, to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from tracejit.autodiff.apart import apart
from tracejit.autodiff.forward import ForwardAccumulator, by_double_vjp
from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.autodiff.transforms import beyond, by_operations
from tracejit.autodiff.why import Unlinked
from tracejit.autograph.effects import Moving
from tracejit.backends import reference
from tracejit.concrete import Executable, Parts, array_of, graph_executable, run_flat
from tracejit.config import config
from tracejit.context import context
from tracejit.errors import Faults, NoDerivativeError
from tracejit.ir.graph import Graph, Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import size_at
from tracejit.ops.controlgrad import quiet
from tracejit.passes.captured import owners, with_parameters
from tracejit.passes.partition import Partition, partition
from tracejit.passes.pipeline import optimize
from tracejit.runtime.interrupts import hold
from tracejit.runtime.records import Returns
from tracejit.tensor import Operand, Tensor, Variable, wrap
from tracejit.then import Then
from tracejit.tracing import at_sizes, constant, dim, replay, trace_graph

T = TypeVar("T")


class Differentiable:
    """What is known of a graph's derivative: the joint graph, which gradients exist, and the compiled halves.

    The graph's parameters are those of the call; its first `outputs` results have cotangents if they are floating.
    """

    def __init__(self, graph: Graph, outputs: int, numerics: str, faults: Faults) -> None:
        self.outputs, self.numerics, self.faults = outputs, numerics, faults
        self.broken = False  # the compiler failed: operations run one by one
        self.traced = graph
        self.graph = self._trying(lambda: optimize(graph, numerics, differentiated=False)) or graph
        self.name = graph.name
        self.sources = [i for i, p in enumerate(self.graph.params) if p.dtype.kind in "fc"]
        linked = _linked(graph)
        self.targets = [i for i, r in enumerate(graph.results[:outputs]) if r in linked]
        self.linked: list[int] = []  # parameters that a gradient exists for
        self.refused: dict[int, NoDerivativeError] = {}  # parameters that there is no derivative along, and why
        self._joint: Graph | None = None
        self._backward: Executable | None = None
        self._gradients: dict[tuple[bool, ...], tuple[Differentiable, list[int]]] = {}
        self._tangents: dict[tuple[bool, ...], tuple[Differentiable, list[int]]] = {}
        self._plain: Executable | None = None
        self.kept: tuple[tuple[str, int], ...] = ()
        self.acts = False  # whether the backward does more than computing, so that no part of it runs that is not asked
        self.beyond = beyond(graph)
        self._forward: Graph | None = None

    def _trying(self, f: Callable[[], T]) -> T | None:
        """What a part of the compiler gives; None, and no compiled derivative from then on, if it fails."""
        try:
            return f()
        except Exception as e:
            if config.check or isinstance(e, MemoryError):
                raise
            self.faults.add(e)
            self.broken = True
            return None

    def joint(self) -> Graph:
        """(parameters, cotangents) → (results, gradients that exist)."""
        if self._joint is None:
            self._joint, self.linked = self._with_gradients(self.targets)
        return self._joint

    def _with_gradients(self, targets: list[int], effects: bool = True) -> tuple[Graph, list[int]]:
        """The graph, perhaps without its own effects, with the gradients of some results, and the parameters that they
        exist for."""
        graph = self.graph if effects else quiet(self.graph)
        types = [p.type.strong() for p in self.graph.params]
        types += [self.graph.results[i].type.strong() for i in targets]
        n = len(self.graph.params)
        linked: list[int] = []
        flat = self._flat(targets)

        def both(*xs: Tensor) -> tuple[Tensor, ...]:
            with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(*[xs[i] for i in self.sources])
                ys = replay(graph, xs[:n])
            grads = self._known(tape, [ys[i] for i in targets], xs, list(xs[n:]))
            grads = [zeros_like(xs[i]) if i in flat else g for i, g in zip(self.sources, grads, strict=True)]
            linked.extend([i for i, g in zip(self.sources, grads, strict=True) if g is not None])
            return (*ys, *[g for g in grads if g is not None])

        return trace_graph(both, types, f"vjp_{self.name}"), linked

    def _known(self, tape: GradientTape, ys: list[Tensor], xs: Sequence[Tensor], given: Any) -> list[Any]:
        """The gradients for the sources. For those that there is no derivative along, which may not be wanted, None."""
        try:
            return list(tape.gradient(ys, [xs[i] for i in self.sources], given))
        except NoDerivativeError:
            grads = []
            for i in self.sources:
                try:
                    grads.append(tape.gradient(ys, xs[i], given))
                except NoDerivativeError as e:
                    self.refused[i] = e
                    grads.append(None)
            return grads

    def _flat(self, targets: list[int]) -> set[int]:
        """The parameters whose only paths to the targets were simplified away: their gradient is zero, not absent."""
        before, now = (_leading(g, targets) & set(self.sources) for g in (self.traced, self.graph))
        if before == now:
            return set()
        types = [p.type.strong() for p in self.traced.params]
        found: set[int] = set()

        def sources(*xs: Tensor) -> tuple[Tensor, ...]:
            with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(*[xs[i] for i in self.sources])
                ys = replay(self.traced, xs)
            grads = self._known(tape, [ys[i] for i in targets], xs, None)
            found.update([i for i, g in zip(self.sources, grads, strict=True) if g is not None])
            return ys

        trace_graph(sources, types)
        return found - now

    def halves(self) -> tuple[Graph, Executable] | None:
        """The forward graph, with what it keeps as extra results, and the compiled backward; None if that failed."""
        if self._backward is None and not self.broken:
            joint = self.joint()  # runs the user's own gradients, whose errors are the user's
            p = self._trying(lambda: self._split(joint))
            if p is not None:
                self._forward, self.kept, self.acts = p.forward, p.kept, not p.backward.pure
                self._backward = graph_executable(p.backward, self.numerics, self.faults, optimized=True)
        if self._forward is None or self._backward is None:
            return None
        return self._forward, self._backward

    def _split(self, joint: Graph) -> Partition:
        return partition(optimize(joint, self.numerics), len(self.graph.params), len(self.graph.results))

    def gradient(self, present: tuple[bool, ...]) -> tuple[Differentiable, list[int]]:
        """The gradient as a differentiable graph of its own, and the parameters that it exists for.

        It maps (parameters, cotangents) to gradients; `present` tells which of the targets have a cotangent.
        """
        if present not in self._gradients:
            some = [i for i, there in zip(self.targets, present, strict=True) if there]
            whole = all(present) and self.graph.pure
            j, linked = (self.joint(), self.linked) if whole else self._with_gradients(some, False)
            g = Graph(f"d_{self.name}", j.params, j.nodes, j.results[len(self.graph.results) :])
            self._gradients[present] = Differentiable(g, len(g.results), self.numerics, self.faults), linked
        return self._gradients[present]

    def tangent(self, present: tuple[bool, ...]) -> tuple[Differentiable, list[int]]:
        """Forward mode as a differentiable graph of its own, and the targets that it gives a tangent of.

        It maps (parameters, tangents) to tangents; `present` tells which of the parameters have a tangent.
        """
        if present not in self._tangents:
            n, moved = len(self.graph.params), [i for i, there in enumerate(present) if there]
            types = [p.type.strong() for p in (*self.graph.params, *[self.graph.params[i] for i in moved])]
            found: list[int] = []

            def push(*xs: Tensor) -> tuple[Tensor, ...]:
                with ForwardAccumulator([xs[i] for i in moved], list(xs[n:])) as acc:
                    ys = replay(quiet(self.graph), xs[:n])
                made = [acc.jvp(ys[i]) for i in self.targets]
                found.extend([i for i, t in enumerate(made) if t is not None])
                return tuple([t for t in made if t is not None])

            g = trace_graph(push, types, f"jvp_{self.name}")
            self._tangents[present] = Differentiable(g, len(g.results), self.numerics, self.faults), found
        return self._tangents[present]

    def run(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """The results, of which no tape hears."""
        if self._plain is None:
            self._plain = graph_executable(self.graph, self.numerics, self.faults)
        return run_flat(self._plain, values)

    def again(self, values: Sequence[Tensor], call: _Call) -> Sequence[Tensor]:
        """The results as part of a derivative of a call: in a trace its operations, of which all tapes hear."""
        if context.trace is not None:
            return replay(apart(self.graph, call), values)
        return self(values) if context.tapes else self.run(values)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the graph, which must be free of Variables, and let the tapes know."""
        halves = self.halves()
        if halves is None:
            return replay_at(self.graph, values)[: self.outputs]
        exe = self._executable(halves[0])
        outs = run_flat(exe, values)
        return self.record(values, values, outs)

    def _executable(self, forward: Graph) -> Executable:
        if not hasattr(self, "_exe"):
            self._exe = graph_executable(forward, self.numerics, self.faults, optimized=True)
        return self._exe

    def record(self, keys: Sequence[Operand], values: Sequence[Tensor], outs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tell the tapes of a call whose results, with what was kept, are `outs`; returns the caller's part."""
        kept = [values[i] if kind == "param" else outs[i] for kind, i in self.kept]
        mine = outs[: self.outputs]
        heard = tuple([mine[i] for i in self.targets])
        call = _Call(self, kept, heard)
        cut = [i for i in range(len(mine)) if i not in self.targets] if len(heard) < len(mine) else []
        for tape in context.tapes:
            if heard:
                tape.record(call, tuple(keys), tuple(values), {}, heard)
            for i in cut:
                tape.record(Unlinked(self.name, self.traced, i), tuple(keys), tuple(values), {}, (mine[i],))
        return mine


class _Call:
    """One call as tapes remember it: an op whose vjp runs the compiled backward."""

    __slots__ = ("of", "kept", "results", "name", "_found")
    pure = True

    def __init__(self, of: Differentiable, kept: list[Tensor], results: tuple[Tensor, ...]) -> None:
        self.of, self.kept, self.results, self.name = of, kept, results, of.name
        self._found = Then(of.beyond) if of.beyond else None

    def vjp(self, g: Any, y: Any, *values: Tensor) -> tuple:
        return self.pull(g if type(g) is tuple else (g,), values)

    def jvp(self, tangents: tuple, y: Any, *values: Tensor) -> tuple:
        """The tangents of the results from those of the parameters, some of which may be absent."""
        outs = self.results
        if any(n.outs and not n.pure for n in self.of.graph.nodes):  # what it calls is not to be called again
            return by_double_vjp(self, tangents, outs, values, {})
        made: list[Any] = [None] * len(outs)
        moved = tuple([t is not None and t.dtype.kind in "fc" for t in tangents])
        of, found = self.of.tangent(moved)
        if found:
            given = [*values, *[t for t, there in zip(tangents, moved, strict=True) if there]]
            ys = of.again(given, self)
            for i, t in zip(found, ys, strict=True):
                made[i] = t
        return tuple(made)

    def pull(self, gs: tuple, values: Sequence[Tensor]) -> tuple:
        """The cotangents of the parameters; those of results may be absent."""
        of = self.of
        present = tuple([g is not None for g in gs])
        linked = of.linked
        if self._found is not None and self._found.is_other(of.graph):
            return self._by_operations(gs, values)
        if context.trace is not None or context.tapes or (of.acts and not all(present)):
            gradient, linked = of.gradient(present)
            given = [*values, *[g for g in gs if g is not None]]
            grads = gradient.again(given, self)
            by_param = dict(zip(linked, grads, strict=True))
        else:
            halves = of.halves()
            assert halves is not None
            given = [zeros_like(r) if g is None else g for g, r in zip(gs, self.results, strict=True)]
            grads = run_flat(halves[1], [*self.kept, *given])
            by_param = dict(zip(linked, grads, strict=True))
            if not all(present):
                hit = of.gradient(present)[1]
                by_param = {i: g for i, g in by_param.items() if i in hit}
        return tuple([by_param[i] if i in by_param else _refusing(of.refused.get(i)) for i in range(len(values))])

    def _by_operations(self, gs: tuple, values: Sequence[Tensor]) -> tuple:
        """The same by going through the operations again, one by one, which finds what Variables hold now."""
        of = self.of
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(*[values[i] for i in of.sources])
            ys = replay_at(quiet(of.graph), values)
        pairs = [(ys[i], g) for i, g in zip(of.targets, gs, strict=True) if g is not None]
        with by_operations():
            found = tape.gradient([y for y, _ in pairs], [values[i] for i in of.sources], [g for _, g in pairs])
        grads = dict(zip(of.sources, found, strict=True))
        return tuple([grads.get(i) for i in range(len(values))])


def _refusing(e: NoDerivativeError | None) -> Callable[[], Any] | None:
    """What raises it once that gradient is wanted."""
    if e is None:
        return None

    def refuse() -> Any:
        raise e

    return refuse


def _linked(graph: Graph) -> set[Value]:
    """The values that a gradient can flow back from to some parameter."""
    found = {p for p in graph.params if p.dtype.kind in "fc"}
    for n in graph.nodes:
        if n.op.vjp is not None and not found.isdisjoint(n.inputs):
            found |= {v for v in n.outs if v.dtype.kind in "fc"}
    return found


def _leading(graph: Graph, targets: list[int]) -> set[int]:
    """The parameters that paths of differentiable operations lead from to some of the results."""
    found = {graph.results[i] for i in targets}
    for n in reversed(graph.nodes):
        if n.op.vjp is not None and not found.isdisjoint(n.outs):
            found |= {v for v in n.inputs if v.dtype.kind in "fc"}
    return {i for i, p in enumerate(graph.params) if p in found}



def replay_at(graph: Graph, args: Sequence[Operand]) -> tuple[Tensor, ...]:
    """The operations of a graph one by one, with the sizes that the arguments have, while tapes listen."""
    sizes = reference.bind(graph, [x._a for x in args])
    env: dict[Value, Any] = dict(zip(graph.params, args, strict=True))
    for n in graph.nodes:
        if n.op is constant:
            y: Any = wrap(np.array(n.attr("value").numpy(sizes)))
        elif n.op is dim:
            y = wrap(np.array(size_at(n.attr("size"), sizes), n.out.dtype.np))
        else:
            y = n.op(*[env[v] for v in n.inputs], **at_sizes(reference.without_found(n, sizes), sizes))
        ys = y if type(y) is tuple else (y,)
        reference.learn(n, [t._a for t in ys], sizes)
        env.update(zip(n.outs, ys, strict=True))
    return tuple([x if type(x) is Tensor else OPS["identity"](x) for x in (env[r] for r in graph.results)])


class Heard:
    """How a concrete function runs while tapes listen."""

    def __init__(self, concrete: Any) -> None:
        self.exe: Executable = concrete.executable
        self.constants = owners(self.exe.parts.graph)
        self.made: dict[tuple[int, ...], tuple[Parts, Differentiable, Executable | None]] = {}

    def programs(self) -> tuple[Parts, Differentiable, Executable | None]:
        """The graph with its parameters' meaning, its derivative and its program. Of the tensors from outside that are
        constants in it those that a tape knows are parameters."""
        known = [(i, t) for i, r in enumerate(self.constants) if (t := r()) is not None and _is_known(t)]
        key = tuple([i for i, _ in known])
        if key not in self.made:
            parts = _with_parameters(self.exe.parts, [t for _, t in known]) if known else self.exe.parts
            self.made[key] = (parts, *_forward_of(parts, self.exe))
        return self.made[key]


def _is_known(t: Tensor) -> bool:
    return any(tape.knows(t) for tape in context.tapes)


def _with_parameters(parts: Parts, tensors: Sequence[Tensor]) -> Parts:
    graph = with_parameters(parts.graph, tensors)
    new = dict(zip(parts.graph.params, graph.params, strict=False))
    captures = [(new[p], o) for p, o in parts.captures]
    captures += zip(graph.params[len(new) :], tensors, strict=True)
    return replace(parts, graph=graph, captures=captures, reads=[(new[p], v) for p, v in parts.reads])


def _forward_of(parts: Parts, exe: Executable) -> tuple[Differentiable, Executable | None]:
    """The derivative, and a program that returns what the backward needs as well."""
    d = Differentiable(parts.graph, parts.outputs, exe.numerics, exe.faults)
    halves = d.halves()
    if halves is None:
        return d, None
    forward = halves[0]
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
    made = Executable(moved, exe.numerics, exe.faults, graph)
    made.whole = exe.whole
    return d, made


def record_call(concrete: Any, inputs: list[Any], sizes: dict[str, int]) -> list[Tensor]:
    """Run a concrete function while tapes listen: the tensor leaves of its result."""
    if concrete.forward is None:
        concrete.forward = Heard(concrete)
    parts, d, fwd = concrete.forward.programs()
    keys, values = _operands(parts, inputs)
    n, w = parts.outputs, len(parts.writes)
    if fwd is None:
        ys = replay_at(parts.graph, keys)
        if concrete.executable.whole:
            hold()
        _write(parts, [np.array(y._a, order="C") for y in ys[n:]])
        return list(ys[:n])
    out = fwd.run(fwd.plan(sizes, Returns("tuple", tuple(range(fwd.parts.outputs)))), _leaves(parts, inputs, values))
    if out is NotImplemented:
        out, new = fwd.interpret([v._a for v in values])
        if fwd.whole:
            hold()
        _write(parts, new)
    # what is kept is numbered among the results with the new values of Variables in between
    wanted = [kind == "result" and n <= i < n + w for kind, i in d.kept]
    rest = iter(out[len(out) - sum(wanted) :])
    middle: list[Any] = [None] * w
    for (_, i), hit in zip(d.kept, wanted, strict=True):
        if hit:
            middle[i - n] = next(rest)
    return list(d.record(keys, values, (*out[:n], *middle, *out[n:])))


def _write(parts: Parts, arrays: Sequence[np.ndarray]) -> None:
    for v, a in zip(parts.writes, arrays, strict=True):
        v._a = a


def _leaves(parts: Parts, inputs: list[Any], values: list[Tensor]) -> list[Any]:
    """The argument leaves as plans take them."""
    ready = [x.value.value if x.kind in ("static", "variable") else None for x in parts.leaves]
    for i, leaf in enumerate(parts.leaves):
        if leaf.kind == "tensor":
            ready[i] = np.asarray(values[leaf.param]._a, order="C")
        elif leaf.kind == "scalar":
            ready[i] = inputs[leaf.param]
    return ready


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
        known = owner.tensor if isinstance(owner, Moving) else owner
        keys[index[p]] = known if isinstance(known, Tensor) else wrap(array_of(owner).copy())
    for p, v in parts.reads:
        keys[index[p]] = v
    values = [wrap(k._a) if isinstance(k, Variable) else k for k in keys]
    return keys, values
