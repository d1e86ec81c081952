"""Ops with native functions outside the loop IR as steps of a program: scatter, put, running sums, orders."""

from __future__ import annotations

import math
from abc import abstractmethod

from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import is_unit, product
from tracejit.ir.types import DType, float32, float64
from tracejit.lower import compiler
from tracejit.lower.binding import Binding
from tracejit.lower.intproduct import PRODUCT
from tracejit.lower.intproduct import ROWS as ROW_TILE
from tracejit.lower.kernel import BLOCK, Size, copy_kernel
from tracejit.lower.scan import COLUMNS, LINES
from tracejit.lower.scatter import BINS, ROWS
from tracejit.lower.search import SEARCH
from tracejit.lower.sort import LONG, SORT, SPARE, entry_bytes, in_words
from tracejit.lower.sortvalues import LINES as SORT_LINES
from tracejit.lower.sortvalues import MERGE, key_bits, room
from tracejit.lower.sortvalues import PIECES as SORT_PIECES
from tracejit.lower.topk import TOP, buffer_bytes, capacity
from tracejit.lower.units import NodeUnit, batch_stride
from tracejit.ops.index import COMBINED
from tracejit.passes.layout import Layout, Layouts, contiguous, even
from tracejit.runtime.records import StepRecord

STRIP = 128  # bytes of a row that are worth a task of their own
PIECES = 16  # sets of bins
MANY = 32  # summands of a bin from which they are kept in a wider type
PIECE = 1 << 14  # elements of a piece of a line
LINES_APART = 16  # lines from which each is a task
SEARCH_PIECE = 256  # values from which a part of them is a task of its own
TILES = 16  # tiles of rows of a task of a product
SORT_PIECE = 1 << 14  # elements from which a piece of a line is sorted by itself
PACK_ROWS, PACK_BYTES = 24, 1 << 16  # rows of a task and size of the right operand from which copying it pays


class RoutineUnit(NodeUnit):
    """An op that native functions carry out."""

    @staticmethod
    def fits(n: Node) -> bool:
        """Whether the element types have a native form."""
        return all(v.dtype.kind != "c" for v in (*n.inputs, *n.outs))

    @abstractmethod
    def sources(self) -> list[compiler.Source]: ...

    def in_place(self, v: Value, written: Value) -> bool:
        return False

    def describe(self) -> str:
        return self.node.op.name

    def layout(self, i: int) -> Layout:
        lay = self.inputs[i]
        assert lay is not None
        return lay

    def step(self, i: int, first: int, last: int) -> Size:
        """The stride of some axes of an operand, which `prepare` made even."""
        s = even(self.node.inputs[i].shape[first:last], self.layout(i).strides[first:last])
        assert s is not None
        return s

    def lines_along(self, b: Binding, axis: int) -> tuple[int, int, int]:
        """The first operand as lines along an axis: how many, how long, and how many stand side by side."""
        shape = tuple(b.size(d) for d in self.node.inputs[0].shape)
        inner = math.prod(shape[axis + 1 :])
        return math.prod(shape[:axis]) * inner, shape[axis], inner

    def pointer(self, b: Binding, i: int) -> int:
        lay = self.layout(i)
        return b.slot_at(lay.base, lay.offset, self.node.inputs[i].dtype.size)

    @staticmethod
    def operands(binding: Binding, names: tuple[str, str], /, **given: int | Size) -> list[int]:
        """The slots of a routine's operands; those of pointers are given, sizes are still sizes."""
        pointers, sizes = names
        return [int(given[n]) for n in pointers.split()] + [binding.slot(given[n]) for n in sizes.split()]


