"""How a matrix product is divided into tasks, from its sizes alone: the same formulas in Python and generated code."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.microkernel import Tiles

TASK = 1 << 16  # least multiply-adds of a task, if there are so many
GRAIN = 1 << 17  # multiply-adds that are worth handing to another thread
TASKS = 16  # tasks aimed at when there is work for them
GROUP_TILES = 32  # most row tiles of a task
BUNDLE = 8  # most column panels of a task
SLAB = 256  # rows of B packed in one task
BUNDLE_TILES = 16  # most row tiles of a task with several panels
SPLIT = 768  # shortest part of a divided k
WIDE_A = 1 << 17  # elements of A from which tasks take several panels
DEEP = 512  # most tiles of a result whose products are divided by k first
MOST_GROUPS = 8  # groups of rows aimed at, if B is kept
MOST_ROWS, KEPT_BYTES = 256, 1 << 20  # of A and B, if B is kept
KEPT = 3  # `seen`, if B stays the same, and in the caches, over the steps of a loop
ROWS = 4  # `seen`, if the rows of A lie along k: what is read of them needs no packing yet
PACK_A = 1 << 19  # elements of A from which A and B are packed, once, before everything else
PACK_ROWS = 1 << 20  # the same where its rows lie along k, and half the elements of B


class Ints:
    """Arithmetic on Python integers."""

    def const(self, a: int) -> Any:
        return a

    def add(self, a: Any, b: Any) -> Any:
        return a + b

    def mul(self, a: Any, b: Any) -> Any:
        return a * b

    def div(self, a: Any, b: Any) -> Any:
        return a // b

    def ge(self, a: Any, b: Any) -> Any:
        return int(a >= b)

    def max(self, a: Any, b: Any) -> Any:
        return max(a, b)

    def min(self, a: Any, b: Any) -> Any:
        return min(a, b)

    def ceil(self, a: Any, b: Any) -> Any:
        """The quotient rounded up."""
        return self.div(self.add(a, self.add(b, self.const(-1))), b)

    def up(self, a: Any, b: int) -> Any:
        """`a` rounded up to a multiple of `b`."""
        return self.mul(self.ceil(a, self.const(b)), self.const(b))

    def pick(self, flag: Any, a: Any, b: Any) -> Any:
        """`a` if the flag is 1, `b` if it is 0."""
        return a if flag else b


class FnInts(Ints):
    """The same on values of a function under construction."""

    def __init__(self, fn: Fn) -> None:
        self.fn = fn

    def const(self, a: int) -> Val:
        return i64(a)

    def add(self, a: Val, b: Val) -> Val:
        return self.fn.add(a, b)

    def mul(self, a: Val, b: Val) -> Val:
        return self.fn.mul(a, b)

    def div(self, a: Val, b: Val) -> Val:
        return self.fn.op("udiv", a, b)

    def ge(self, a: Val, b: Val) -> Val:
        return self.fn.cast("zext", self.fn.cmp("sge", a, b), "i64")

    def max(self, a: Val, b: Val) -> Val:
        return self.fn.intrinsic("smax", a, b)

    def min(self, a: Val, b: Val) -> Val:
        return self.fn.intrinsic("smin", a, b)

    def pick(self, flag: Val, a: Val, b: Val) -> Val:
        return self.fn.select(self.fn.cmp("ne", flag, i64(0)), a, b)


@dataclass(frozen=True)
class Plan:
    """How a product is divided. It depends on the sizes only, so results never depend on the number of threads."""

    thin: Any  # 1: few rows, so wider panels and lower tiles
    panel: Any  # columns of a panel
    panels: Any
    bundle: Any  # panels of a task, side by side
    bundles: Any
    blocks: Any  # row tiles of full height, the last one perhaps lower
    group: Any  # row tiles of a task
    groups: Any
    height: Any  # rows of a task
    low: Any  # rows of a row tile
    kept: Any  # 1: tasks follow each other by columns, then by rows
    part: Any  # length of a part of k
    parts: Any  # more than one: a second step adds the parts up
    pack: Any  # 1: A and B are packed first
    slabs: Any  # blocks of k in which B is then packed
    sheaves: Any  # bundles in which B is then packed
    depth: Any  # k rounded up, as packed
    tasks: Any
    grain: Any  # tasks that are together enough work for a thread


def plan(o: Ints, t: Tiles, m: Any, n: Any, k: Any, batch: Any, seen: Any) -> Plan:
    """`seen`: 1 or 2 if A is made of patches of an image as they are needed, so that each should be needed once; or
    KEPT. Each thread then has its own rows, as in the loops around the product, so that rows stay in its cache."""
    c, one = o.const, o.const(1)
    kept = o.mul(o.ge(seen, c(KEPT)), o.ge(c(KEPT), seen))
    patched, along = (o.mul(o.ge(seen, c(i)), o.ge(c(2), seen)) for i in (1, 2))
    high = c(t.rows[0])
    thin = o.ge(c(t.thin[0]), m)
    panel = o.pick(thin, c(t.thin_vectors * t.width), c(t.vectors * t.width))
    panels, blocks = o.ceil(n, panel), o.ceil(m, high)
    elements = o.mul(m, k)
    # Several panels at once read a large A less often and B in longer pieces, if tasks enough are left.
    bundle = o.mul(o.ge(elements, c(WIDE_A)), o.div(o.mul(panels, blocks), c(TASKS * BUNDLE_TILES)))
    # Where k is long and the result small, tasks divide k rather than columns: each reads its part of A once.
    deep = o.mul(o.mul(o.ge(elements, c(WIDE_A)), o.ge(k, c(2 * SPLIT))), o.ge(c(DEEP), o.mul(panels, blocks)))
    bundle = o.pick(deep, o.div(o.mul(panels, o.div(k, c(SPLIT))), c(TASKS // 2)), bundle)
    bundle = o.pick(patched, panels, o.max(bundle, o.div(panels, c(TASKS))))
    low = o.pick(kept, c(t.rows[1]), high)
    height = o.up(o.ceil(m, c(MOST_GROUPS)), t.rows[1])
    bundle = o.pick(kept, o.div(o.mul(panels, o.ceil(m, o.max(height, one))), c(TASKS)), bundle)
    bundle = o.max(o.min(bundle, c(BUNDLE)), one)
    bundles = o.ceil(panels, bundle)
    squares = o.max(o.mul(batch, bundles), one)
    cols = o.min(n, o.mul(panel, bundle))
    work = o.max(o.mul(o.mul(o.min(m, high), cols), k), one)
    most = o.pick(o.ge(bundle, c(2)), c(BUNDLE_TILES), c(GROUP_TILES))
    group = o.max(o.ceil(blocks, o.ceil(c(TASKS), squares)), o.ceil(c(TASK), work))
    group = o.pick(o.max(along, deep), blocks, group)
    groups = o.ceil(blocks, o.max(o.min(o.min(group, blocks), most), one))
    group = o.ceil(blocks, o.max(groups, one))
    groups = o.pick(kept, o.ceil(m, o.max(height, one)), groups)
    height = o.pick(kept, height, o.mul(group, high))
    cells = o.max(o.mul(squares, groups), one)
    area = o.max(o.mul(o.min(m, height), cols), one)
    wanted = o.ceil(o.pick(along, c(TASKS), c(TASKS // 2)), cells)
    parts = o.min(o.div(k, o.max(c(SPLIT), o.ceil(c(4 * TASK), area))), wanted)
    part = o.max(o.up(o.ceil(k, o.max(parts, one)), t.width), one)
    parts = o.max(o.ceil(k, part), one)
    parts, part = o.pick(kept, one, parts), o.pick(kept, k, part)
    large = o.mul(o.ge(elements, c(PACK_A)), o.mul(o.ge(m, c(256)), o.ge(n, c(512))))
    pack = one if t.converts else o.pick(o.ge(seen, one), c(0), large)
    tasks = o.mul(o.mul(o.mul(batch, bundles), groups), parts)
    grain = o.max(o.ceil(c(GRAIN), o.max(o.mul(area, o.min(part, k)), one)), one)
    slabs, sheaves = o.max(o.ceil(k, c(SLAB)), one), o.ceil(panels, c(BUNDLE))
    return Plan(
        thin, panel, panels, bundle, bundles, blocks, group, groups, height, low, kept, part, parts, pack,
        slabs, sheaves, o.up(k, t.width), tasks, grain,
    )  # fmt: skip


def in_rows(t: Tiles, m: int, n: int, k: int) -> int:
    """ROWS, if A, whose rows lie along k, and B are not so large that they have to be packed."""
    return ROWS if m * k < PACK_ROWS and k * n < 2 * PACK_ROWS and not t.converts else 0


def kept(t: Tiles, m: int, n: int, k: int) -> int:
    """KEPT, if rows can be divided among threads and each of them has room for all of B in its cache; else 0."""
    fits = 2 * t.rows[1] <= m <= MOST_ROWS and k * n * t.size <= KEPT_BYTES and not t.converts
    return KEPT if fits else 0


def packed_bytes(o: Ints, t: Tiles, p: Plan, batch: Any) -> Any:
    """Bytes of the packed A, and of the packed B behind it."""
    rows = o.add(o.mul(p.blocks, o.const(t.rows[0])), o.mul(p.panels, p.panel))
    return o.mul(p.pack, o.up(o.mul(o.mul(batch, rows), o.mul(p.depth, o.const(t.size))), 64))


def part_bytes(o: Ints, t: Tiles, p: Plan, batch: Any) -> Any:
    """Bytes of the sums over one part of k."""
    rows = o.mul(p.blocks, o.const(t.rows[0] * t.size))
    return o.mul(o.mul(rows, o.mul(p.panel, p.panels)), batch)


def scratch_bytes(t: Tiles, m: int, n: int, k: int, batch: int, seen: int = 0) -> int:
    o = Ints()
    p = plan(o, t, m, n, k, batch, seen)
    sums = p.parts * part_bytes(o, t, p, batch) if p.parts > 1 else 0
    return int(packed_bytes(o, t, p, batch) + sums)


def tasks(t: Tiles, kind: str, m: int, n: int, k: int, batch: int, seen: int = 0) -> int:
    """The number of tasks of a step."""
    p = plan(Ints(), t, m, n, k, batch, seen)
    if kind == "pack_step":
        return int(p.pack * batch * (p.blocks + p.sheaves * p.slabs))
    if kind == "combine":
        return int(batch * p.panels * p.groups) if p.parts > 1 else 0
    return int(p.tasks)


def grain(t: Tiles, kind: str, m: int, n: int, k: int, batch: int, seen: int = 0) -> int:
    """How many tasks of a step together are enough work for a thread."""
    if kind == "pack_step":
        return max(GRAIN // 8 // max(k * t.rows[0], 1), 1)
    return int(plan(Ints(), t, m, n, k, batch, seen).grain) if kind == "compute" else 1


def plan_function(module: Module, t: Tiles) -> None:
    """`plan` as a function of the library, which writes the fields one after another."""
    params = [*((name, "i64") for name in ("m", "n", "k", "batch", "seen")), ("out", "ptr")]
    fn = module.function(f"{t.prefix}_plan", params, internal=True)
    p = plan(FnInts(fn), t, *fn.args[:5])
    for i, field in enumerate(fields(Plan)):
        fn.store(getattr(p, field.name), fn.gep(fn.args[5], 8 * i), 8)
    fn.ret_()


def planned(fn: Fn, t: Tiles, v: dict[str, Val]) -> Plan:
    """The plan inside another function of the library."""
    out = fn.alloca(8 * len(fields(Plan)), 8)
    fn.call(f"{t.prefix}_plan", [v["m"], v["n"], v["k"], v["batch"], v["seen"], out])
    return Plan(*(fn.load("i64", fn.gep(out, 8 * i), 8) for i in range(len(fields(Plan)))))
