"""Graph → program: units in order, and which Variables are written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracejit.ir.found import given
from tracejit.ir.graph import Graph, Value
from tracejit.lower import compiler, control, found
from tracejit.lower.binding import Binding
from tracejit.lower.block import Block, State
from tracejit.lower.checkunit import CheckUnit
from tracejit.lower.hostunit import HostUnit
from tracejit.lower.units import CopyUnit, LoopUnit, NodeUnit, ProductUnit, Unit
from tracejit.passes.layout import Layouts
from tracejit.runtime.program import Plan
from tracejit.runtime.records import Argument, Returns


class Program(Block):
    """A graph lowered once, for all sizes of its symbols.

    graph      prepared: every result is a value of its own, made by a node
    results    how many results are the caller's; the rest are new values of Variables
    """

    def __init__(self, graph: Graph, results: int, states: Sequence[State]) -> None:
        super().__init__(graph, states, Layouts(given(graph)))
        self.results = graph.results[:results]
        self.compiled = compiler.compile_all(self.sources())

    # --- what it says of itself ---------------------------------------------------------------------------------------
    def describe(self) -> str:
        return "\n".join(f"{i}: {u.describe()}" for i, u in enumerate(self.units))

    @property
    def kernels(self) -> int:
        """The steps that compute something."""
        still = (u for u in self.units if not isinstance(u, CopyUnit) or (u.instances and u.needed))
        return sum(not isinstance(u, CheckUnit) for u in still)

    handed_over = staticmethod(found.handed_over)

    def bind(
        self,
        sizes: Mapping[str, int],
        arguments: Callable[[Binding], list[Argument]],
        constants: Mapping[Value, int],
        returns: Callable[[Binding], Returns],
        unshare: Callable[[Any], object] | None = None,
        keep: object = None,
        commit: Callable[[int], object] | None = None,
    ) -> Plan:
        """The plan for these sizes. `constants` gives the addresses of parameters that are captured arrays; `commit` is
        called before the first Variable gets a new value."""
        return Binding(self, sizes).finish(arguments, constants, returns, unshare, keep, commit)


__all__ = [
    "Binding", "CopyUnit", "HostUnit", "LoopUnit", "NodeUnit", "ProductUnit", "Program", "State", "Unit", "control",
]  # fmt: skip
