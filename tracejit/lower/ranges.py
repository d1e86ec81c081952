"""What native code of loops may take for granted of integers: quick divisions, positions that lie on their axes."""

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

_ANYWHERE = (-(1 << 63), (1 << 64) - 1)


class Ranges(Proofs):
    """Of the regions of a node the divisions whose operands are not negative, with the type that holds these, and where
    on their axes elements are read and written.
    """

    def __init__(self, n: Node, given: Mapping[Value, Interval]) -> None:
        super().__init__()
        self.types: dict[tuple[Path, Node], DType] = {}
        self.places: dict[tuple[Path, Node], Interval] = {}
        self.run(Graph("", [], [n], []), Facts(dict(given)), ())

    def seen(self, n: Node, facts: Facts, path: Path) -> None:
        """Loops are gone through until their bounds hold: what is found last counts."""
        if n.op.name in ("gather", "put") and not n.inputs[1].shape:
            self.places[path, n] = facts.of(n.inputs[1])
        if n.op.name not in _UNSIGNED or n.out.dtype.kind != "i" or n.out.shape:
            return
        self.types.pop((path, n), None)
        x, y = map(facts.of, n.inputs)
        if x[0] >= 0 and y[0] >= 0 and not (y[0] == y[1] and y[0] & (y[0] - 1) == 0):  # powers of two are masks
            self.types[path, n] = uint32 if max(x[1], y[1]) < 1 << 32 else uint64

    def place(self, path: Path, n: Node) -> Interval:
        """Where the position lies that a node reads or writes."""
        return self.places.get((path, n), _ANYWHERE)

    def divided(self, m: LLVMScalar, n: Node, path: Path, xs: Sequence[S]) -> S | None:
        """The result of such a division."""
        wide = self.types.get((path, n))
        if wide is None:
            return None
        given = [m.cast(x, wide) if (c := literal(x.v)) is None else m.const(c, wide) for x in xs]
        made: S = getattr(m, _UNSIGNED[n.op.name])(*given)
        return m.cast(made, n.out.dtype)
