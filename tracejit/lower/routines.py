"""The native functions outside the loop IR by name: what `compiler.of_routine` may ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.lower import (
    cholesky,
    eliminate,
    fourier,
    fourierlong,
    intproduct,
    scan,
    scatter,
    search,
    sort,
    sortvalues,
    topk,
    triangular,
)
from tracejit.lower.llvm import Module

EMITTERS: dict[str, Callable[..., None]] = {
    "scatter rows": scatter.emit_rows,
    "scatter bins": scatter.emit_bins,
    "scan columns": scan.emit_columns,
    "scan lines": scan.emit_lines,
    "search": search.emit,
    "sort": sort.emit,
    "sort lines": sortvalues.emit_lines,
    "sort pieces": sortvalues.emit_pieces,
    "merge": sortvalues.emit_merge,
    "top k": topk.emit,
    "product of integers": intproduct.emit,
    "fourier": fourier.emit,
    "triangular": triangular.emit,
    "cholesky": cholesky.emit,
    "eliminate": eliminate.emit,
    "fourier of long lines": fourierlong.emit,
}


def emit(module: Module, name: str, routine: str, args: Sequence[Any]) -> None:
    """Add a routine to a module under a name."""
    EMITTERS[routine](module, name, *args)
