"""Discrete Fourier transforms as steps of a program: one native step for each axis."""

from __future__ import annotations

import math
from typing import NamedTuple

from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import is_unit, product
from tracejit.ir.types import float32, float64
from tracejit.lower import compiler
from tracejit.lower.binding import Binding
from tracejit.lower.fourier import FOURIER, LONGEST, buffer_bytes, lanes_for, radices
from tracejit.lower.kernel import Size
from tracejit.lower.routineunits import RoutineUnit
from tracejit.passes.layout import Layouts
from tracejit.runtime.records import StepRecord


class _Pass(NamedTuple):
    """One axis: the shape of what is read, its strides from line to line, the length of a whole line, the routine.

    `x` and `out` are where it is read from and written to: the operand, the result, or memory between.
    """

    axis: int
    shape: tuple[Size, ...]
    steps: tuple[Size, Size, Size]
    size: int
    source: compiler.Source
    x: str
    out: str


class FourierUnit(RoutineUnit):
    """fft, rfft and irfft along axes whose lengths are known and have small prime factors."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.dtype = float32 if node.out.dtype.name in ("complex64", "float32") else float64
        axes, name = node.attr("axes"), node.op.name
        order = axes if name == "irfft" else axes[::-1]
        self.passes = [self._pass(order, k) for k in range(len(order))]

    @staticmethod
    def fits(n: Node) -> bool:
        whole = n.inputs[0] if n.op.name != "irfft" else n.out
        sizes = [whole.shape[a] for a in n.attr("axes")]
        return all(type(d) is int and 1 < d <= LONGEST and radices(d) is not None for d in sizes)

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
        assert type(size) is int
        lines = product((*shape[:axis], *shape[axis + 1 :]))
        alone = is_unit(inner)
        unit, beside = (type(s) is int and s == 1 for s in steps[1:])
        inverse = node.op.name == "irfft" or (node.op.name == "fft" and node.attr("inverse"))
        width = lanes_for(self.dtype, lines if type(lines) is int else None)
        how = (kind, size, inverse, self._scale(size, inverse), width, alone, unit, beside and not alone)
        source = compiler.of_routine("fourier", self.dtype, *how)
        return _Pass(axis, shape, steps, size, source, between if k else "x", "out" if last else between)

    def _scale(self, n: int, inverse: bool) -> float:
        """What the result along an axis is multiplied by."""
        norm = self.node.attr("norm")
        if norm == "ortho":
            return 1.0 / math.sqrt(n)
        return 1.0 / n if (norm == "backward") == inverse else 1.0

    def sources(self) -> list[compiler.Source]:
        return [p.source for p in self.passes]

    def in_place(self, v: Value, written: Value) -> bool:
        return False

    def steps(self, b: Binding) -> list[StepRecord]:
        if not math.prod(b.size(d) for d in self.node.out.shape):
            return []
        places = {"out": b.slot(self.node.out), "x": self.pointer(b, 0)}
        if any(p.out == "between" for p in self.passes):
            whole = math.prod(b.size(d) for d in self.node.inputs[0].shape)
            places["between"] = b.scratch(self, "between", whole * 2 * self.dtype.size)
        return [self._along(b, p, k, places) for k, p in enumerate(self.passes)]

    def _along(self, b: Binding, p: _Pass, k: int, places: dict[str, int]) -> StepRecord:
        shape = [b.size(d) for d in p.shape]
        lines, width = math.prod(shape) // shape[p.axis], p.source.args[5]
        groups = min(-(-lines // width), 4 * b.threads)
        scratch = b.scratch(self, f"lines {k}", groups * 2 * buffer_bytes(self.dtype, p.size, width))
        outer_step, step, inner_step = p.steps
        operands = self.operands(
            b, FOURIER, out=places[p.out], x=places[p.x], scratch=scratch, lines=lines,
            inner=math.prod(shape[p.axis + 1 :]), outer_step=outer_step, step=step, inner_step=inner_step,
            groups=groups,
        )  # fmt: skip
        work = lines * p.size * 4 * p.size.bit_length()
        return b.launch(b.code(p.source), operands, groups, work, f"{self.describe()} along {p.axis}", one=True)
