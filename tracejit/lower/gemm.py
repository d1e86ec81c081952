"""The library behind matrix products: packing, multiplying and adding up, for any sizes and strides of one type."""

from __future__ import annotations

from tracejit.lower.gemmplan import (
    BUNDLE,
    BUNDLE_TILES,
    GROUP_TILES,
    SLAB,
    FnInts,
    packed_bytes,
    part_bytes,
    plan_function,
    planned,
)
from tracejit.lower.llvm import NULL, Fn, Module, Val, i64
from tracejit.lower.microkernel import (
    ADD,
    WHOLE,
    Tiles,
    accumulate,
    dot_kernel,
    dot_name,
    kernel_name,
    multiply_kernel,
)
from tracejit.lower.pack import packing
from tracejit.lower.patchrows import ELEMENTS, PLACES, patch_rows
from tracejit.lower.room import Room

# `seen`: whether A is patches of an image; `windows`: at which operand what is told of these begins.
OPERANDS = (
    "a", "b", "m", "n", "k", "batch", "a_batch", "a_m", "a_k", "b_batch", "b_k", "b_n", "scratch", "seen", "windows",
)  # fmt: skip
STEPS = ("pack_step", "compute", "combine")
DOTS = (4, 1)  # rows of the kernels for dot products
FEW_TILES = 4  # most row tiles that read B where it lies
PANELS = 256 << 10  # most bytes of B packed by a task at a time: A needs room in the second-level cache too
NEARBY = 512  # most elements of k in which a task reads A, again for each panel
BLOCK = 2 << 20  # most bytes of B, packed before, that a task reads again and again
PATCHES = 256 << 10  # most bytes of patches made by a task at a time
NEAR = 16 << 10  # most bytes of B packed on the stack
DEPTH = 2048, 256  # most elements of the rows of patches that are made at a time, and most rows of them across


def library(t: Tiles) -> str:
    """The text of the library for `t`."""
    module = Module()
    shapes = {(r, v) for r in t.rows for v in (1, t.vectors)} | {(r, t.thin_vectors) for r in t.thin}
    for rows, vectors in sorted(shapes):
        multiply_kernel(module, t, rows, vectors)
    for rows in DOTS:
        dot_kernel(module, t, rows)
    accumulate(module, t)
    packing(module, t)
    patch_rows(module, t)
    plan_function(module, t)
    _pack_step(module, t)
    _Compute(module, t)
    _combine_step(module, t)
    return module.text()


def exports(t: Tiles) -> list[str]:
    return [f"{t.prefix}_{s}" for s in STEPS]


def operand(fn: Fn, frame: Val, idx: Val, k: int, ty: str = "i64") -> Val:
    """The kernel's k-th operand: `frame[idx[k]]`."""
    slot = fn.load("i32", fn.gep(idx, 4 * k), 4, invariant=True)
    return fn.load(ty, fn.gep(frame, fn.cast("zext", slot, "i64"), "i64"), 8, invariant=True)


def _operands(fn: Fn, t: Tiles) -> dict[str, Val]:
    """The product's operands by name; strides in bytes."""
    frame, own = fn.args[:2]
    types = {"a": "ptr", "b": "ptr", "scratch": "ptr"}
    out = {n: operand(fn, frame, own, i, types.get(n, "i64")) for i, n in enumerate(OPERANDS)}
    return out | {n: fn.mul(x, i64(t.dtype.size)) for n, x in out.items() if "_" in n}


