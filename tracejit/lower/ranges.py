"""Integers that native code of loops may take for small and not negative: their division then is a quick one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracejit.intervals import Interval
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.types import DType, uint32, uint64
from tracejit.lower.scalar import S
from tracejit.lower.scalarcast import literal
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.passes.proofs import Facts, Path, Proofs

_UNSIGNED = {"floordiv": "floordiv", "floormod": "floormod", "truncdiv": "truncdiv", "truncmod": "fmod"}


class Ranges(Proofs):
    """The divisions in the regions of a node whose operands are not negative, with the type that holds these."""

    def __init__(self, n: Node, given: Mapping[Value, Interval]) -> None:
        super().__init__()
        self.types: dict[tuple[Path, Node], DType] = {}
        self.run(Graph("", [], [n], []), Facts(dict(given)), ())

    def seen(self, n: Node, facts: Facts, path: Path) -> None:
        """Loops are gone through until their bounds hold: what is found last counts."""
        if n.op.name not in _UNSIGNED or n.out.dtype.kind != "i" or n.out.shape:
            return
        self.types.pop((path, n), None)
        x, y = map(facts.of, n.inputs)
        if x[0] >= 0 and y[0] >= 0 and not (y[0] == y[1] and y[0] & (y[0] - 1) == 0):  # powers of two are masks
            self.types[path, n] = uint32 if max(x[1], y[1]) < 1 << 32 else uint64

    def divided(self, m: LLVMScalar, n: Node, path: Path, xs: Sequence[S]) -> S | None:
        """The result of such a division."""
        wide = self.types.get((path, n))
        if wide is None:
            return None
        given = [m.cast(x, wide) if (c := literal(x.v)) is None else m.const(c, wide) for x in xs]
        made: S = getattr(m, _UNSIGNED[n.op.name])(*given)
        return m.cast(made, n.out.dtype)
