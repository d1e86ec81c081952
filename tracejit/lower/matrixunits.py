"""Systems of equations and factors of matrices as steps of a program: native up to some size, LAPACK's beyond it."""

from __future__ import annotations

from abc import abstractmethod

from tracejit.ir.graph import Node
from tracejit.ir.sizes import product
from tracejit.lower import compiler
from tracejit.lower.binding import Binding
from tracejit.lower.hostunit import HostUnit
from tracejit.lower.kernel import Size
from tracejit.lower.matrixplan import CHOLESKY, ELIMINATE, ROW, TRIANGULAR, lanes_of, panel_bytes
from tracejit.lower.routineunits import RoutineUnit
from tracejit.lower.units import batch_stride
from tracejit.passes.layout import Layouts
from tracejit.runtime.records import Jump, JumpIfFalse, StepRecord
from tracejit.runtime.records import Kernel as KernelStep

STRIP = 8  # panels of right sides that read a triangle together
LARGE = 256  # rows from which threads take one matrix each
MOST = 2048  # rows up to which a thread alone is faster than LAPACK


class MatrixUnit(RoutineUnit, HostUnit):
    """An op on matrices whose native form may refuse an operand: then the host computes all of it, or raises."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.dtype, self.width = node.inputs[0].dtype, lanes_of(node.inputs[0].dtype)

    @staticmethod
    def fits(n: Node) -> bool:
        return n.inputs[0].dtype.kind == "f"

    @abstractmethod
    def native(self, b: Binding, flag: int) -> list[StepRecord] | None:
        """The native steps, which clear the bool at `flag` if they refuse; None if the host is as fast."""

    def steps(self, b: Binding) -> list[StepRecord]:
        empty = any(b.size(product(v.shape)) == 0 for v in (*self.node.inputs, *self.node.outs))
        flag = b.scratch(self, "flag", 8)
        steps = None if empty else self.native(b, flag)
        host = HostUnit.steps(self, b)
        if steps is None:
            return host
        begin = KernelStep(compiler.loop_code().addresses["put"], [flag, b.slot(1)], 1, "put")
        last = len(steps) + 1
        return [begin, *steps, JumpIfFalse(flag, last + 2), Jump(last + 3), *host]

    def describe(self) -> str:
        return self.node.op.name

    def groups(self, b: Binding, n: int, items: int) -> int:
        """Tasks, each of which has room for a matrix."""
        return min(items, (1 if n >= LARGE else 4) * b.threads)

    def matrix(self, i: int) -> tuple[Size, Size, Size]:
        """The strides of an operand: from matrix to matrix of the results' batch, from row to row, along a row."""
        v, lay = self.node.inputs[i], self.layout(i)
        batch = batch_stride(lay.strides, v.shape, (*self.node.out.shape[:-2], *v.shape[-2:]))
        assert batch is not None
        return batch, lay.strides[-2], lay.strides[-1]


