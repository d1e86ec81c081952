"""Kernel → vectorised LLVM IR: rows in parallel, vector loops with masked tails, partial results per chunk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tracejit.ir.types import DType, float32, float64
from tracejit.lower.cascade import Tree, cascade
from tracejit.lower.emit_body import BodyEmitter, Mask, separate
from tracejit.lower.keptrows import kept_values
from tracejit.lower.kernel import BLOCK, FULL, ROW, SCALAR, Access, Kernel, Late, Stmt, Stride
from tracejit.lower.llvm import Module, Val, i64, lanes
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.passes.groups import accumulator, rounds

VECTORS = 32  # steps of a loop in registers whose sum is one of a tree's leaves
LINES = 32  # the same of lines
ROWS_AT_ONCE = 4  # rows that are added up in registers before they go to the column sums


def emit(module: Module, name: str, kernel: Kernel) -> None:
    """Add the kernel to a module as `void name(ptr frame, ptr idx, i64 lo, i64 hi)`."""
    _Emitter(module, name, kernel).run()


class _Emitter(BodyEmitter):
    """Writes the loops around a kernel's statements."""

    def reductions_of(self, phase: int) -> list[Stmt]:
        return [s for s in self.k.stmts if s.kind == "reduce" and s.phase == phase + 1]

    def stores_of(self, phase: int) -> list[tuple[int, Access]]:
        return [(i, a) for i, a in self.k.stores if self._store_level(i, a) == FULL and self.k.stmts[i].phase == phase]

    def _store_level(self, i: int, a: Access) -> int:
        if any(s != Stride.ZERO for s in a.strides[self.k.outer :]):
            return FULL
        return ROW if any(s != Stride.ZERO for s in a.strides) or self.k.outer or self._has_rows() else SCALAR

    def _has_rows(self) -> bool:
        return any(s.level == ROW for s in self.k.stmts)

    def lates_of(self, phase: int, over: str) -> list[Late]:
        return [x for x in self.k.lates if x.over == over and self.k.stmts[x.stmt].phase == phase]

    def phase_loop(
        self, phase: int, outer: list[Val | None], carried: list[S], column: Callable[[Late], Val] | None,
        span: tuple[Val, Val] | None,
    ) -> tuple[list[S], list[S]]:  # fmt: skip
        """One pass over a row. Returns the row reductions of this phase and the carried late accumulators (vectors)."""
        reds = self.reductions_of(phase)
        lates = self.lates_of(phase, "rows")
        columns = self.lates_of(phase, "columns")
        stores = self.stores_of(phase)
        if not (reds or lates or columns or stores):
            return [], carried
        kinds = [s.value for s in reds] + [x.kind for x in lates]
        dtypes = [s.dtype for s in reds] + [self.k.stmts[x.stmt].dtype for x in lates]
        args = [s.args[0] for s in reds] + [x.stmt for x in lates]
        start = [self.mv.neutral(k, d) for k, d in zip(kinds[: len(reds)], dtypes, strict=False)] + carried
        if kinds:
            roots = [*args, *[x.stmt for x in columns], *[i for i, _ in stores]]
            u = max(self.unroll, separate(self.k.weight(self._needed(roots, (), phase))))
        else:
            u = max(self.unroll, self.beside)
        inner_axes = list(range(self.k.outer, len(self.k.axes)))

        def body(index: list[Val | None], copies: int, mask: Mask, accs: list[S]) -> list[S]:
            """`copies` vectors; accumulators are laid out copy by copy."""
            out: list[S] = []
            pending: list[tuple[list[S], Access, list[Val | None]]] = []
            for c in range(copies):
                at = list(index)
                assert at[-1] is not None
                at[-1] = self.fn.add(at[-1], i64(c * self.width)) if c else at[-1]
                memo: dict[int, S] = {}
                for j, (kind, arg) in enumerate(zip(kinds, args, strict=True)):
                    x = self.mv.broadcast(self.element(arg, memo, at, mask, phase))
                    if mask is not None:
                        x = self.mv.select(S(mask, x.dtype), x, self.mv.neutral(kind, x.dtype))
                    out.append(self.mv.combiner(kind)(accs[c * len(kinds) + j], x))
                for i, a in stores:
                    values = self.stored(i, lambda j, memo=memo, at=at: self.element(j, memo, at, mask, phase))  # type: ignore[misc]
                    pending.append((values, a, at))
                for late in columns:
                    assert column is not None
                    v = self.mv.broadcast(self.element(late.stmt, memo, at, mask, phase))
                    self._accumulate(late, v, column, at, mask)
            for values, a, at in pending:
                self.write(values, a, at, mask)
            return out

        total = self._nest(inner_axes, list(outer), start, kinds, dtypes, body, u, span)
        n = len(reds)
        return [self.mv.reduce(k, a) for k, a in zip(kinds[:n], total[:n], strict=True)], total[n:]

    def _accumulate(self, x: Late, v: S, column: Callable[[Late], Val], index: list[Val | None], mask: Mask) -> None:
        f = self.fn
        at: Val = i64(0)
        for axis in range(self.k.outer, len(self.k.axes)):
            i = index[axis]
            at = f.mul(at, self.size(axis)) if at != "0" else at
            at = f.add(at, i) if i is not None else at
        v = S(v.v, accumulator(v.dtype))
        p = f.gep(column(x), at, self.m1.memory(v.dtype))
        old = self.mv.load(p, v.dtype, mask)
        self.mv.store(self.mv.combiner(x.kind)(old, v), p, mask)

    def _nest(
        self, axes: list[int], index: list[Val | None], accs: list[S], kinds: list[str], dtypes: list[DType],
        body: Callable[..., list[S]], unroll: int, span: tuple[Val, Val] | None,
    ) -> list[S]:  # fmt: skip
        """Loops over the row's axes, the last one in vectors."""
        if not axes:
            one = self.fn.mask(i64(1), self.width)
            return body([*index, i64(0)], 1, one, accs)
        if len(axes) > 1:

            def step(i: Val, *carried: Val) -> list[Val]:
                inner = [S(v, d) for v, d in zip(carried, dtypes, strict=True)]
                out = self._nest(axes[1:], [*index, i], inner, kinds, dtypes, body, unroll, None)
                return [s.v for s in out]

            return self._long(i64(0), self.size(axes[0]), LINES, accs, kinds, step)
        return self._vectors(axes[0], index, accs, kinds, dtypes, body, unroll, span)

    def _vectors(
        self, axis: int, index: list[Val | None], accs: list[S], kinds: list[str], dtypes: list[DType],
        body: Callable[..., list[S]], unroll: int, span: tuple[Val, Val] | None,
    ) -> list[S]:  # fmt: skip
        f, w = self.fn, self.width
        lo, hi = span or (i64(0), self.size(axis))
        n = len(kinds)
        count = f.sub(hi, lo) if lo != "0" else hi
        stride = w * unroll
        main_end = f.add(lo, f.and_(count, i64(-stride))) if lo != "0" else f.and_(count, i64(-stride))

        def wrap(vals: tuple[Val, ...]) -> list[S]:
            return [S(v, dtypes[j % n]) for j, v in enumerate(vals)]

        def main(i: Val, *carried: Val) -> list[Val]:
            if not kinds and self.beside > 1:
                with self.width_of(stride):
                    body([*index, i], 1, None, [])
                return []
            return [s.v for s in body([*index, i], unroll, None, wrap(carried))]

        got = self._long(lo, main_end, stride * VECTORS, accs, kinds, main, stride, unroll)

        def tail(i: Val, *carried: Val) -> list[Val]:
            mask = f.mask(f.sub(hi, i), w)
            return [s.v for s in body([*index, i], 1, mask, wrap(carried))]

        return wrap(tuple(f.loop(main_end, hi, tail, [a.v for a in got], step=w)))

    def _long(
        self, lo: Val, hi: Val, block: int, accs: list[S], kinds: list[str], body: Callable[..., Sequence[Val]],
        step: int = 1, copies: int = 1,
    ) -> list[S]:  # fmt: skip
        """`accs` combined with what a loop adds to so many copies of them: sums of floats in blocks, as a tree."""
        f, n = self.fn, len(accs)
        dtypes = [a.dtype for a in accs]
        ms = [self.m1 if lanes(a.v.ty) == 1 else self.mv for a in accs]
        neutral = [m.neutral(k, d) for m, k, d in zip(ms, kinds, dtypes, strict=True)]

        single = [functools.partial(_combined, m.combiner(k), d) for m, k, d in zip(ms, kinds, dtypes, strict=True)]

        def combine(xs: Sequence[Val], ys: Sequence[Val]) -> list[Val]:
            return [one(x, y) for one, x, y in zip(single, xs, ys, strict=True)]

        def part(start: Val, end: Val, first: Sequence[S] = neutral) -> list[Val]:
            got = f.loop(start, end, body, [a.v for a in [*first, *neutral * (copies - 1)]], step)
            parts = [got[i * n : i * n + n] for i in range(copies)]
            while len(parts) > 1:
                parts = [combine(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]

        if any(k == "sum" and d.kind == "f" for k, d in zip(kinds, dtypes, strict=True)):
            trees = [Tree(f, a.v.ty, one) for a, one in zip(accs, single, strict=True)]
            found = cascade(f, lo, hi, block, part, trees, [a.v for a in neutral])
            if any(a.v != b.v for a, b in zip(accs, neutral, strict=True)):
                found = combine([a.v for a in accs], found)
        else:
            found = part(lo, hi, accs)
        return [S(v, d) for v, d in zip(found, dtypes, strict=True)]

    # --- rows ---------------------------------------------------------------------------------------------------------
    def outer_index(self, p: Val) -> list[Val | None]:
        """The outer loop indices of a flat row number."""
        return self.unravelled(p, range(self.k.outer))

    def row(self, p: Val, accs: list[S], column: Callable[[Late], Val] | None, span: tuple[Val, Val] | None) -> list[S]:
        """All phases of one row. `accs`: late accumulators, those over rows as vectors, those over outer as scalars."""
        before = dict(self.env)
        self.fn.scopes.append({})
        index = self.outer_index(p)
        inner = [None] * (len(self.k.axes) - self.k.outer)
        rows = [x for x in self.k.lates if x.over == "rows"]
        state = {id(x): a for x, a in zip(self._late_order(), accs, strict=True)}
        for phase in range(self.last + 1):
            self.outer_statements(ROW, phase, [*index, *inner])
            mine = [x for x in rows if self.k.stmts[x.stmt].phase == phase]
            reds, out = self.phase_loop(phase, index, [state[id(x)] for x in mine], column, span)
            for x, acc in zip(mine, out, strict=True):
                state[id(x)] = acc
            for s, v in zip(self.reductions_of(phase), reds, strict=True):
                self.env[s.id] = self.m1.rounded(v) if s.op is not None and rounds(s.op, s.dtype) else v
        for x in self.k.lates:
            if x.over == "outer":
                state[id(x)] = self.m1.combiner(x.kind)(state[id(x)], self.env[x.stmt])
        for i, a in self.k.stores:
            if self._store_level(i, a) == ROW:
                self.write_one(i, a, [*index, *inner])
        self.fn.scopes.pop()
        self.env = before
        return [state[id(x)] for x in self._late_order()]

    def _late_order(self) -> list[Late]:
        return [x for x in self.k.lates if x.over != "columns"]

    def _keep_rows(self) -> None:
        """Room for heavy values of a row that a later phase reads again."""
        if not self.k.keep or self.last == 0 or len(self.k.axes) - self.k.outer != 1:
            return
        f = self.fn
        for s in kept_values(self.k):
            count = f.add(self.size(len(self.k.axes) - 1), i64(self.width * self.unroll))
            bytes_ = f.mul(count, i64(max(s.dtype.bits // 8, 1)))
            self.kept[s.id] = f.emit(f"alloca i8, i64 {bytes_}, align 64", "ptr")

    # --- the function -------------------------------------------------------------------------------------------------
    def run(self) -> None:
        f, k = self.fn, self.k
        lo, hi = f.args[2:]
        self.load_operands()
        self._keep_rows()
        self.outer_statements(SCALAR, 0, [None] * len(k.axes))
        if not k.axes and not self._has_rows():
            self._scalar_kernel()
        elif k.lates:
            self._chunks(lo, hi)
        elif k.flat:
            start = f.mul(lo, i64(BLOCK))
            end = f.intrinsic("smin", f.mul(hi, i64(BLOCK)), self.size(0))
            self.row(i64(0), [], None, (start, end))
            if k.stream:
                f.line("fence seq_cst")
        else:

            def one(p: Val) -> None:
                self.row(p, [], None, None)

            f.loop(lo, hi, one)
        f.ret_()

    def _scalar_kernel(self) -> None:
        for i, a in self.k.stores:
            self.write_one(i, a, [])
        for x in self.k.lates:
            self._keep(x, self.env[x.stmt], self.operand(x.partial, "ptr"))

    def _keep(self, x: Late, value: S, p: Val) -> None:
        """Write a partial result."""
        self.m1.store(S(value.v, accumulator(self.k.stmts[x.stmt].dtype)), p)

    def _chunks(self, lo: Val, hi: Val) -> None:
        """Tasks are chunks: of rows, or of the one axis."""
        f, k = self.fn, self.k
        chunk = self.operand(k.chunk, "i64")

        def task(c: Val) -> None:
            first = f.mul(c, chunk)
            order = self._late_order()
            init = [
                (self.mv if x.over == "rows" else self.m1).neutral(x.kind, k.stmts[x.stmt].dtype) for x in order
            ]
            column = self._columns(c)
            if k.flat or k.outer == 0:
                whole = self.size(0) if k.axes else i64(1)
                span = (first, f.intrinsic("smin", f.add(first, chunk), whole)) if k.flat and k.axes else None
                accs = self.row(i64(0), init, column, span)
            else:
                count = self.size(0)
                for a in range(1, k.outer):
                    count = f.mul(count, self.size(a))
                end = f.intrinsic("smin", f.add(first, chunk), count)

                def one(p: Val, *carried: Val) -> list[Val]:
                    given = [S(v, k.stmts[x.stmt].dtype) for v, x in zip(carried, order, strict=True)]
                    return [s.v for s in self.row(p, given, column, None)]

                if self._only_columns():
                    assert column is not None
                    blocks = functools.partial(self._block_of_rows, ROWS_AT_ONCE, column)
                    whole = f.add(first, f.and_(f.sub(end, first), i64(-ROWS_AT_ONCE)))
                    f.loop(first, whole, blocks, step=ROWS_AT_ONCE)
                    first = whole
                accs = self._long(first, end, LINES, init, [x.kind for x in order], one)
            for x, acc in zip(order, accs, strict=True):
                value = self.mv.reduce(x.kind, acc) if x.over == "rows" else acc
                memory = self.m1.memory(accumulator(value.dtype))
                self._keep(x, value, f.gep(self.operand(x.partial, "ptr"), c, memory))

        f.loop(lo, hi, task)

    def _only_columns(self) -> bool:
        """Whether rows are nothing but added up, and cheap enough that several at once pay."""
        k = self.k
        return not k.phases() and not k.stores and all(x.over == "columns" for x in k.lates) and self.unroll > 1

    def _block_of_rows(self, count: int, column: Callable[[Late], Val], first: Val) -> None:
        """Add `count` rows to the column sums, whose memory is read and written once for all of them."""
        f = self.fn
        before = dict(self.env)
        f.scopes.append({})
        inner = [None] * (len(self.k.axes) - self.k.outer)
        rows: list[tuple[dict[int, S], list[Val | None]]] = []
        for r in range(count):
            index = self.outer_index(f.add(first, i64(r)) if r else first)
            self.env = dict(before)
            self.outer_statements(ROW, 0, [*index, *inner])
            rows.append((self.env, index))

        def body(index: list[Val | None], copies: int, mask: Mask, accs: list[S]) -> list[S]:
            for c in range(copies):
                at = list(index)
                assert at[-1] is not None
                at[-1] = f.add(at[-1], i64(c * self.width)) if c else at[-1]
                memos: list[dict[int, S]] = [{} for _ in rows]
                for x in self.k.lates:
                    values = []
                    for (self.env, outer), memo in zip(rows, memos, strict=True):
                        values.append(self.mv.broadcast(self.element(x.stmt, memo, [*outer, *at], mask, 0)))
                    combine = self.mv.combiner(x.kind)
                    while len(values) > 1:
                        values = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
                    self._accumulate(x, values[0], column, [*rows[0][1], *at], mask)
            return accs

        self._nest(list(range(self.k.outer, len(self.k.axes))), [], [], [], [], body, 1, None)
        f.scopes.pop()
        self.env = before

    def _columns(self, c: Val) -> Callable[[Late], Val]:
        """Pointers to this chunk's column sums, set to the neutral value."""
        f, k = self.fn, self.k
        length: Val = i64(1)
        for a in range(k.outer, len(k.axes)):
            length = self.size(a) if length == "1" else f.mul(length, self.size(a))
        at: dict[int, Val] = {}
        for x in k.lates:
            if x.over != "columns":
                continue
            d = accumulator(k.stmts[x.stmt].dtype)
            p = f.gep(self.operand(x.partial, "ptr"), f.mul(c, length), self.m1.memory(d))
            at[id(x)] = p
            zero = self.mv.neutral(x.kind, d)

            def clear(i: Val, p: Val = p, zero: S = zero, d: DType = d) -> None:
                self.mv.store(zero, f.gep(p, i, self.m1.memory(d)), f.mask(f.sub(length, i), self.width))

            f.loop(0, length, clear, step=self.width)
        return lambda x: at[id(x)]


def _combined(combine: Callable[[S, S], S], dtype: DType, x: Val, y: Val) -> Val:
    return combine(S(x, dtype), S(y, dtype)).v


def emit_combine(module: Module, name: str, kind: str, dtype: DType, kept: DType) -> None:
    """`out[i] = combination over c of partial[c, i]`, which is kept as `kept`.

    Operands: partial, out, chunks, length. Tasks: blocks of i.
    """
    f = module.function(
        name, [("frame", "ptr noalias readonly"), ("idx", "ptr noalias readonly"), ("lo", "i64"), ("hi", "i64")]
    )
    frame, idx, lo, hi = f.args
    m = LLVMScalar(f, 8 if dtype.bits == 64 else 16)

    def operand(i: int, ty: str) -> Val:
        slot = f.cast("zext", f.load("i32", f.gep(idx, i, "i32"), invariant=True), "i64")
        return f.load(ty, f.gep(frame, slot, "i64"), invariant=True)

    partial, out, chunks, length = operand(0, "ptr"), operand(1, "ptr"), operand(2, "i64"), operand(3, "i64")
    mem, memory = m.memory(dtype), m.memory(kept)
    wide = float64 if kind == "sum" and kept is float32 else kept
    end = f.intrinsic("smin", f.mul(hi, i64(BLOCK)), length)

    def block(i: Val) -> None:
        mask = f.mask(f.sub(end, i), m.width)

        def add(c: Val, acc: Val) -> list[Val]:
            x = m.load(f.gep(partial, f.add(f.mul(c, length), i), memory), kept, mask)
            return [m.combiner(kind)(S(acc, wide), m.cast(x, wide)).v]

        got = f.loop(0, chunks, add, [m.neutral(kind, wide).v])
        m.store(m.cast(m.cast(S(got[0], wide), kept), dtype), f.gep(out, i, mem), mask)

    f.loop(f.mul(lo, i64(BLOCK)), end, block, step=m.width)
    f.ret_()
