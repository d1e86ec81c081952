"""The passes in their order, from a traced graph to the one that is lowered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracejit.backends import reference
from tracejit.config import config
from tracejit.errors import GraphError, TracejitError
from tracejit.ir.dim import hint
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.text import symbols, verify
from tracejit.ir.types import as_dtype
from tracejit.passes import loops
from tracejit.passes.chains import chains
from tracejit.passes.match import DEFAULT, EXACT, Level, epsilon, level
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
    rules = rules_at(upto, differentiated)
    size = len(graph.nodes)

    branching = loops.has_control(graph)
    if branching:
        before, graph = graph, loops.share(graph)
        _check("loops", before, graph, upto, arrays)

    def visit_first(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        done = _without_custom(b, n, inputs) if differentiated else None
        return loops.visit(b, n, inputs) if done is None else done

    made = rebuild(graph, visit=visit_first, rules=rules, report=report)
    _check("simplify", graph, made, upto, arrays)
    if branching:  # what was simple inside may now be so around it
        made = rebuild(made, visit=visit_first, rules=rules, report=report)

    visit = chains(made, upto, report)
    if visit is not None:
        before, made = made, rebuild(made, visit, rules, report=report)
        _check("chains", before, made, upto, arrays)

    report.note("kept", f"{len(made.nodes)} of {size} operations")
    return made


def _without_custom(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """A user's own gradient has no part in a graph of which no gradient will be taken."""
    return inputs[: n.attr("n")] if n.op.name == "custom_vjp" else None


def _check(name: str, before: Graph, after: Graph, upto: Level, arrays: Sequence[np.ndarray] | None) -> None:
    """With `config.check` on: the graph keeps the rules of the IR and computes what it did."""
    if not config.check:
        return
    try:
        verify(after, before)
    except GraphError as e:
        raise GraphError(f"after pass {name}: {e.message}") from None
    if any(not n.pure and n.op.name != "check" for n in before.nodes):
        return
    args = list(arrays) if arrays is not None else [sample(p, i) for i, p in enumerate(before.params)]
    sizes = symbols(before) if arrays is None else reference.bind(before, args)
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
    return rng.normal(size=shape).astype(p.dtype.np)


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
