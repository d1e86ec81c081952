"""Variables that a traced function makes and that outlive its trace: they get their first values, and become state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracejit.backends import reference
from tracejit.concrete import array_of
from tracejit.errors import ConversionError, locate
from tracejit.ir.graph import Graph, Node, Value
from tracejit.tensor import Variable
from tracejit.tracing import Trace, unborn


def give_birth(trace: Trace, variables: Sequence[Variable], inputs: Sequence[np.ndarray]) -> None:
    """Make Variables of the trace real. `inputs` are arrays for the first parameters, which the arguments are.

    What follows from their first values in the trace follows from then on from what they hold at the call.
    """
    firsts = [trace.made[id(v)][1] for v in variables]
    results = [trace.value(t) for t in firsts]
    nodes = _needed(trace.builder.nodes, results)
    arrays: dict[Value, np.ndarray] = dict(zip(trace.builder.params, inputs, strict=False))
    arrays |= {t._a: array_of(owner) for owner, t in trace.captures.values()}
    arrays |= {t._a: v._a for v, t in trace.reads.values()}
    graph = Graph("initial values", trace.builder.params, nodes, results)
    made = reference.run(graph, [arrays[p] for p in graph.params])
    for v, first, value, a in zip(variables, firsts, results, made, strict=True):
        v._a = np.array(a, order="C")
        trace.builder.become_param(value, trace.origin(f"the value of the Variable {v.name!r}"))
        trace.reads[id(v)] = (v, first)
        del trace.made[id(v)]
        unborn.forget(v)


def _needed(nodes: Sequence[Node], results: Sequence[Value]) -> list[Node]:
    """The nodes that the results follow from. Effects among them would happen twice."""
    wanted = set(results)
    out: list[Node] = []
    for n in reversed(nodes):
        if wanted.isdisjoint(n.outs):
            continue
        if not n.pure:
            raise locate(ConversionError("a Variable's initial value comes from a call of Python"))
        out.append(n)
        wanted.update(n.inputs)
    return out[::-1]


__all__ = ["give_birth"]
