"""How matrices lie in panels, and the operands of the native functions that factor and solve, by name."""

from __future__ import annotations

from tracejit.ir.types import DType

HEIGHT = 8  # rows of a tile
ROW = 64  # bytes of a panel's row
TRIANGULAR = (
    "out t b flag scratch",
    "n k size items groups strip strips out_batch out_row t_batch t_row t_column b_batch b_row b_column",
)
CHOLESKY = ("out a flag scratch", "n size items groups rows a_batch a_row a_column")
ELIMINATE = (
    "out more a b flag scratch orders sides",
    "n k size items groups rows wide strip strips a_batch a_row a_column b_batch b_row b_column",
)


def lanes_of(dtype: DType) -> int:
    return ROW // dtype.size


def panel_bytes(rows: int) -> int:
    """From a panel to the next: so that rows of many panels do not share the same few places of a cache."""
    heights = -(-rows // HEIGHT)
    return (heights | 1) * HEIGHT * ROW
