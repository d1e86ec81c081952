"""Discrete Fourier transforms as steps of a program: one for each axis, or the phases of long lines."""

from __future__ import annotations

import ctypes
import math
import struct
from typing import NamedTuple

from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import is_unit, product
from tracejit.ir.types import float32, float64
from tracejit.lower import compiler
from tracejit.lower.binding import Binding
from tracejit.lower.fourierplan import FOURIER, FUSED, LONG, LongForm, buffer_bytes, grid_bytes, lanes_for, pieces
from tracejit.lower.kernel import Size
from tracejit.lower.roots import chirp_table, half_table, padded, split, stage_table, turn_table
from tracejit.lower.routineunits import RoutineUnit
from tracejit.passes.layout import Layouts
from tracejit.runtime.records import Host, StepRecord

SPECIAL = 8192  # elements of a line up to which a length that is known has code of its own
LARGEST = 8192  # elements of a line above which two copies of it for each lane do not fit into a core's cache
ALONE = {32: 512, 64: 2048}  # elements, by bits, from which a line that lies by itself is taken as a matrix
FEW = 4096  # elements from which a few lines are transformed phase by phase, by all threads


class _Pass(NamedTuple):
    """One axis: the shape of what is read, its strides from line to line, the length of a whole line, what is done.

    `x` and `out` are where it is read from and written to: the operand, the result, or memory between.
    """

    axis: int
    shape: tuple[Size, ...]
    steps: tuple[Size, Size, Size]
    size: Size
    kind: str
    inverse: bool
    alone: bool
    x: str
    out: str

    def is_unit(self, k: int) -> bool:
        return type(self.steps[k]) is int and self.steps[k] == 1


class _Choice(NamedTuple):
    """How the lines of an axis are transformed.

    points   how long the lines are, those of real ones in even number being half as long
    length   the same with the zeros of a convolution
    grid     rows and columns of a long line, None where lines stand side by side in lanes
    """

    source: compiler.Source
    width: int
    points: int
    length: int
    grid: tuple[int, int] | None


