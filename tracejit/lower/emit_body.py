"""A kernel's statements as LLVM registers: operands, addresses, and the values at given loop indices."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager

from tracejit.ir.types import DType, int64
from tracejit.lower.kernel import FULL, Access, Kernel, Stmt, Stride
from tracejit.lower.llvm import Fn, Module, Val, i64, lanes, vec
from tracejit.lower.scalar import S
from tracejit.lower.scalarcast import literal, register
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.passes.groups import rounds

Mask = Val | None
INLINE = 14  # lines of an op's code up to which it is no function of its own in a crowded kernel


def lanes_for(kernel: Kernel) -> int:
    """16 lanes; 8 where 64-bit values are computed, which then fill whole registers two at a time."""
    wide = any(s.level == FULL and s.dtype.bits == 64 and s.dtype.kind != "c" for s in kernel.stmts)
    return 8 if wide else 16


def beside(kernel: Kernel) -> int:
    """Registers that a loop without accumulators computes in step, as one wide one.

    A long chain of operations waits for itself, and the processor does not see far enough to begin the next one.
    """
    w = kernel.weight()
    if kernel.crowded() or any(s.kind == "gather" for s in kernel.stmts):
        return 1
    return 4 if w <= 100 else 2


def separate(weight: int) -> int:
    """Accumulators that a loop whose step costs so much keeps apart, so that one addition need not wait for another."""
    return 4 if weight <= 4 else 2 if weight <= 14 else 1


def computed(s: Stmt, m: LLVMScalar, args: Sequence[S]) -> S:
    """What an op makes of its operands."""
    assert s.op is not None and s.op.scalar is not None
    out: S = s.op.scalar(m, *args, **dict(s.attrs))
    return m.rounded(out) if rounds(s.op, s.dtype) else out


def called(s: Stmt, m: LLVMScalar, args: Sequence[S]) -> S:
    """The same by a call, if the op's code is long: the time to compile a function grows faster than its length."""
    assert s.op is not None
    module = m.fn.module
    given = [a for a in args if a.dtype.kind == "f" or literal(a.v) is None]
    shown = tuple([(a.v.ty, a.dtype, "" if a in given else a.v) for a in args])
    key = (s.op.name, s.attrs, s.dtype, m.width, shown)
    ty = vec(register(s.dtype), max(lanes(a.v.ty) for a in args))
    if key not in module.shared:
        name = f"{s.op.name}.{len(module.shared)}"
        g = Fn(module, name, [(f"x{i}", a.v.ty) for i, a in enumerate(given)], ty, True, "noinline")
        own = iter(g.args)
        inside = [S(next(own), a.dtype) if a in given else a for a in args]
        out = computed(s, LLVMScalar(g, m.width, m.avx512, m.half), inside)
        g.ret_(out.v)
        long = len(g.lines) > INLINE and out.v.ty == ty
        module.shared[key] = g if long else None
        if long:
            module.functions.append(g)
    f = module.shared[key]
    if f is None:
        return computed(s, m, args)
    return S(m.fn.pure(f"call {ty} @{f.name}({', '.join([f'{a.v.ty} {a.v}' for a in given])})", ty), s.dtype)


