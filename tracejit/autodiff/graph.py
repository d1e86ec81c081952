"""The gradient of a whole graph, as a graph: the tape listens while the graph is called again inside a trace."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.autodiff.tape import GradientTape
from tracejit.ir.graph import Graph
from tracejit.tensor import Tensor
from tracejit.tracing import replay, trace_graph


def differentiable(graph: Graph) -> list[int]:
    """The results that take a cotangent: those of floating and complex dtypes."""
    return [i for i, r in enumerate(graph.results) if r.dtype.is_inexact]


def vjp_graph(graph: Graph, wanted: Sequence[int]) -> Graph:
    """Forward and backward in one graph: parameters and cotangents to results and gradients.

    Parameters
    ----------
    graph : as it was traced; one that `optimize` has finished no longer knows where gradients stop
    wanted : numbers of the parameters to differentiate with respect to

    The cotangents follow the parameters, one for each of `differentiable(graph)`; the gradients follow the results, one
    for each of `wanted`, zeros where no path leads to it.
    """
    targets = differentiable(graph)

    def both(*args: Tensor) -> list[Tensor]:
        xs, cotangents = args[: len(graph.params)], args[len(graph.params) :]
        sources = [xs[i] for i in wanted]
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(*sources)
            ys = replay(graph, xs)
        grads = tape.gradient(
            [ys[i] for i in targets], sources, output_gradients=list(cotangents), unconnected_gradients="zero"
        )
        return [*ys, *grads]

    types = [p.type for p in graph.params] + [graph.results[i].type for i in targets]
    return trace_graph(both, [t.strong() for t in types], f"vjp_{graph.name}")
