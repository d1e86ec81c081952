"""Variables that a traced function makes and that outlive its trace: they get their first values, and become state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.backends import reference
from tracejit.concrete import array_of
from tracejit.errors import ConversionError
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ops.host import Drawn, host_call
from tracejit.tensor import Variable, wrap
from tracejit.tracing import Trace, unborn


def give_birth(trace: Trace, variables: Sequence[Variable], inputs: Sequence[np.ndarray]) -> None:
    """Make Variables of the trace real. `inputs` are arrays for the first parameters, which the arguments are.

    What follows from their first values in the trace follows from then on from what they hold at the call.
    """
    firsts = [trace.made[id(v)][1] for v in variables]
    results = [trace.value(t) for t in firsts]
    _draw(trace, results)
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


def _draw(trace: Trace, results: Sequence[Value]) -> None:
    """Draw the random numbers that the results follow from, which are for this call alone, and those before them."""
    nodes = trace.builder.nodes
    asked = [n for n in _needed(nodes, results) if not n.pure]
    if not asked:
        return
    first = next(v for v in results if any(not n.pure for n in _needed(nodes, [v])))
    before = [n for n in nodes[: nodes.index(asked[-1]) + 1] if not n.pure]
    for n in before:
        if n in asked and not _is_drawn(n):
            raise _refused("a Variable's initial value comes from a call of Python", first)
        if not (_is_drawn(n) or _only_tells(n)):
            raise _refused("a Variable's initial value is drawn at random after another call of Python", first)
    for n in before:
        if n in asked:
            drawn = n.op.numpy(**dict(n.attrs))
            for v, x in zip(n.outs, drawn if type(drawn) is tuple else (drawn,), strict=True):
                trace.builder.become_param(v, trace.origin("random numbers for a Variable"))
                trace.captures[id(x)] = x, wrap(v)
        elif _is_drawn(n):
            n.attr("f").ahead()


def _is_drawn(n: Node) -> bool:
    return n.op is host_call and isinstance(n.attr("f"), Drawn) and not n.inputs


def _only_tells(n: Node) -> bool:
    """Whether it draws no random numbers."""
    return n.op.name == "check" or (n.op is host_call and n.attr("f").name == "print")


def _refused(why: str, v: Any) -> ConversionError:
    """`v` is where the Variable is made."""
    error = ConversionError(why, remedy="draw it with tj.random, or make the Variable before the first call")
    error.where = [v.node.loc] if v.node.loc is not None else []
    return error


def _needed(nodes: Sequence[Node], results: Sequence[Value]) -> list[Node]:
    """The nodes that the results follow from."""
    wanted = set(results)
    out: list[Node] = []
    for n in reversed(nodes):
        if not wanted.isdisjoint(n.outs):
            out.append(n)
            wanted.update(n.inputs)
    return out[::-1]


__all__ = ["give_birth"]