class BodyEmitter:
    def __init__(self, module: Module, name: str, kernel: Kernel) -> None:
        self.k = kernel
        self.fn: Fn = module.function(
            name, [("frame", "ptr noalias readonly"), ("idx", "ptr noalias readonly"), ("lo", "i64"), ("hi", "i64")]
        )
        self.width = lanes_for(kernel)
        self.m1 = LLVMScalar(self.fn, 1)
        self.mv = LLVMScalar(self.fn, self.width)
        self.crowded = kernel.crowded()
        self.ops: dict[int, Val] = {}
        self.env: dict[int, S] = {}  # scalar and row statements
        self.kept: dict[int, Val] = {}  # row buffers of values that a later phase needs again
        self.last = kernel.phases()
        self.unroll = separate(kernel.weight())
        self.beside = beside(kernel) if self.mv.avx512 else 1

    @contextmanager
    def width_of(self, width: int) -> Iterator[None]:
        """Emit for registers of so many lanes."""
        usual = self.mv, self.width
        self.mv, self.width = LLVMScalar(self.fn, width), width
        try:
            yield
        finally:
            self.mv, self.width = usual

    # --- operands -----------------------------------------------------------------------------------------------------
    def operand(self, i: int, ty: str) -> Val:
        if i == Stride.ZERO:
            return i64(0)
        if i in (Stride.UNIT, Stride.PAIR):
            return i64(1 if i == Stride.UNIT else 2)
        if i not in self.ops:
            f = self.fn
            frame, idx = f.args[:2]
            slot = f.cast("zext", f.load("i32", f.gep(idx, i, "i32"), invariant=True), "i64")
            self.ops[i] = f.load(ty, f.gep(frame, slot, "i64"), invariant=True)
        return self.ops[i]

    def load_operands(self) -> None:
        """All operands at the top, where they dominate everything."""
        accesses = [s.access for s in self.k.stmts if s.access] + [a for _, a in self.k.stores]
        for a in accesses:
            if a.operand >= 0:
                self.operand(a.operand, "ptr")
            for i in (a.offset, *a.strides):
                if i >= 0:
                    self.operand(i, "i64")
        for i in [i for s in self.k.stmts if s.kind == "gather" for i in s.value]:
            self.operand(i, "i64")
        for i in self.k.axes:
            self.operand(i, "i64")
        for x in self.k.lates:
            self.operand(x.partial, "ptr")
        if self.k.chunk >= 0:
            self.operand(self.k.chunk, "i64")

    def size(self, axis: int) -> Val:
        return self.operand(self.k.axes[axis], "i64")

    def unravelled(self, p: Val, axes: range) -> list[Val | None]:
        """The indices along some axes that follow each other, of a number that counts through all of them."""
        f = self.fn
        out: list[Val | None] = []
        rest = p
        for axis in reversed(axes):
            if axis == axes[0]:
                out.append(rest)
            else:
                n = self.size(axis)
                q = f.op("udiv", rest, n)
                out.append(f.sub(rest, f.mul(q, n)))
                rest = q
        return out[::-1]

    # --- statements ---------------------------------------------------------------------------------------------------
    def address(self, a: Access, dtype: DType, index: list[Val | None]) -> Val:
        """Pointer to the element at the loop indices, of type `dtype`; None stands for 0."""
        p = self.place(a, dtype, index)
        return self.fn.gep(p, i64(1), self.m1.memory(dtype)) if a.part else p

    def place(self, a: Access, dtype: DType, index: list[Val | None]) -> Val:
        """The same, but of the number where one of its parts is meant."""
        f = self.fn
        at = self.operand(a.offset, "i64") if a.offset >= 0 else None
        for s, i in zip(a.strides, index, strict=True):
            if s == Stride.ZERO or i is None:
                continue
            step = i if s == Stride.UNIT else f.mul(i, self.operand(s, "i64"))
            at = step if at is None else f.add(at, step)
        p = self.operand(a.operand, "ptr")
        return p if at is None else f.gep(p, at, self.m1.memory(dtype))

    def position(self, a: Access, index: list[Val | None]) -> Val:
        f = self.fn
        at: Val = i64(0)
        for s, i in zip(a.strides, index, strict=True):
            if s != Stride.ZERO and i is not None:
                at = f.add(at, i if s == Stride.UNIT else f.mul(i, self.operand(s, "i64")))
        return at

    def apply(self, s: Stmt, m: LLVMScalar, get: Callable[[int], S]) -> S:
        args = [get(a) for a in s.args]
        return called(s, m, args) if self.crowded else computed(s, m, args)

    def outer_statements(self, level: int, phase: int, index: list[Val | None]) -> None:
        """Statements that run once (`SCALAR`) or once per row and phase (`ROW`)."""
        for s in self.k.stmts:
            if s.level != level or s.phase != phase or s.id in self.env:
                continue
            if s.kind == "load":
                assert s.access is not None
                self.env[s.id] = self.m1.load(self.address(s.access, s.dtype, index), s.dtype)
            elif s.kind == "const":
                self.env[s.id] = self.m1.const(s.value, s.dtype)
            elif s.kind == "index":
                self.env[s.id] = self._index(s, self.m1, index, None)
            elif s.kind == "gather":
                self.env[s.id] = self._gather(s, self.env[s.args[0]], index, None)
            elif s.kind == "op" and s.dtype.kind != "c":
                self.env[s.id] = self.apply(s, self.m1, self.env.__getitem__)

    def _index(self, s: Stmt, m: LLVMScalar, index: list[Val | None], inner: Val | None) -> S:
        """The value of a position: an iota's, or what an op makes of the linear index."""
        assert s.access is not None and s.op is not None
        f = self.fn
        at = self.position(s.access, index)
        if inner is not None:
            step = s.access.strides[-1]
            line = f.iota(vec("i64", self.width))
            if step != Stride.UNIT:
                line = f.mul(line, f.splat(self.operand(step, "i64"), self.width))
            at = f.add(f.splat(at, self.width), line) if m.width > 1 else at
        x = S(at, int64)
        if s.op.scalar is None:
            return m.cast(x, s.dtype)
        return called(s, m, [x]) if self.crowded else computed(s, m, [x])

    # --- inner loops --------------------------------------------------------------------------------------------------
    def element(self, sid: int, memo: dict[int, S], index: list[Val | None], mask: Mask, phase: int) -> S:
        """A statement's value for `width` elements from the innermost index on."""
        if sid not in memo:
            for i in self._needed([sid], memo, phase):
                memo[i] = self._element(self.k.stmts[i], memo, index, mask, phase)
        return memo[sid]

    def _needed(self, sids: Sequence[int], memo: Container[int], phase: int) -> list[int]:
        """The statements still to be computed for these, in order."""
        found: set[int] = set()
        stack = list(sids)
        while stack:
            i = stack.pop()
            if i in memo or i in found:
                continue
            found.add(i)
            s = self.k.stmts[i]
            if s.level == FULL and not (i in self.kept and s.phase < phase):
                stack += s.args
        return sorted(found)

    def _element(self, s: Stmt, memo: dict[int, S], index: list[Val | None], mask: Mask, phase: int) -> S:
        sid = s.id
        if s.level < FULL:
            return self.env[sid]
        m = self.mv
        if sid in self.kept and s.phase < phase:
            p = self.fn.gep(self.kept[sid], index[-1], m.memory(s.dtype))  # type: ignore[arg-type]
            out = m.load(p, s.dtype)
        elif s.kind == "load":
            assert s.access is not None
            if s.access.part is not None and s.access.strides[-1] == Stride.PAIR:
                out = self._load_part(s, self.place(s.access, s.dtype, index), mask, s.access.part)
            else:
                out = self._load(s, self.address(s.access, s.dtype, index), mask)
        elif s.kind == "gather":
            out = self._gather(s, memo[s.args[0]], index, mask)
        elif s.kind == "index":
            out = self._index(s, m, index, index[-1])
        else:
            same = all(lanes(memo[a].v.ty) == 1 for a in s.args)
            out = self.apply(s, self.m1 if same else m, memo.__getitem__)
            if sid in self.kept:
                p = self.fn.gep(self.kept[sid], index[-1], m.memory(s.dtype))  # type: ignore[arg-type]
                m.store(out, p)
        return out

    def _load(self, s: Stmt, p: Val, mask: Mask) -> S:
        """Elements along the innermost axis; one lane where they are all the same."""
        assert s.access is not None
        step = s.access.strides[-1]
        if step == Stride.ZERO:
            return self.m1.load(p, s.dtype)
        if step == Stride.UNIT:
            return self.mv.load(p, s.dtype, mask)
        return self.mv.gather(p, self.operand(step, "i64"), s.dtype, mask)

    def _load_part(self, s: Stmt, p: Val, mask: Mask, part: int) -> S:
        """One part of complex numbers that follow each other: both parts are loaded, every other lane is kept."""
        f, w = self.fn, self.width
        ty = vec(self.m1.memory(s.dtype), 2 * w)
        both = f.load(ty, p, s.dtype.size) if mask is None else f.masked_load(ty, p, self._twice(mask), s.dtype.size)
        return S(f.shuffle(both, both, range(part, 2 * w, 2)) if w > 1 else f.extract(both, part), s.dtype)

    def _twice(self, mask: Val) -> Val:
        """The mask of pairs of lanes."""
        if lanes(mask.ty) == 1:
            return self.fn.splat(mask, 2)
        return self.fn.shuffle(mask, mask, [i // 2 for i in range(2 * lanes(mask.ty))])

    def _gather(self, s: Stmt, at: S, index: list[Val | None], mask: Mask) -> S:
        """Elements at a position that is data, brought into the buffer: negative ones count from its end."""
        assert s.access is not None
        f = self.fn
        step, size = (self.operand(i, "i64") for i in s.value)
        i = self.m1.cast(at, int64).v
        n = f.splat(size, lanes(i.ty))
        if at.dtype.kind == "i":
            i = f.select(f.cmp("slt", i, self.m1.like(i, 0)), f.add(i, n), i)
        i = f.intrinsic("smin", i, f.sub(n, self.m1.like(n, 1)))
        i = f.mul(f.intrinsic("smax", i, self.m1.like(i, 0)), f.splat(step, lanes(i.ty)))
        base = self.address(s.access, s.dtype, index)
        last = s.access.strides[-1] if s.level == FULL else Stride.ZERO
        if lanes(i.ty) == 1:
            p = f.gep(base, i, self.m1.memory(s.dtype))
            return self._load(s, p, mask) if s.level == FULL else self.m1.load(p, s.dtype)
        if last == Stride.ZERO:
            return self._picked(base, i, s.dtype)
        line = f.mul(f.iota(i.ty), f.splat(self.operand(last, "i64"), lanes(i.ty)))
        return self.mv.gather(base, S(f.add(i, line), int64), s.dtype, mask)

    def _picked(self, base: Val, at: Val, dtype: DType) -> S:
        """Elements at positions in the buffer, lane by lane: quicker than the machine's own gathers, and no masks."""
        f, memory = self.fn, self.m1.memory(dtype)
        v = Val("poison", vec(memory, lanes(at.ty)))
        for lane in range(lanes(at.ty)):
            x = f.load(memory, f.gep(base, f.extract(at, lane), memory), dtype.size)
            v = f.pure(f"insertelement {v.ty} {v}, {x.ty} {x}, i32 {lane}", v.ty)
        return S(self.m1.widen(v, dtype), dtype)

    def stored(self, sid: int, element: Callable[[int], S]) -> list[S]:
        """What a store writes: a value, or both parts of a complex one."""
        s = self.k.stmts[sid]
        return [element(i) for i in (s.args if s.dtype.kind == "c" else (sid,))]

    def write(self, values: Sequence[S], a: Access, index: list[Val | None], mask: Mask) -> None:
        """Write a vector of values, or the two vectors of complex ones."""
        if len(values) == 1:
            self.store(values[0], a, index, mask)
            return
        f, w, d = self.fn, self.width, values[0].dtype
        re, im = (self.mv.broadcast(x) for x in values)
        p = self.address(a, d, index)
        if a.strides[-1] == Stride.PAIR and w > 1:
            both = f.shuffle(re.v, im.v, [i // 2 + w * (i % 2) for i in range(2 * w)])
            if mask is not None:
                f.masked_store(both, p, self._twice(mask), d.size)
            elif self.k.stream and self.k.flat:
                f.store(both, p, 64, True)
            else:
                f.store(both, p, d.size)
            return
        step = self.operand(a.strides[-1], "i64")
        self.mv.scatter(re, p, step, mask)
        self.mv.scatter(im, f.gep(p, i64(1), self.m1.memory(d)), step, mask)

    def write_one(self, sid: int, a: Access, index: list[Val | None]) -> None:
        """Write a value that there is one of."""
        for i, x in enumerate(self.stored(sid, self.env.__getitem__)):
            memory = self.m1.memory(x.dtype)
            self.m1.store(x, self.fn.gep(self.address(a, x.dtype, index), i64(i), memory))

    def store(self, value: S, a: Access, index: list[Val | None], mask: Mask) -> None:
        p = self.address(a, value.dtype, index)
        value = self.mv.broadcast(value)
        step = a.strides[-1]
        if step == Stride.UNIT:
            stream = self.k.stream and mask is None and self.k.flat and value.dtype.size * self.width % 32 == 0
            self.mv.store(value, p, mask, stream, min(64, value.dtype.size * self.width) if stream else None)
        else:
            self.mv.scatter(value, p, self.operand(step, "i64"), mask)