def _pack_step(module: Module, t: Tiles) -> None:
    """Pack all of A in row tiles, a tile by task, then all of B in column panels, a block of k of a bundle by task."""
    fn = module.function(f"{t.prefix}_pack_step", [("frame", "ptr"), ("own", "ptr"), ("lo", "i64"), ("hi", "i64")])
    v, o = _operands(fn, t), FnInts(fn)
    p = planned(fn, t, v)
    high, a_tasks = i64(t.rows[0]), fn.mul(v["batch"], p.blocks)
    a_tile = fn.mul(p.depth, i64(t.rows[0] * t.size))
    b_start = fn.gep(v["scratch"], fn.mul(a_tasks, a_tile))
    b_row = fn.mul(p.panel, i64(t.size))

    def row_tile(i: Val) -> None:
        batch, row = fn.op("udiv", i, p.blocks), fn.mul(fn.op("urem", i, p.blocks), high)
        src = fn.gep(v["a"], fn.add(fn.mul(batch, v["a_batch"]), fn.mul(row, v["a_m"])))
        rows = o.min(fn.sub(v["m"], row), high)
        dst = fn.gep(v["scratch"], fn.mul(i, a_tile))
        fn.call(f"{t.prefix}_pack", [src, v["a_m"], v["a_k"], rows, v["k"], dst, high])

    def panels(i: Val) -> None:
        k, rest = fn.mul(fn.op("urem", i, p.slabs), i64(SLAB)), o.div(i, p.slabs)
        bundle, batch = fn.op("urem", rest, p.sheaves), o.div(rest, p.sheaves)
        first = fn.mul(bundle, i64(BUNDLE))
        col = fn.mul(first, p.panel)
        src = fn.add(fn.mul(batch, v["b_batch"]), fn.add(fn.mul(k, v["b_k"]), fn.mul(col, v["b_n"])))
        dst = fn.mul(fn.add(fn.mul(batch, p.panels), first), fn.mul(p.depth, b_row))
        cols = o.min(fn.mul(p.panel, i64(BUNDLE)), fn.sub(v["n"], col))
        depth = o.min(i64(SLAB), fn.sub(v["k"], k))
        dst = fn.gep(b_start, fn.add(dst, fn.mul(k, b_row)))
        args = [fn.gep(v["b"], src), v["b_n"], v["b_k"], cols, depth, dst, p.panel, fn.mul(p.depth, b_row)]
        fn.call(f"{t.prefix}_pack_many", args)

    def task(i: Val) -> None:
        fn.if_(fn.cmp("slt", i, a_tasks), lambda: row_tile(i), lambda: panels(fn.sub(i, a_tasks)))

    fn.loop(fn.args[2], fn.args[3], task)
    fn.ret_()


def _combine_step(module: Module, t: Tiles) -> None:
    """Task i adds up the parts of k of one group of row tiles, in their order, and finishes the tiles."""
    params = [("frame", "ptr"), ("own", "ptr"), ("lo", "i64"), ("hi", "i64"), ("finish", "ptr"), ("idx", "ptr")]
    fn = module.function(f"{t.prefix}_combine", params)
    frame, _, lo, hi, finish, idx = fn.args
    v, o = _operands(fn, t), FnInts(fn)
    p = planned(fn, t, v)
    sums = fn.gep(v["scratch"], packed_bytes(o, t, p, v["batch"]))
    part = part_bytes(o, t, p, v["batch"])
    high, tile_row = i64(t.rows[0]), fn.mul(p.panel, i64(t.size))
    tile = fn.mul(high, tile_row)
    vectors = fn.op("udiv", tile, i64(t.vector_bytes))

    def task(i: Val) -> None:
        square = o.div(i, p.groups)
        panel, batch = fn.op("urem", square, p.panels), o.div(square, p.panels)
        col = fn.mul(panel, p.panel)
        first = fn.mul(fn.op("urem", i, p.groups), p.group)
        last = o.min(p.blocks, fn.add(first, p.group))

        def block(j: Val) -> None:
            at = fn.gep(sums, fn.mul(fn.add(fn.mul(square, p.blocks), j), tile))

            def add(c: Val) -> None:
                fn.call(f"{t.prefix}_accumulate", [at, fn.gep(at, fn.mul(c, part)), vectors])

            fn.loop(1, p.parts, add)
            row = fn.mul(j, high)
            rows, cols = o.min(high, fn.sub(v["m"], row)), o.min(p.panel, fn.sub(v["n"], col))
            fn.call(finish, [frame, idx, at, tile_row, rows, cols, batch, row, col])

        fn.loop(first, last, block)

    fn.loop(lo, hi, task)
    fn.ret_()