class ScatterUnit(RoutineUnit):
    """scatter_sum; add_at and the like, which combine with what is there instead of zeros; put, which replaces it."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.mode = {"scatter_sum": "sum", "put": "put", **COMBINED}[node.op.name]
        self.sums = self.mode == "sum"
        self.values, self.places = (0, 1) if self.sums else (2, 1)
        self.axis = node.attr("axis")
        self.end = self.axis + len(node.inputs[self.places].shape)
        out = node.out
        self.copy = None
        if not self.sums:
            x = self.layout(0)
            self.copy = copy_kernel(out, out.shape, (0, contiguous(out.shape)), x, out.dtype)
        inner = out.shape[self.axis + 1 :]
        self.bins = all(map(is_unit, inner))
        index_type = node.inputs[self.places].dtype
        self.kept = self._kept_type()
        wide = () if self.kept is out.dtype else (self.kept,)
        if self.bins:
            self.source = compiler.of_routine("scatter bins", out.dtype, index_type, self.mode, *wide)
        else:
            step = self.step(self.values, self.end, len(node.inputs[self.values].shape))
            unit = type(step) is int and step == 1
            self.source = compiler.of_routine("scatter rows", out.dtype, index_type, self.mode, unit, *wide)

    def _kept_type(self) -> DType:
        """What sums are kept in: a wider type if a bin may get many of them, or theirs is narrow."""
        d = self.node.out.dtype
        if not self.sums or d.kind != "f" or d.bits == 64:
            return d
        if d.bits < 32:
            return float32
        count = product(self.node.inputs[self.places].shape)
        few = MANY * self.node.out.shape[self.axis]
        if isinstance(count, int) and (count < MANY or (isinstance(few, int) and count <= few)):
            return d
        return float64

    def sources(self) -> list[compiler.Source]:
        more = [compiler.of_combine("sum", self.node.out.dtype, self.kept)] if self._folds else []
        return [self.source, *more, *([compiler.of_kernel(self.copy.kernel)] if self.copy else [])]

    @property
    def _folds(self) -> bool:
        """Whether there may be several sets of bins, or bins of another type."""
        return self.sums and (self.bins or self.kept is not self.node.out.dtype)

    def _folded(self, b: Binding, bins: int, pieces: int, size: int) -> StepRecord:
        """Sets of bins added up."""
        out = self.node.out
        code = b.code(compiler.of_combine("sum", out.dtype, self.kept))
        args = [bins, b.slot(out), b.slot(pieces), b.slot(size)]
        return b.launch(code, args, -(-size // BLOCK), pieces * size, "combine sum")

    def in_place(self, v: Value, written: Value) -> bool:
        """Only what is written over may be read from the Variable, and only as it stands."""
        if self.sums or any(self.layout(i).base is v for i in (self.values, self.places)):
            return False
        x = self.layout(0)
        return x.base is v and x.offset == 0 and x.strides == contiguous(v.shape) and v.shape == written.shape

    def steps(self, b: Binding) -> list[StepRecord]:
        out = self.node.out
        size = b.size(out.shape[self.axis])
        outer, width = b.size(product(out.shape[: self.axis])), b.size(product(out.shape[self.axis + 1 :]))
        count = b.size(product(self.node.inputs[self.places].shape))
        before: list[StepRecord] = []
        if self.copy is not None and b.slot(self.layout(0).base) != b.slot(out):
            before = b.loop(self.copy, "copy")
        if outer * size * width == 0 or (count == 0 and not self.sums):
            return before
        rank = len(self.node.inputs[self.values].shape)
        common = {
            "out": b.slot(out), "values": self.pointer(b, self.values), "places": self.pointer(b, self.places),
            "size": size, "count": count, "outer_step": self.step(self.values, 0, self.axis),
            "place_step": self.step(self.values, self.axis, self.end),
            "index_step": self.step(self.places, 0, self.end - self.axis),
        }  # fmt: skip
        if self.bins:
            return before + self._bins(b, common, outer, size, count)
        strips = max(1, min(b.threads, width * out.dtype.size // STRIP))
        blocks = min(size, max(1, -(-2 * b.threads // (strips * outer)))) if strips * outer < b.threads else 1
        strip = -(-width // strips)
        height = -(-size // blocks)
        strips, blocks = -(-width // strip), -(-size // height)
        sizes = {
            "width": width, "inner_step": self.step(self.values, self.end, rank),
            "height": height, "blocks": blocks, "strip": strip, "strips": strips,
        }  # fmt: skip
        after: list[StepRecord] = []
        if self.kept is not out.dtype:
            whole = outer * size * width
            common["out"] = b.scratch(self, "bins", whole * self.kept.size)
            after = [self._folded(b, int(common["out"]), 1, whole)]
        operands = self.operands(b, ROWS, **common, **sizes)
        work = outer * width * ((size if self.sums else 0) + 2 * count)
        tasks = outer * blocks * strips
        return [*before, b.launch(b.code(self.source), operands, tasks, work, self.describe()), *after]

    def _bins(self, b: Binding, common: dict[str, Size], outer: int, size: int, count: int) -> list[StepRecord]:
        """Single elements: where there are far more of them than bins, several sets of bins that are added up."""
        pieces = min(PIECES, max(1, count // max(size // 2, 1 << 15))) if self.sums and outer == 1 else 1
        piece = -(-count // pieces)
        pieces = max(1, -(-count // max(piece, 1)))
        given = dict(common)
        apart = pieces > 1 or self.kept is not self.node.out.dtype
        if apart:
            given["out"] = b.scratch(self, "bins", outer * pieces * size * self.kept.size)
        operands = self.operands(b, BINS, **given, piece=piece, pieces=pieces)
        tasks, work = outer * pieces, outer * (size + 4 * count)
        steps: list[StepRecord] = [b.launch(b.code(self.source), operands, tasks, work, self.describe(), one=True)]
        if apart:
            steps.append(self._folded(b, int(given["out"]), pieces, outer * size))
        return steps


class ScanUnit(RoutineUnit):
    """cumsum and cumprod."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        x = node.inputs[0]
        axis, rank = node.attr("axis"), len(x.shape)
        self.size, self.outer, self.inner = x.shape[axis], product(x.shape[:axis]), product(x.shape[axis + 1 :])
        self.outer_step, self.along = self.step(0, 0, axis), self.step(0, axis, axis + 1)
        self.inner_step = self.step(0, axis + 1, rank)
        self.kind = "sum" if node.op.name == "cumsum" else "prod"
        self.how = (node.out.dtype, self.kind, node.attr("exclusive"), node.attr("reverse"))
        self.line = all(map(is_unit, x.shape[axis + 1 :]))
        step = self.along if self.line else self.inner_step
        self.unit = type(step) is int and step == 1

    def lines(self, mode: str) -> compiler.Source:
        return compiler.of_routine("scan lines", *self.how, self.unit, mode)

    def starts(self) -> compiler.Source:
        """What each piece of a line starts from, given the pieces' totals."""
        return compiler.of_routine("scan lines", self.node.out.dtype, self.kind, True, False, True, "whole")

    def sources(self) -> list[compiler.Source]:
        if not self.line:
            return [compiler.of_routine("scan columns", *self.how, self.unit)]
        more = [self.lines("total"), self.starts(), self.lines("rest")]
        short = type(self.size) is int and self.size < 2 * PIECE
        return [self.lines("whole"), *([] if short else more)]

    def steps(self, b: Binding) -> list[StepRecord]:
        out, size, outer, width = self.node.out, b.size(self.size), b.size(self.outer), b.size(self.inner)
        work = 2 * outer * size * width
        if not work:
            return []
        common = {"size": size, "outer_step": self.outer_step, "step": self.along}
        x = self.pointer(b, 0)
        if self.line:
            return self._lines(b, x, outer, size, work)
        strip = 64 * max(1, 4 // out.dtype.size)
        strips = -(-width // strip)
        sizes = {"width": width, "inner_step": self.inner_step, "strip": strip, "strips": strips}
        operands = self.operands(b, COLUMNS, out=b.slot(out), x=x, **common, **sizes)
        return [b.launch(b.code(self.sources()[0]), operands, outer * strips, work, self.describe())]

    def _lines(self, b: Binding, x: int, outer: int, size: int, work: int) -> list[StepRecord]:
        out, name = b.slot(self.node.out), self.describe()
        steps = {"outer_step": self.outer_step, "step": self.along}
        pieces = size // PIECE if outer < LINES_APART else 1
        if pieces < 2:
            operands = self.operands(b, LINES, out=out, x=x, start=x, size=size, piece=size, pieces=1, **steps)
            return [b.launch(b.code(self.lines("whole")), operands, outer, work, name)]
        piece = -(-size // pieces)
        pieces = -(-size // piece)
        bytes_ = outer * pieces * self.node.out.dtype.size
        totals, starts = b.scratch(self, "totals", bytes_), b.scratch(self, "starts", bytes_)
        sizes = {"size": size, "piece": piece, "pieces": pieces, **steps}
        first = self.operands(b, LINES, out=totals, x=x, start=x, **sizes)
        line = {"size": pieces, "piece": pieces, "pieces": 1, "outer_step": pieces, "step": 1}
        second = self.operands(b, LINES, out=starts, x=totals, start=x, **line)
        third = self.operands(b, LINES, out=out, x=x, start=starts, **sizes)
        tasks = outer * pieces
        return [
            b.launch(b.code(self.lines("total")), first, tasks, work // 2, f"{name} of pieces"),
            b.launch(b.code(self.starts()), second, outer, 2 * tasks, f"{name} of totals"),
            b.launch(b.code(self.lines("rest")), third, tasks, work, name),
        ]


class SortUnit(RoutineUnit):
    """argsort."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.axis = node.attr("axis")

    def source(self, size: int) -> compiler.Source:
        d = self.node.inputs[0].dtype
        entry = entry_bytes(d, size)
        return compiler.of_routine("sort", d, self.node.attr("descending"), entry, sorter=64 * in_words(d, entry))

    def sources(self) -> list[compiler.Source]:
        return [self.source(0)]

    def steps(self, b: Binding) -> list[StepRecord]:
        x, axis = self.node.inputs[0], self.axis
        lines, size, inner = self.lines_along(b, axis)
        if not lines * size:
            return []
        groups = min(lines, 4 * b.threads)
        scratch = b.scratch(self, "keys", 2 * groups * (size * entry_bytes(x.dtype, size) + SPARE))
        operands = self.operands(
            b, SORT, out=b.slot(self.node.out), x=self.pointer(b, 0), scratch=scratch, size=size, inner=inner,
            outer_step=self.step(0, 0, axis), step=self.step(0, axis, axis + 1),
            inner_step=self.step(0, axis + 1, len(x.shape)), lines=lines, groups=groups,
        )  # fmt: skip
        return [b.launch(b.code(self.source(size)), operands, groups, lines * size * 16, self.describe(), one=True)]


class ValuesUnit(RoutineUnit):
    """sort."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        x, self.axis = node.inputs[0], node.attr("axis")
        rank, self.dtype = len(x.shape), x.dtype
        self.along = self.step(0, self.axis, self.axis + 1)
        self.inner = product(x.shape[self.axis + 1 :])
        self.outer_step, self.inner_step = self.step(0, 0, self.axis), self.step(0, self.axis + 1, rank)
        unit = type(self.along) is int and self.along == 1
        self.how = (self.dtype, node.attr("descending"))
        self.direct = is_unit(self.inner) and key_bits(self.dtype) == self.dtype.bits
        bits = key_bits(self.dtype)
        self.lines = compiler.of_routine("sort lines", *self.how, unit, self.direct, sorter=bits)
        self.parts = compiler.of_routine("sort pieces", *self.how, unit, sorter=bits)

    def merge(self, last: bool) -> compiler.Source:
        return compiler.of_routine("merge", *self.how, last)

    def sources(self) -> list[compiler.Source]:
        return [self.lines]

    def steps(self, b: Binding) -> list[StepRecord]:
        lines, size, inner = self.lines_along(b, self.axis)
        if not lines * size:
            return []
        if lines == 1 and b.threads > 1 and size >= 2 * SORT_PIECE:
            return self._pieces(b, size)
        groups = min(lines, 8 * b.threads)
        bytes_ = groups * room(self.dtype, size)
        spare = b.scratch(self, "spare", bytes_)
        operands = self.operands(
            b, SORT_LINES, out=b.slot(self.node.out), x=self.pointer(b, 0), spare=spare,
            keys=spare if self.direct else b.scratch(self, "keys", bytes_), size=size, inner=inner,
            outer_step=self.outer_step, step=self.along, inner_step=self.inner_step, lines=lines, groups=groups,
        )  # fmt: skip
        work = lines * size * 2 * max(size.bit_length(), 1)
        return [b.launch(b.code(self.lines), operands, groups, work, self.describe(), one=True)]

    def _pieces(self, b: Binding, size: int) -> list[StepRecord]:
        """One long line: pieces in order, then merged two by two. Orders of values do not depend on the pieces."""
        rounds = min((b.threads - 1).bit_length(), (size // SORT_PIECE).bit_length() - 1)
        piece = -(-size // (1 << rounds))
        pieces = -(-size // piece)
        bytes_ = room(self.dtype, size) + 64 * pieces
        keys, spare = b.scratch(self, "keys", bytes_), b.scratch(self, "spare", bytes_)
        operands = self.operands(
            b, SORT_PIECES, keys=keys, x=self.pointer(b, 0), spare=spare, size=size, piece=piece, step=self.along
        )
        work = size * 2 * size.bit_length()
        steps: list[StepRecord] = [b.launch(b.code(self.parts), operands, pieces, work, self.describe(), one=True)]
        source, to, run = keys, spare, piece
        while run < size:
            last = 2 * run >= size
            pairs = -(-size // (2 * run))
            parts = -(-4 * b.threads // pairs)
            operands = self.operands(
                b, MERGE, out=b.slot(self.node.out) if last else to, x=source, size=size, run=run, parts=parts,
                part=-(-2 * run // parts),
            )  # fmt: skip
            code = b.code(self.merge(last))
            steps.append(b.launch(code, operands, pairs * parts, 4 * size, "merge", one=True))
            source, to, run = to, source, 2 * run
        return steps


class TopUnit(RoutineUnit):
    """top_k."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.axis = node.attr("axis")
        self.along = self.step(0, self.axis, self.axis + 1)
        unit = type(self.along) is int and self.along == 1
        self.source = compiler.of_routine("top k", node.inputs[0].dtype, unit, sorter=64)

    @staticmethod
    def fits(n: Node) -> bool:
        x = n.inputs[0]
        size = x.shape[n.attr("axis")]
        return x.dtype.kind != "c" and (x.dtype.bits == 64 or type(size) is not int or size < LONG)

    def sources(self) -> list[compiler.Source]:
        return [self.source]

    def steps(self, b: Binding) -> list[StepRecord]:
        shape = tuple(b.size(d) for d in self.node.inputs[0].shape)
        size, lines, k = shape[-1], math.prod(shape[:-1]), b.size(self.node.attr("k"))
        if not lines * k:
            return []
        groups, entries = min(lines, 8 * b.threads), capacity(k)
        bytes_ = groups * buffer_bytes(self.node.inputs[0].dtype, k)
        operands = self.operands(
            b, TOP, out=b.slot(self.node.out), x=self.pointer(b, 0), buffer=b.scratch(self, "buffer", bytes_),
            spare=b.scratch(self, "spare", bytes_), size=size, outer_step=self.step(0, 0, self.axis),
            step=self.along, lines=lines, groups=groups, k=k, capacity=entries,
        )  # fmt: skip
        return [b.launch(b.code(self.source), operands, groups, lines * (size + 64 * k), self.describe(), one=True)]


class SearchUnit(RoutineUnit):
    """search."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        s, self.rank = node.inputs[0], len(node.inputs[0].shape)
        self.along = self.step(0, self.rank - 1, self.rank)
        unit = type(self.along) is int and self.along == 1
        self.source = compiler.of_routine("search", s.dtype, node.attr("right"), unit)

    def sources(self) -> list[compiler.Source]:
        return [self.source]

    def steps(self, b: Binding) -> list[StepRecord]:
        s, v = self.node.inputs
        size, count, rows = b.size(s.shape[-1]), b.size(v.shape[-1]), b.size(product(v.shape[:-1]))
        if not count * rows:
            return []
        work = rows * count * 4 * max(size.bit_length(), 1)
        pieces = max(1, min(4 * b.threads // rows, count // SEARCH_PIECE)) if rows < 4 * b.threads else 1
        piece = -(-count // pieces)
        operands = self.operands(
            b, SEARCH, out=b.slot(self.node.out), sequence=self.pointer(b, 0), values=self.pointer(b, 1), size=size,
            count=count, row_step=self.step(0, 0, self.rank - 1), step=self.along,
            value_row_step=self.step(1, 0, self.rank - 1), value_step=self.step(1, self.rank - 1, self.rank),
            piece=piece, pieces=-(-count // piece),
        )  # fmt: skip
        return [b.launch(b.code(self.source), operands, rows * -(-count // piece), work, self.describe())]


class IntegerProductUnit(RoutineUnit):
    """A product of integer matrices."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.source = compiler.of_routine("product of integers", node.out.dtype)

    @staticmethod
    def fits(n: Node) -> bool:
        return n.out.dtype.kind in "iu"

    def sources(self) -> list[compiler.Source]:
        return [self.source]

    def steps(self, b: Binding) -> list[StepRecord]:
        out, flags = self.node.out, dict(self.node.attrs)
        x, y = self.node.inputs
        m, n, batch = b.size(out.shape[-2]), b.size(out.shape[-1]), b.size(product(out.shape[:-2]))
        if not m * n * batch:
            return []
        k = b.size(x.shape[-2 if flags.get("ta") else -1])
        a_batch, b_batch = (batch_stride(self.layout(i).strides, v.shape, out.shape) for i, v in enumerate((x, y)))
        a_m, a_k = self.layout(0).strides[-2:][:: -1 if flags.get("ta") else 1]
        b_k = self.layout(1).strides[-1 if flags.get("tb") else -2]
        assert a_batch is not None and b_batch is not None
        tiles = -(-m // ROW_TILE)
        height = ROW_TILE * max(1, min(TILES, tiles, tiles * batch // (4 * b.threads)))
        pack = height >= PACK_ROWS and k * n * out.dtype.size >= PACK_BYTES
        bands = -(-m // height)
        operands = self.operands(
            b, PRODUCT, out=b.slot(out), a=self.pointer(b, 0), b=self.pointer(b, 1), m=m, n=n, k=k, a_batch=a_batch,
            a_m=a_m, a_k=a_k, b_batch=b_batch, b_k=b_k, bands=bands, height=height, pack=int(pack),
        )  # fmt: skip
        return [b.launch(b.code(self.source), operands, batch * bands, batch * m * n * max(k, 1), self.describe())]


ROUTINES: dict[str, type[RoutineUnit]] = {
    "scatter_sum": ScatterUnit, "put": ScatterUnit, **dict.fromkeys(COMBINED, ScatterUnit), "cumsum": ScanUnit,
    "cumprod": ScanUnit,
    "argsort": SortUnit, "sort": ValuesUnit, "top_k": TopUnit, "search": SearchUnit, "matmul": IntegerProductUnit,
}  # fmt: skip
