"""How Fourier transforms are divided: operands of the native functions, phases of long lines, memory for buffers."""

from __future__ import annotations

from dataclasses import dataclass

from tracejit.ir.types import DType

FOURIER = (
    "out x scratch table halves chirp",
    "lines inner outer_step step inner_step groups size count length half scale",
)
LONG = (
    "out x grid line buffers first second turns halves chirp",
    "phase pieces lines inner outer_step step inner_step groups size count length half rows columns scale",
)
PIECE = 4096  # elements of a task before and after the transforms
GAP = 64  # bytes between the rows of the matrix, so that they do not all lie in the same places of a cache
FUSED = -1  # the phase that is all of them


def lanes_for(dtype: DType, lines: int | None) -> int:
    """How many lines are side by side, so that two threads have something to do; `lines` is None if not known."""
    most = 16 if dtype.bits == 32 else 8
    while lines is not None and most > 1 and 2 * most > lines:
        most //= 2
    return most


def buffer_bytes(dtype: DType, length: int, width: int) -> int:
    """Memory for the registers of one set of lines, and of one element more; a set has two such buffers."""
    return 2 * length * width * dtype.size + max(64, 2 * width * dtype.size)


@dataclass(frozen=True)
class LongForm:
    """Lines as in `fourier.Form`; `alone` and `unit` as in `Lines` for the operand."""

    kind: str
    inverse: bool
    halved: bool
    chirp: bool
    alone: bool
    unit: bool

    def enters(self) -> bool:
        """Whether the columns are not those of the operand."""
        return self.chirp or not self.unit or not (self.kind == "whole" or (self.kind == "of real" and self.halved))

    def leaves(self) -> bool:
        """Whether the rows do not give the result."""
        return self.chirp or not self.alone or not (self.kind == "whole" or (self.kind == "to real" and self.halved))

    def phases(self) -> list[str]:
        first = ["enter"] if self.enters() else []
        columns = "columns line" if first else "columns x"
        if self.chirp:
            return ["enter", columns, "rows kernel", columns, "rows swapped", "leave"]
        return [*first, columns, *(["rows line", "leave"] if self.leaves() else ["rows out"])]


def pieces(form: LongForm, length: int, size: int, rows: int, columns: int, width: int) -> list[int]:
    """How many pieces each phase has."""
    most = {"enter": (length, PIECE), "columns": (columns, width), "rows": (rows, width), "leave": (size, PIECE)}
    return [-(-n // per) for n, per in (most[p.partition(" ")[0]] for p in form.phases())]


def grid_bytes(dtype: DType, rows: int, columns: int) -> int:
    """Memory for the matrix of a line."""
    return rows * (2 * columns * dtype.size + GAP)
