"""Graphs that come into one trace several times, for other values: the sizes that they find out get other names."""

from __future__ import annotations

from typing import Any

from tracejit.autodiff.transforms import outermost
from tracejit.context import context
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh, renamed, told_within
from tracejit.ir.graph import Graph


def apart(graph: Graph, call: Any) -> Graph:
    """The graph as part of the trace at hand, in which another call of the same function may tell other sizes."""
    names: dict[str, Dim] = {}
    for s in told_within(graph):
        calls = outermost(context.trace).sizes.setdefault(s, {})
        if call not in calls:
            calls[call] = fresh() if calls else None
        if calls[call] is not None:
            names[s] = calls[call]
    return renamed(graph, names) if names else graph
