"""What gradient functions of the user's own read, as it was after a call, for when the gradient is asked."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.autodiff.transforms import Beyond
from tracejit.errors import GradientError, locate
from tracejit.ir.graph import Graph
from tracejit.runtime.held import Held

_REMEDY = "take the gradient before that, or read it where the function is called, outside of its gradient function"


class Then:
    """Variables and numbers as they were. What else is read is as it was when the function was traced."""

    __slots__ = ("_beyond", "_numbers", "_variables")

    def __init__(self, beyond: Sequence[Beyond]) -> None:
        self._beyond = beyond
        self._variables = [(b, v, v._a) for b in beyond for v, _ in b.reads.values()]
        self._numbers = [(b, g, Held(g.now())) for b in beyond for g in b.inputs() if g.owner() is not None]

    def is_other(self, graph: Graph) -> bool:
        """Whether Variables hold something else now. Raises `GradientError` where that is too late to be found: for
        what else is read, and where going through the operations of `graph` once more would call Python again."""
        told = [(b, said) for b in self._beyond if (said := b.change())]
        others = [(b, g) for b, g, was in self._numbers if g.owner() is not None and not was.is_still(g.now())]
        told += [(b, b.has_changed(g.label)) for b, g in others]
        assigned = [(b, v) for b, v, a in self._variables if v._a is not a]
        if assigned and _calls(graph):
            told += [(b, b.has_changed(repr(v.name))) for b, v in assigned]
        for b, said in told:
            raise locate(GradientError(f"the gradient function of {b.name} {said}", remedy=_REMEDY))
        return bool(assigned)


def _calls(graph: Graph) -> bool:
    """Whether a graph calls Python for values, and they cannot be had a second time."""
    attrs = [x for n in graph.nodes if n.outs and not n.pure for _, x in n.attrs]
    return any(_calls(x) if type(x) is Graph else hasattr(x, "call") and not hasattr(x, "again") for x in attrs)