class FourierUnit(RoutineUnit):
    """fft, rfft and irfft along axes."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.dtype = float32 if node.out.dtype.name in ("complex64", "float32") else float64
        axes, name = node.attr("axes"), node.op.name
        order = axes if name == "irfft" else axes[::-1]
        self.passes = [self._pass(order, k) for k in range(len(order))]

    @staticmethod
    def fits(n: Node) -> bool:
        return True

    def _pass(self, order: tuple[int, ...], k: int) -> _Pass:
        node, axis = self.node, order[k]
        real = node.attr("axes")[-1] if node.op.name != "fft" else -1
        kind = "whole" if axis != real else "of real" if node.op.name == "rfft" else "to real"
        between = "between" if node.op.name == "irfft" else "out"
        shape = node.inputs[0].shape if k == 0 or node.op.name == "irfft" else node.out.shape
        last = k == len(order) - 1
        inner = product(shape[axis + 1 :])
        steps: tuple[Size, Size, Size] = (inner * shape[axis], inner, 1)
        if k == 0:
            steps = (self.step(0, 0, axis), self.step(0, axis, axis + 1), self.step(0, axis + 1, len(shape)))
        size = node.out.shape[axis] if kind == "to real" else shape[axis]
        inverse = node.op.name == "irfft" or (node.op.name == "fft" and node.attr("inverse"))
        out = "out" if last else between
        return _Pass(axis, shape, steps, size, kind, inverse, is_unit(inner), between if k else "x", out)

    def _scale(self, n: int, inverse: bool) -> float:
        """What the result along an axis is multiplied by."""
        norm = self.node.attr("norm")
        if norm == "ortho":
            return 1.0 / math.sqrt(n)
        return 1.0 / n if (norm == "backward") == inverse else 1.0

    def _choice(self, p: _Pass, size: int, lines: int | None) -> _Choice:
        """What is done for a size; `lines` is None where their number is not known."""
        halved = p.kind != "whole" and size % 2 == 0
        count = size // 2 if halved else size
        length = padded(count)
        form = (p.kind, p.inverse, halved, length != count)
        most = lanes_for(self.dtype, None)
        grid = split(length, most)
        few = lines is not None and lines < most
        if grid is not None and (length > LARGEST or few or (p.alone and length >= ALONE[self.dtype.bits])):
            how = (*form, p.alone, p.is_unit(1), most)
            source = compiler.of_routine("fourier of long lines", self.dtype, *how, across=most)
            return _Choice(source, most, count, length, grid)
        known = type(p.size) is int
        width = lanes_for(self.dtype, lines) if known else most
        special = size if known and length == count and size <= SPECIAL else None
        lie = (special, width, p.alone, p.is_unit(1), p.is_unit(2) and not p.alone)
        source = compiler.of_routine("fourier", self.dtype, *form, *lie, across=0 if special is not None else width)
        return _Choice(source, width, count, length, None)

    @staticmethod
    def _lines(p: _Pass) -> Size:
        return product((*p.shape[: p.axis], *p.shape[p.axis + 1 :]))

    def _known(self, p: _Pass) -> _Choice | None:
        """What is done along an axis whose length is known before the sizes are."""
        lines = self._lines(p)
        return self._choice(p, p.size, lines if type(lines) is int else None) if isinstance(p.size, int) else None

    def sources(self) -> list[compiler.Source]:
        return [c.source for p in self.passes if p.size != 0 and (c := self._known(p)) is not None]

    def in_place(self, v: Value, written: Value) -> bool:
        return False

    def steps(self, b: Binding) -> list[StepRecord]:
        if not math.prod(b.size(d) for d in self.node.out.shape):
            return []
        places = {"out": b.slot(self.node.out), "x": self.pointer(b, 0)}
        if not math.prod(b.size(d) for d in self.node.inputs[0].shape):
            return [self._zeros(b, places["out"])]
        if any(p.out == "between" for p in self.passes):
            whole = math.prod(b.size(d) for d in self.node.inputs[0].shape)
            places["between"] = b.scratch(self, "between", whole * 2 * self.dtype.size)
        return [s for k, p in enumerate(self.passes) for s in self._along(b, p, k, places)]

    def _zeros(self, b: Binding, slot: int) -> StepRecord:
        """The first half of the spectrum of no numbers."""
        nbytes = math.prod(b.size(d) for d in self.node.out.shape) * self.node.out.dtype.size

        def fill(frame: int) -> None:
            ctypes.memset(ctypes.c_void_p.from_address(frame + 8 * slot).value or 0, 0, nbytes)

        return Host(fill)

    def _along(self, b: Binding, p: _Pass, k: int, places: dict[str, int]) -> list[StepRecord]:
        shape = [b.size(d) for d in p.shape]
        lines, size = math.prod(shape) // shape[p.axis], b.size(p.size)
        c = self._known(p) or self._choice(p, size, lines)
        outer_step, step, inner_step = p.steps
        none = b.slot(0)
        given: dict[str, Size] = {
            "out": places[p.out], "x": places[p.x], "lines": lines, "inner": math.prod(shape[p.axis + 1 :]),
            "outer_step": outer_step, "step": step, "inner_step": inner_step, "size": size, "count": c.points,
            "length": c.length, "half": size // 2 + 1, "halves": none, "chirp": none,
            "scale": struct.unpack("<q", struct.pack("<d", self._scale(size, p.inverse)))[0],
        }  # fmt: skip
        if p.kind != "whole" and size % 2 == 0:
            given["halves"] = b.table(half_table(size, self.dtype))
        if c.length != c.points:
            given["chirp"] = b.table(chirp_table(c.points, c.length, self.dtype))
        if c.grid is not None:
            return self._long(b, p, k, c, given)
        groups = min(-(-lines // c.width), 4 * b.threads)
        given["scratch"] = b.scratch(self, f"lines {k}", groups * 2 * buffer_bytes(self.dtype, c.length, c.width))
        given["table"] = b.table(stage_table(c.length, self.dtype))
        operands = self.operands(b, FOURIER, **given, groups=groups)
        return [b.launch(b.code(c.source), operands, groups, self._work(lines, c), self._name(p), one=True)]

    def _name(self, p: _Pass) -> str:
        return f"{self.describe()} along {p.axis}"

    @staticmethod
    def _work(lines: int, c: _Choice) -> int:
        return lines * c.length * 4 * c.length.bit_length() * (1 if c.length == c.points else 2)

    def _long(self, b: Binding, p: _Pass, k: int, c: _Choice, given: dict[str, Size]) -> list[StepRecord]:
        """The phases of long lines one after the other, for all lines; or together, for one line after the other."""
        assert c.grid is not None
        lines, (rows, columns) = int(given["lines"]), c.grid
        form = LongForm(*c.source.args[1:7])
        fused = c.length < FEW or lines >= 2 * b.threads
        most = [lines] if fused else [lines * n for n in pieces(form, c.length, int(given["size"]), *c.grid, c.width)]
        groups = [min(n, 4 * b.threads) for n in most]
        slots = groups[0] if fused else lines
        given |= {
            "grid": b.scratch(self, f"grid {k}", slots * grid_bytes(self.dtype, rows, columns)),
            "line": b.scratch(self, f"line {k}", slots * c.length * 2 * self.dtype.size),
            "buffers": b.scratch(
                self, f"buffers {k}", max(groups) * 2 * buffer_bytes(self.dtype, max(c.grid), c.width)
            ),
            "first": b.table(stage_table(rows, self.dtype)),
            "second": b.table(stage_table(columns, self.dtype)),
            "turns": b.table(turn_table(rows, columns, c.width, self.dtype)),
            "rows": rows, "columns": columns,
        }  # fmt: skip
        steps = []
        for i, n in enumerate(groups):
            operands = self.operands(
                b, LONG, **given, groups=n, phase=FUSED if fused else i, pieces=max(1, most[i] // lines)
            )
            work = self._work(lines, c) // len(groups)
            steps.append(b.launch(b.code(c.source), operands, n, work, self._name(p), one=True))
        return steps
