"""How a matrix product walks through its operands: strides along its batch, its rows, its columns and its sums."""

from __future__ import annotations

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import hint, is_unit
from tracejit.passes.layout import Layout, Layouts, across, even

Size = int | Dim
LONG_ROW = 1024  # bytes of a row that make up for the wait for its beginning
LEAST = 256  # elements of a matrix in a batch from which its tiles are worth an epilogue


class Walk:
    """Strides of a product's operands.

    batch, left, right   sizes of the batch axes, those of 1 left out, and the operands' strides along them
    rows, columns        (stride of the left operand by row, by summand), (of the right one by summand, by column)
    one                  whether it is one product: all matrices have one right operand, and the left ones' rows follow
                         each other
    """

    def __init__(self, n: Node, a: Layout, b: Layout) -> None:
        x, y = n.inputs
        flags = dict(n.attrs)
        ra, rb = a.strides[-2:], b.strides[-2:]
        self.rows = ra[::-1] if flags.get("ta") else ra
        self.columns = rb[::-1] if flags.get("tb") else rb
        whole = n.out.shape[:-2]
        left, right = (_along_batch(v, lay, len(whole)) for v, lay in ((x, a), (y, b)))
        kept = [i for i, d in enumerate(whole) if not is_unit(d)]
        self.batch, self.left, self.right = (tuple([s[i] for i in kept]) for s in (whole, left, right))
        shared = bool(kept) and all(type(s) is int and s == 0 for s in self.right)
        m = n.out.shape[-2]
        self.one = shared and even((*self.batch, m), (*self.left, self.rows[0])) is not None

    def levels(self) -> list[tuple[Size, Size, Size]]:
        """Loops over the batch, outermost first: sizes and both strides, of axes that step evenly as one."""
        out: list[tuple[Size, Size, Size]] = []
        for d, s, t in reversed(list(zip(self.batch, self.left, self.right, strict=True))):
            if out and s == across(out[-1][1], out[-1][0]) and t == across(out[-1][2], out[-1][0]):
                out[-1] = out[-1][0] * d, out[-1][1], out[-1][2]
            else:
                out.append((d, s, t))
        return out[::-1]


def _along_batch(v: Value, lay: Layout, rank: int) -> list[Size]:
    own: list[Size] = [0 if is_unit(d) else s for d, s in zip(v.shape[:-2], lay.strides[:-2], strict=True)]
    return [0] * (rank - len(own)) + own


def walk(n: Node, layouts: Layouts) -> Walk | None:
    """The walk of a matmul; None where an operand has to be copied first."""
    a, b = (layouts.of(v) for v in n.inputs)
    return None if a is None or b is None else Walk(n, a, b)


def scattered(v: Value) -> bool:
    """Whether the rows of a product's operand are short and lie far apart, so that memory is waited for at each."""
    lay = Layouts().of(v)
    assert lay is not None
    pairs = sorted(zip(lay.strides[-2:], v.shape[-2:], strict=True), key=_step)
    (_, run), (step, rows) = pairs
    if is_unit(rows) or hint(run) * v.dtype.size >= LONG_ROW:
        return False
    return not (type(step) is type(run) and step == run)


def _step(pair: tuple[Size, Size]) -> int:
    return hint(pair[0])


def has_tiles(v: Value) -> bool:
    """Whether `v` is a matmul's result whose tiles are worth an epilogue."""
    if v.node is None or v.node.op.name != "matmul" or v.dtype.kind != "f":
        return False
    m, n = v.shape[-2:]
    return len(v.shape) == 2 or (not is_unit(m) and not is_unit(n) and hint(m) * hint(n) >= LEAST)
