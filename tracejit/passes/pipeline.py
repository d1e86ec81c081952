"""The passes in their order, from a traced graph to the one that is lowered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tracejit.backends import reference
from tracejit.config import config
from tracejit.errors import GraphError, TracejitError
from tracejit.ir.found import PREFIX
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.sizes import hint
from tracejit.ir.text import symbols, verify, walk
from tracejit.ir.types import as_dtype
from tracejit.passes import loops
from tracejit.passes.branches import shared
from tracejit.passes.chains import chains
from tracejit.passes.counters import counters
from tracejit.passes.hoist import hoist, sink, sums
from tracejit.passes.keep import keep
from tracejit.passes.match import DEFAULT, EXACT, FINITE, Level, epsilon, level
from tracejit.passes.prepare import preparing
from tracejit.passes.proofs import proven
from tracejit.passes.scans import inlined, renewed, trim, within
from tracejit.passes.simplify import Report, rebuild, rules_at


def optimize(
    graph: Graph,
    numerics: str | Level = DEFAULT,
    report: Report | None = None,
    *,
    differentiated: bool = True,
    arrays: Sequence[np.ndarray] | None = None,
) -> Graph:
    """The graph with fewer and cheaper operations and the same results.

    Parameters
    ----------
    graph : as it was traced
    numerics : "exact" (the same bits as eager for every input), "finite" (the default: the same numbers wherever they
        are finite, but a zero may change its sign and a sum its order) or "fast" (equal as real numbers)
    report : is told what was done
    differentiated : whether no gradient will be taken of the result; if one will, `stop_gradient` stays
    arrays : the call's arguments; with `config.check` on, results are compared on them (else on random ones) after each
        pass, and `GraphError` is raised if they differ
    """
    upto = level(numerics)
    report = report if report is not None else Report()
    made = graph
    for name, after in optimizing(graph, upto, report, differentiated):
        _check(name, made, after, upto, arrays)
        made = after
    report.note("kept", f"{len(made.nodes)} of {len(graph.nodes)} operations")
    return made


def optimizing(graph: Graph, upto: Level, report: Report, differentiated: bool = True) -> Iterator[tuple[str, Graph]]:
    """Each pass's name with the graph after it, which is the same graph where the pass has nothing to do."""
    control, reorder = loops.has_control(graph), upto is not EXACT
    rules = rules_at(upto, differentiated)

    def visit(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        done = _without_custom(b, n, inputs) if differentiated else None
        return loops.visit(b, n, inputs) if done is None else done

    def simplified(g: Graph) -> Graph:
        return rebuild(g, visit=visit, rules=rules, report=report)

    def chained(g: Graph) -> Graph:
        joined = chains(g, upto, report)
        return g if joined is None else rebuild(g, visit=joined, rules=rules, report=report)

    passes: list[tuple[str, bool, Callable[[Graph], Graph]]] = [
        ("share", control, loops.share),
        ("open", differentiated, opened),
        ("simplify", True, simplified),
        ("simplify-2", control, simplified),  # what was simple inside may now be so around it
        ("trim", control, trim),
        ("keep", control, keep),
        ("sums", control and reorder, sums),
        ("sink", control and reorder, sink),
        ("branches", control, shared),
        ("hoist", control, lambda g: hoist(g, reorder)),
        ("trim-2", control, trim),
        ("simplify-3", control, simplified),
        ("proofs", True, proven),
        ("counters", control and differentiated, counters),
        ("chains", True, chained),
    ]
    for name, wanted, run in passes:
        graph = run(graph) if wanted else graph
        yield name, graph


def prepare(graph: Graph, numerics: str | Level = DEFAULT, *, arrays: Sequence[np.ndarray] | None = None) -> Graph:
    """The optimized graph as fusion takes it, checked after each pass as `optimize` does."""
    upto = max(level(numerics), FINITE)  # parts of complex numbers and small products round otherwise than NumPy's
    for name, after in preparing(graph, numerics):
        _check(name, graph, after, upto, arrays)
        graph = after
    return graph


def stages(graph: Graph, numerics: str | Level = DEFAULT) -> Iterator[tuple[str, Graph]]:
    """The names of all passes in their order, each with the graph after it: what users look at."""
    for name, after in optimizing(graph, level(numerics), Report()):
        graph = after
        yield name, graph
    yield from preparing(graph, numerics)


def opened(graph: Graph) -> Graph:
    """The graph with what is computed again for gradients in it, now that there will be no further gradient."""

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        if n.op.name != "recompute":
            return None
        return inlined(b, n.attr("body"), [env[x] for x in n.inputs])

    while any(n.op.name == "recompute" for n in graph.nodes):
        graph = renewed(graph, visit)
    return within(graph, opened)


def _without_custom(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Gradients of their own have no part in a graph of which no gradient will be taken."""
    if "first" in n.op.special:
        return inputs[:1]
    return inputs[: n.attr("n")] if n.op.name == "custom_vjp" else None


def _check(name: str, before: Graph, after: Graph, upto: Level, arrays: Sequence[np.ndarray] | None) -> None:
    """With `config.check` on: the graph keeps the rules of the IR and computes what it did."""
    if not config.check or after is before:
        return
    try:
        verify(after, None if name == "proofs" else before)  # which leaves out checks that cannot fail
    except GraphError as e:
        raise GraphError(f"after pass {name}: {e.message}") from None
    if any(not n.pure and n.op.name != "check" for n in before.nodes):
        return
    if arrays is None and any(n.op.name in ("while", "while_saving") for g in walk(before) for n in g.nodes):
        return  # random arguments may keep such a loop running for ever
    args = list(arrays) if arrays is not None else [sample(p, i) for i, p in enumerate(before.params)]
    hints = {s: k for s, k in symbols(before).items() if not s.startswith(PREFIX)}
    sizes = hints if arrays is None else reference.bind(before, args)
    try:
        want = reference.run(before, args, sizes)
    except (TracejitError, ArithmeticError, ValueError, IndexError):
        return  # random arguments need not be ones that the function takes
    for i, (x, y) in enumerate(zip(want, reference.run(after, args, sizes), strict=True)):
        if not agree(x, y, upto):
            raise GraphError(f"pass {name} changed result {i} of graph {before.name}:\n{before}\nbecame\n{after}")


def sample(p: Value, seed: int) -> np.ndarray:
    """Numbers that a parameter may hold."""
    rng = np.random.default_rng(seed)
    shape = [hint(d) for d in p.shape]
    if p.dtype.kind in "biu":
        return rng.integers(0, 2, shape).astype(p.dtype.np)
    if p.dtype.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(p.dtype.np)
    a = rng.normal(size=shape)
    if len(shape) > 1:  # products of such matrices stay of one size, so that no loop magnifies roundings
        a = a / max(1, shape[-2]) ** 0.5
    return a.astype(p.dtype.np)


def agree(x: np.ndarray, y: np.ndarray, upto: Level) -> bool:
    """Whether two results are as equal as `upto` asks: the same bits, or within the rounding of a few operations."""
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    if upto is EXACT or x.dtype.kind in "biu":
        return bool(((x == y) | ((x != x) & (y != y))).all())
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    a, b = x.astype(wide), y.astype(wide)
    eps = epsilon(as_dtype(x.dtype))
    finite = np.isfinite(a) & np.isfinite(b)
    scale = float(np.abs(a[finite]).max(initial=1.0))
    return bool(np.allclose(a[finite], b[finite], rtol=1e3 * eps, atol=1e3 * eps * scale))