def _dispatch(module: Module, t: Tiles) -> tuple[Val, Val]:
    """Tables of kernels and of their heights, by form (wide, thin, both narrow, dot products) and rows left."""
    pointers, heights = [], []
    forms = ((t.rows, t.vectors), (t.thin, t.thin_vectors), (t.rows, 1), (t.thin, 1), (DOTS, 0))
    for shapes, vectors in forms:
        for left in range(t.rows[0] + 1):
            height = next((r for r in shapes if r <= left), shapes[-1])
            pointers.append(f"ptr @{kernel_name(t, height, vectors) if vectors else dot_name(t, height)}")
            heights.append(f"i64 {height}")

    def table(name: str, ty: str, values: list[str]) -> Val:
        text = f"internal constant [{len(values)} x {ty}] [{', '.join(values)}], align 16"
        return module.global_(f"{t.prefix}_{name}", text)

    return table("kernels", "ptr", pointers), table("heights", "i64", heights)


class _Compute:
    """Generates the step that multiplies: tasks are (batch, bundle of column panels, part of k, group of row tiles).

    The sums of a tile go straight into the result if `dest` gives one, else to `finish`; where k is divided they are
    kept and added up first, in the task's own store or, for the last step, in `scratch`.
    """

    def __init__(self, module: Module, t: Tiles) -> None:
        params = [("frame", "ptr"), ("own", "ptr"), ("lo", "i64"), ("hi", "i64"), ("finish", "ptr"), ("idx", "ptr")]
        params += [("dest", "ptr"), ("dest_row", "i64"), ("dest_batch", "i64")]
        self.t = t
        self.fn = fn = module.function(f"{t.prefix}_compute", params)
        self.frame, self.own, lo, hi, self.finish, self.idx, self.dest, self.dest_row, self.dest_batch = fn.args
        self.v = v = _operands(fn, t)
        self.o = FnInts(fn)
        self.p = planned(fn, t, v)
        self.kernels, self.heights = _dispatch(module, t)
        widest = max(t.vectors, t.thin_vectors) * t.vector_bytes
        self.tile, self.near = fn.alloca(t.rows[0] * widest), fn.alloca(NEAR)
        bundle_row = BUNDLE_TILES * BUNDLE * t.vectors * t.vector_bytes
        # A block of k is rounded up to whole vectors, which may take it a little beyond the size aimed at.
        sizes = [t.rows[0] * max(GROUP_TILES * widest, bundle_row), PANELS + t.width * BUNDLE * widest]
        sizes.append(PATCHES + t.vector_bytes * (GROUP_TILES * t.rows[0] + 2))
        self.room = Room(fn, [f"{t.prefix}_room", f"{t.prefix}_room_taken"], sizes)
        self.packed_at, self.packed_id = fn.alloca(8, 8), fn.alloca(8)
        self.by_place, self.by_element = (fn.cmp("eq", v["seen"], i64(x)) for x in (PLACES, ELEMENTS))
        self.tile_row = fn.mul(self.p.panel, i64(t.size))
        self.sums = fn.gep(v["scratch"], packed_bytes(self.o, t, self.p, v["batch"]))
        a_rows = fn.mul(fn.mul(v["batch"], self.p.blocks), i64(t.rows[0]))
        self.b_packed = fn.gep(v["scratch"], fn.mul(fn.mul(a_rows, self.p.depth), i64(t.size)))
        self.packed_before = fn.cmp("ne", self.p.pack, i64(0))
        self.part_bytes = part_bytes(self.o, t, self.p, v["batch"])
        fn.store(i64(-1), self.packed_id, 8)
        fn.store(NULL, self.packed_at, 8)
        fn.if_(fn.or_(self.by_place, self.by_element), self.room.take)
        fn.loop(lo, hi, self.task)
        self.room.leave()
        fn.ret_()

    def task(self, i: Val) -> None:
        fn, p, v, o = self.fn, self.p, self.v, self.o
        kept = fn.cmp("ne", p.kept, i64(0))
        last = fn.select(kept, p.bundles, p.groups)
        inner, outer = fn.op("urem", i, last), o.div(i, last)
        group, self.bundle_id = fn.select(kept, outer, inner), fn.select(kept, inner, outer)
        self.part, square = fn.op("urem", self.bundle_id, p.parts), o.div(self.bundle_id, p.parts)
        self.batch = o.div(square, p.bundles)
        self.panel0 = fn.mul(fn.op("urem", square, p.bundles), p.bundle)
        self.panel1 = o.min(p.panels, fn.add(self.panel0, p.bundle))
        height = p.height
        self.row0 = fn.mul(group, height)
        self.row1 = o.min(v["m"], fn.add(self.row0, height))
        start = fn.mul(self.part, p.part)
        length = o.min(p.part, fn.sub(v["k"], start))
        self.pack = self.wants_packing()
        room = fn.select(self.packed_before, i64(BLOCK // self.t.size), i64(PANELS // self.t.size))
        most = o.div(room, fn.mul(p.panel, p.bundle))
        most = fn.select(self.packed_before, most, o.min(most, i64(NEARBY)))
        most = fn.select(kept, v["k"], most)
        most = fn.select(self.by_place, o.min(most, i64(DEPTH[0])), most)
        across = o.min(o.div(i64(PATCHES // self.t.size), height), i64(DEPTH[1]))
        most = fn.select(self.by_element, o.min(most, across), most)
        even = o.ceil(length, o.max(o.ceil(length, most), i64(1)))
        step = o.max(o.up(even, self.t.width), i64(1))
        self.patch_row = fn.mul(fn.select(self.by_place, step, o.up(height, self.t.width)), i64(self.t.size))
        self.count = o.max(o.ceil(length, step), i64(1))
        self.split = fn.cmp("sgt", p.parts, i64(1))
        several = fn.cmp("sgt", self.count, i64(1))
        self.kept = fn.or_(several, self.split)
        fn.if_(fn.and_(several, fn.not_(self.split)), self.room.take)

        def block(j: Val) -> None:
            done = fn.mul(j, step)
            k, depth = fn.add(start, done), o.min(step, fn.sub(length, done))
            fn.if_(self.pack, lambda: self.pack_panels(k, depth))
            some = fn.and_(self.by_element, fn.cmp("sgt", depth, i64(0)))
            fn.if_(some, lambda: self.see(k, depth, self.row0, self.row1))
            self.row_tiles(j, k, depth)

        fn.loop(0, self.count, block)

    def see(self, first: Val, count: Val, lo: Val, hi: Val) -> None:
        """Make elements lo … hi − 1 of some rows of patches."""
        own = self.fn.gep(self.own, self.v["windows"], "i32")
        self.call("patch_rows", self.frame, own, first, count, lo, hi, self.room.part(2), self.patch_row)

    def wants_packing(self) -> Val:
        """B is packed here if its rows are no vectors, or if enough row tiles read a panel whose rows lie far apart."""
        fn, v, t = self.fn, self.v, self.t
        strided = fn.and_(fn.cmp("ne", v["b_n"], i64(t.dtype.size)), fn.cmp("ne", v["n"], i64(1)))
        often = fn.cmp("sgt", fn.sub(self.row1, self.row0), i64(FEW_TILES * t.rows[0]))
        far = fn.cmp("sgt", v["b_k"], fn.select(fn.or_(self.by_place, self.by_element), self.tile_row, i64(512)))
        pack = fn.or_(strided, fn.and_(often, far))
        self.dots = self.wants_dots(strided)
        if not t.masks:
            pack = fn.or_(pack, fn.cmp("ne", fn.op("urem", v["n"], self.p.panel), i64(0)))
        return fn.and_(pack, fn.not_(fn.or_(self.packed_before, self.dots)))

    def wants_dots(self, strided: Val) -> Val:
        """Few rows and both operands with neighbours along k: products of vectors need no packing."""
        fn, v = self.fn, self.v
        unit, long = i64(self.t.dtype.size), fn.cmp("sge", v["k"], i64(2 * self.t.width))
        along = fn.and_(fn.cmp("eq", v["a_k"], unit), fn.cmp("eq", v["b_k"], unit))
        thin = fn.cmp("ne", self.p.thin, i64(0))
        return fn.and_(fn.and_(fn.and_(thin, long), fn.and_(along, strided)), fn.not_(self.packed_before))

    def b_at(self, k: Val, col: Val) -> Val:
        fn, v = self.fn, self.v
        at = fn.add(fn.mul(self.batch, v["b_batch"]), fn.mul(k, v["b_k"]))
        return fn.gep(v["b"], fn.add(at, fn.mul(col, v["b_n"])))

    def b_of(self, panel: Val, col: Val, k: Val, depth: Val) -> list[Val]:
        """Where a panel's block of k starts, and its stride by k (by column for dot products)."""
        fn, p = self.fn, self.p
        size = fn.mul(self.o.up(depth, self.t.width), self.tile_row)
        here = fn.gep(fn.load("ptr", self.packed_at, 8), fn.mul(fn.sub(panel, self.panel0), size))
        row = fn.add(fn.mul(fn.add(fn.mul(self.batch, p.panels), panel), p.depth), k)
        before = fn.gep(self.b_packed, fn.mul(row, self.tile_row))
        step = fn.select(fn.or_(self.pack, self.packed_before), self.tile_row, self.v["b_k"])
        start = fn.select(self.packed_before, before, fn.select(self.pack, here, self.b_at(k, col)))
        return [start, fn.select(self.dots, self.v["b_n"], step)]

    def cols_of(self, panel: Val) -> list[Val]:
        """The panel's first column, and how many columns it has."""
        col = self.fn.mul(panel, self.p.panel)
        return [col, self.o.min(self.p.panel, self.fn.sub(self.v["n"], col))]

    def pack_panels(self, k: Val, depth: Val) -> None:
        """Pack the bundle's block of k, unless the task before this one has left it there."""
        fn, v, o = self.fn, self.v, self.o
        same = fn.cmp("eq", fn.load("i64", self.packed_id, 8), self.bundle_id)
        there = fn.and_(same, fn.cmp("eq", self.count, i64(1)))

        def pack_all() -> None:
            col = fn.mul(self.panel0, self.p.panel)
            cols = fn.sub(o.min(fn.mul(self.panel1, self.p.panel), v["n"]), col)
            size = fn.mul(o.up(depth, self.t.width), self.tile_row)
            every = fn.mul(fn.sub(self.panel1, self.panel0), size)
            to = fn.if_(fn.cmp("sle", every, i64(NEAR)), lambda: [self.near], lambda: [self.room.taken(1)])[0]
            fn.store(to, self.packed_at, 8)
            self.call("pack_many", self.b_at(k, col), v["b_n"], v["b_k"], cols, depth, to, self.p.panel, size)
            fn.store(self.bundle_id, self.packed_id, 8)

        fn.if_(there, lambda: None, pack_all)

    def a_at(self, row: Val, k: Val) -> list[Val]:
        """Where a row tile of A starts, and its strides by row and by k."""
        fn, v, t = self.fn, self.v, self.t
        high, size = i64(t.rows[0]), i64(t.size)
        seen = fn.or_(self.by_place, self.by_element)

        def packed() -> list[Val]:
            block = fn.add(fn.mul(self.batch, self.p.blocks), fn.op("udiv", row, high))
            at = fn.add(fn.mul(fn.add(fn.mul(block, self.p.depth), k), high), fn.op("urem", row, high))
            return [fn.gep(v["scratch"], at, t.compute), i64(t.size), i64(t.size * t.rows[0])]

        def direct() -> list[Val]:
            at = fn.add(fn.mul(self.batch, v["a_batch"]), fn.add(fn.mul(row, v["a_m"]), fn.mul(k, v["a_k"])))
            made = fn.mul(fn.select(self.by_element, fn.sub(row, self.row0), i64(0)), size)
            start = fn.select(seen, fn.gep(self.room.part(2), made), fn.gep(v["a"], at))
            by_row = fn.select(self.by_place, self.patch_row, fn.select(seen, size, v["a_m"]))
            by_k = fn.select(self.by_element, self.patch_row, fn.select(seen, size, v["a_k"]))
            return [start, by_row, by_k]

        return packed() if t.converts else fn.if_(self.packed_before, packed, direct)

    def row_tiles(self, j: Val, k: Val, depth: Val) -> None:
        """Multiply the j-th block of k for every row tile and panel of the task."""
        fn = self.fn
        first = fn.cmp("eq", j, i64(0))
        last = fn.and_(fn.not_(self.split), fn.cmp("eq", j, fn.sub(self.count, i64(1))))

        def row_tile(row: Val) -> list[Val]:
            left = self.o.min(fn.sub(self.row1, row), self.p.low)
            a = self.a_at(row, k)
            form = fn.select(self.dots, i64(4), self.p.thin)
            height = fn.load("i64", fn.gep(self.heights, fn.add(self.line(form), left), "i64"), 8)
            fn.if_(self.by_place, lambda: self.see(row, height, k, fn.add(k, depth)))

            def panel(index: Val) -> None:
                col, cols = self.cols_of(index)
                b, b_k = self.b_of(index, col, k, depth)
                self.tile_of(row, left, height, index, col, cols, [*a, b, b_k, depth], first, last)

            fn.loop(self.panel0, self.panel1, panel, nonempty=True)
            return [fn.add(row, height)]

        fn.while_([self.row0], lambda row: fn.cmp("slt", row, self.row1), row_tile)

    def line(self, form: Val) -> Val:
        return self.fn.mul(form, i64(self.t.rows[0] + 1))

    def tile_of(
        self, row: Val, left: Val, height: Val, panel: Val, col: Val, cols: Val, args: list[Val], first: Val, last: Val
    ) -> None:
        """Run a multiply kernel, and see to its sums."""
        fn, t, o, p = self.fn, self.t, self.o, self.p
        narrow = o.ge(i64(t.width), cols)
        form = fn.select(self.dots, i64(4), o.add(p.thin, o.mul(narrow, i64(2))))
        kernel = fn.load("ptr", fn.gep(self.kernels, fn.add(self.line(form), left), "ptr"), 8)
        fits = fn.cmp("eq", cols, o.pick(narrow, i64(t.width), p.panel))
        direct = fn.and_(fn.cmp("ne", self.dest, NULL), fn.not_(fn.or_(self.kept, self.dots)))
        if not t.masks:
            direct = fn.and_(direct, fits)
        tile = fn.select(self.kept, self.sums_at(row, panel), self.tile)
        out = fn.select(direct, self.result_at(row, col), tile)
        whole = fn.select(fn.or_(fits, fn.not_(direct)), i64(WHOLE), i64(0))
        how = fn.or_(whole, fn.select(first, i64(0), i64(ADD)))
        fn.call(kernel, [*args, out, fn.select(direct, self.dest_row, self.tile_row), cols, how])

        def finish() -> None:
            fn.call(self.finish, [self.frame, self.idx, tile, self.tile_row, height, cols, self.batch, row, col])

        fn.if_(fn.and_(last, fn.not_(direct)), finish)

    def sums_at(self, row: Val, panel: Val) -> Val:
        """Where the sums of a tile are kept: in the task's own store, or for the last step by part, panel and row."""
        fn, p, high = self.fn, self.p, i64(self.t.rows[0])
        own = fn.add(fn.mul(fn.sub(panel, self.panel0), fn.mul(p.group, high)), fn.sub(row, self.row0))
        square = fn.add(fn.mul(self.batch, p.panels), panel)
        shared = fn.add(fn.mul(square, fn.mul(p.blocks, high)), row)
        shared = fn.add(fn.mul(self.part, self.part_bytes), fn.mul(shared, self.tile_row))
        own_at, shared_at = fn.gep(self.room.part(0), fn.mul(own, self.tile_row)), fn.gep(self.sums, shared)
        return fn.select(self.split, shared_at, own_at)

    def result_at(self, row: Val, col: Val) -> Val:
        fn = self.fn
        at = fn.add(fn.mul(self.batch, self.dest_batch), fn.mul(row, self.dest_row))
        return fn.gep(self.dest, fn.add(at, fn.mul(col, i64(self.t.size))))

    def call(self, name: str, *args: Val) -> None:
        self.fn.call(f"{self.t.prefix}_{name}", args)