class TriangularUnit(MatrixUnit):
    """triangular_solve."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        step = self.matrix(1)[2]
        unit = type(step) is int and step == 1
        self.source = compiler.of_routine("triangular", self.dtype, unit, apart=True)

    def sources(self) -> list[compiler.Source]:
        return [self.source]

    def native(self, b: Binding, flag: int) -> list[StepRecord] | None:
        t, right = self.node.inputs
        n, k, batch = b.size(t.shape[-1]), b.size(right.shape[-1]), b.size(product(self.node.out.shape[:-2]))
        panels = -(-k // self.width)
        strip = min(panels, STRIP)
        strips = -(-panels // strip)
        groups = self.groups(b, 0, batch * strips)
        size = panel_bytes(n)
        lower, adjoint = self.node.attr("lower"), self.node.attr("adjoint")
        (t_batch, down, along), (b_batch, b_row, b_column) = (
            [b.size(s) for s in self.matrix(i)] for i in (0, 1)
        )
        down, along = (along, down) if adjoint else (down, along)
        sign, last = (1, 0) if lower != adjoint else (-1, n - 1)
        operands = self.operands(
            b, TRIANGULAR, out=b.slot_at(self.node.out, last * k, self.dtype.size),
            t=self.place(b, 0, last * (down + along)), b=self.place(b, 1, last * b_row), flag=flag,
            scratch=b.scratch(self, "panels", groups * strip * size), n=n, k=k, size=size, items=batch * strips,
            groups=groups, strip=strip, strips=strips, out_batch=n * k, out_row=sign * k, t_batch=t_batch,
            t_row=sign * down, t_column=sign * along, b_batch=b_batch, b_row=sign * b_row, b_column=b_column,
        )  # fmt: skip
        work = batch * n * (n // 2 + self.width) * panels
        return [b.launch(b.code(self.source), operands, groups, work, self.describe(), one=True)]

    def place(self, b: Binding, i: int, behind: int) -> int:
        """The pointer to an element of an operand."""
        lay = self.layout(i)
        return b.slot_at(lay.base, b.size(lay.offset) + behind, self.dtype.size)


class CholeskyUnit(MatrixUnit):
    """cholesky."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        _, down, along = self.matrix(0)
        near = [type(s) is int and s == 1 for s in (along, down)]
        lie = "rows" if near[0] else "columns" if near[1] else ""
        self.source = compiler.of_routine("cholesky", self.dtype, lie, apart=True)

    def sources(self) -> list[compiler.Source]:
        return [self.source]

    def native(self, b: Binding, flag: int) -> list[StepRecord] | None:
        out = self.node.out
        n, batch = b.size(out.shape[-1]), b.size(product(out.shape[:-2]))
        rows = -(-n // self.width) * self.width
        size, groups = panel_bytes(rows), self.groups(b, n, batch)
        if n > MOST:
            return None
        a_batch, down, along = self.matrix(0)
        operands = self.operands(
            b, CHOLESKY, out=b.slot(out), a=self.pointer(b, 0), flag=flag,
            scratch=b.scratch(self, "panels", groups * rows // self.width * size), n=n, size=size, items=batch,
            groups=groups, rows=rows, a_batch=a_batch, a_row=down, a_column=along,
        )  # fmt: skip
        work = batch * n * (n * n // 3 + 4 * self.width * n) // self.width
        return [b.launch(b.code(self.source), operands, groups, work, self.describe(), one=True)]


class EliminateUnit(MatrixUnit):
    """solve, inv, lu, det and slogdet."""

    def source(self, part: str) -> compiler.Source:
        inputs = self.node.inputs
        unit = [type(s) is int and s == 1 for s in [self.matrix(i)[2] for i in range(len(inputs))]]
        return compiler.of_routine("eliminate", self.dtype, self.node.op.name, unit[0], unit[-1], part, apart=True)

    def sources(self) -> list[compiler.Source]:
        return [self.source("whole")]

    def matrix(self, i: int) -> tuple[Size, Size, Size]:
        if self.node.op.name == "solve":
            return super().matrix(i)
        down, along = self.layout(0).strides[-2:]
        return self.step(0, 0, len(self.node.inputs[0].shape) - 2), down, along

    def native(self, b: Binding, flag: int) -> list[StepRecord] | None:
        a, right, name = self.node.inputs[0], self.node.inputs[-1], self.node.op.name
        n, sides = b.size(a.shape[-1]), name in ("solve", "inv")
        if n > MOST:
            return None
        k = b.size(right.shape[-1]) if sides else 0
        batch = b.size(product(self.node.out.shape[:-2] if sides else a.shape[:-2]))
        wide, panels = -(-n // self.width), -(-k // self.width)
        strip = min(panels, STRIP)
        rows, strips = wide * self.width, -(-panels // max(strip, 1))
        apart = n >= LARGE and batch < b.threads and strips > 1  # right sides for the threads that have no matrix
        size, places = panel_bytes(rows), batch if apart else self.groups(b, n, batch)
        tasks = self.groups(b, n, batch * strips) if apart else places
        last = len(self.node.inputs) - 1
        (a_batch, a_row, a_column), (b_batch, b_row, b_column) = self.matrix(0), self.matrix(last)
        given = dict(  # noqa: C408 - braces and quotes would hide the table
            out=b.slot(self.node.outs[0]), more=b.slot(self.node.outs[-1]), a=self.pointer(b, 0),
            b=self.pointer(b, last), flag=flag, scratch=b.scratch(self, "panels", places * (wide * size + ROW)),
            orders=b.scratch(self, "orders", places * 16 * rows),
            sides=b.scratch(self, "sides", tasks * strip * size), n=n, k=k, size=size, rows=rows, wide=wide,
            strip=strip, strips=strips, a_batch=a_batch, a_row=a_row, a_column=a_column, b_batch=b_batch, b_row=b_row,
            b_column=b_column,
        )  # fmt: skip
        factoring, solving = batch * n * (n * n // self.width + 4 * n), batch * n * 2 * n * panels

        def step(part: str, items: int, groups: int, work: int) -> StepRecord:
            operands = self.operands(b, ELIMINATE, **given, items=items, groups=groups)
            return b.launch(b.code(self.source(part)), operands, groups, work, f"{name} {part}", one=True)

        if not apart:
            return [step("whole", batch, places, factoring + solving)]
        return [step("factors", batch, places, factoring), step("solutions", batch * strips, tasks, solving)]


MATRICES: dict[str, type[MatrixUnit]] = {
    "triangular_solve": TriangularUnit, "cholesky": CholeskyUnit,
    **dict.fromkeys(("solve", "inv", "lu", "det", "slogdet"), EliminateUnit),
}  # fmt: skip
