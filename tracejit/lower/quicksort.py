"""Integers in memory sorted, as LLVM IR: quicksort that partitions whole registers, and networks for short runs."""

from __future__ import annotations

from functools import cache

from tracejit.lower.engine import Library
from tracejit.lower.llvm import Fn, Module, Val, const, i64, suffix, vec
from tracejit.runtime.cache import host
from tracejit.runtime.modules import Recipe, load

REGISTERS = (1, 2, 4, 8, 16)  # registers of a sorting network
IN_REGISTERS = 8  # registers from which sorting one half, then the other, makes shorter code
SAMPLES = 2  # registers of elements from which a pivot is chosen
UNROLL = 4  # registers of one round of a partition
PARAMS = [("a", "ptr"), ("b", "ptr"), ("n", "i64")]


def lanes(bits: int) -> int:
    """Elements in a register."""
    return 512 // bits


def sort(module: Module, bits: int) -> str:
    """The name of a function `(ptr a, ptr b, i64 n)` that sorts n signed integers at `a`, declared in the module.

    Memory at `b` is written: room for n elements and one register.
    """
    return module.declare(_name(bits), "void", [ty for _, ty in PARAMS])


def _name(bits: int) -> str:
    return f"tj_sort_i{bits}"


def library(bits: int) -> str:
    """The text of the module with that function."""
    module = Module()
    _Quicksort(module, bits).driver(_name(bits))
    return module.text()


@cache
def _load(bits: int) -> Library:
    return load(Recipe(library, (bits,), (_name(bits),), quick=False))


def symbols(bits: int) -> dict[str, int]:
    """Addresses for linking what sorts integers of so many bits."""
    return _load(bits).addresses


class _Quicksort:
    """Writes the function for one element type, and those that it calls."""

    def __init__(self, module: Module, bits: int) -> None:
        self.module, self.bits, self.ty, self.width = module, bits, f"i{bits}", lanes(bits)
        self.vector = vec(self.ty, self.width)
        self.top = (1 << (bits - 1)) - 1
        self.compress = "+avx512f" in host()[1]

    def at(self, f: Fn, p: Val, index: Val) -> Val:
        return f.gep(p, index, self.ty)

    def load(self, f: Fn, p: Val) -> Val:
        return f.load(self.vector, p, self.bits // 8)

    def store(self, f: Fn, v: Val, p: Val) -> None:
        f.store(v, p, self.bits // 8)

    # --- networks -----------------------------------------------------------------------------------------------------
    def network(self, f: Fn, x: list[Val], first: int = 2) -> list[Val]:
        """Bitonic sort of the elements of some registers; runs of first / 2 elements rise and fall in turns already."""
        w, k = self.width, first
        while k <= w * len(x):
            j = k // 2
            while j:
                if j >= w:
                    x = self.across(f, x, k, j // w)
                else:
                    x = [self.within(f, v, i * w, k, j) for i, v in enumerate(x)]
                j //= 2
            k *= 2
        return x

    def across(self, f: Fn, x: list[Val], k: int, apart: int) -> list[Val]:
        """Registers in order lane by lane, in falling order where bit k of the position is set."""
        x = list(x)
        for i in range(len(x)):
            if not i & apart:
                low, high = f.intrinsic("smin", x[i], x[i + apart]), f.intrinsic("smax", x[i], x[i + apart])
                x[i], x[i + apart] = (high, low) if i * self.width & k else (low, high)
        return x

    def within(self, f: Fn, v: Val, first: int, k: int, j: int) -> Val:
        """Elements of a register that are j apart in order."""
        w = self.width
        other = f.shuffle(v, v, [i ^ j for i in range(w)])
        low, high = f.intrinsic("smin", v, other), f.intrinsic("smax", v, other)
        least = ["true" if (not i & j) == (not (first + i) & k) else "false" for i in range(w)]
        return f.select(Val(f"<{', '.join(f'i1 {x}' for x in least)}>", vec("i1", w)), low, high)

    def short(self, count: int, half: str = "") -> str:
        """A function that sorts as many elements as fit in `count` registers; with `half`, each half by that first."""
        name = f"sort.i{self.bits}.{count}"
        f = self.module.function(name, PARAMS, internal=True, attrs="noinline")
        a, b, n = f.args
        w, full = self.width, const(self.vector, self.top)
        middle = count // 2
        if half:
            f.call(half, [a, b, f.intrinsic("smin", n, i64(middle * w))])
            more = f.intrinsic("smax", f.sub(n, i64(middle * w)), i64(0))
            f.call(half, [self.at(f, a, i64(middle * w)), b, more])
        rest = [f.intrinsic("smax", f.sub(n, i64(i * w)), i64(0)) for i in range(count)]
        masks = [f.mask(k, w) for k in rest]
        at = [self.at(f, a, i64(i * w)) for i in range(count)]
        x = [f.masked_load(self.vector, p, m, self.bits // 8, full) for p, m in zip(at, masks, strict=True)]
        if half:
            x[middle:] = [f.shuffle(v, v, range(w - 1, -1, -1)) for v in x[middle:][::-1]]
        for v, p, m in zip(self.network(f, x, count * w if half else 2), at, masks, strict=True):
            f.masked_store(v, p, m, self.bits // 8)
        f.ret_()
        return name

    # --- partitions ---------------------------------------------------------------------------------------------------
    def pivot(self, f: Fn, a: Val, n: Val, network: str) -> Val:
        """The median of elements evenly spaced."""
        count = SAMPLES * self.width
        buffer = f.alloca(SAMPLES * 64)
        every = f.op("udiv", n, i64(count))

        def take(i: Val) -> None:
            f.store(f.load(self.ty, self.at(f, a, f.mul(i, every))), self.at(f, buffer, i))

        f.loop(0, count, take)
        f.call(network, [buffer, buffer, i64(count)])
        return f.load(self.ty, self.at(f, buffer, i64(count // 2)))

    def partition(self) -> str:
        """A function that puts elements below a pivot first and returns how many they are."""
        name = f"sort.i{self.bits}.partition"
        f = self.module.function(name, [*PARAMS, ("p", self.ty)], "i64", internal=True, attrs="noinline")
        a, b, n, p = f.args
        step = self.registers if self.compress else self.elements
        left = step(f, a, b, n, p)

        def back(i: Val) -> None:
            to = self.at(f, a, f.add(left, i))
            mask = f.mask(f.sub(f.sub(n, left), i), self.width)
            f.masked_store(self.load(f, self.at(f, b, i)), to, mask, self.bits // 8)

        f.loop(0, f.sub(n, left), back, step=self.width)
        f.ret_(left)
        return name

    def elements(self, f: Fn, a: Val, b: Val, n: Val, p: Val) -> Val:
        """One by one, without branches."""

        def one(i: Val, left: Val) -> list[Val]:
            x = f.load(self.ty, self.at(f, a, i))
            f.store(x, self.at(f, a, left))
            f.store(x, self.at(f, b, f.sub(i, left)))
            return [f.add(left, f.cast("zext", f.cmp("slt", x, p), "i64"))]

        return f.loop(0, n, one, [i64(0)])[0]

    def registers(self, f: Fn, a: Val, b: Val, n: Val, p: Val) -> Val:
        """The lanes below the pivot side by side, then the others; what is written past them is written again."""
        w = self.width
        pivot = f.splat(p, w)

        def packed(x: Val, mask: Val) -> Val:
            full = f"llvm.x86.avx512.mask.compress.{suffix(x.ty)}"
            self.module.declare(full, x.ty, [x.ty, x.ty, mask.ty])
            return f.pure(f"call {x.ty} @{full}({x.ty} {x}, {x.ty} {x}, {mask.ty} {mask})", x.ty)

        def count(mask: Val) -> Val:
            return f.cast("zext", f.intrinsic("ctpop", f.cast("bitcast", mask, f"i{w}")), "i64")

        def some(i: Val, left: Val) -> list[Val]:
            xs = [self.load(f, self.at(f, a, f.add(i, i64(k * w)))) for k in range(UNROLL)]
            for k, x in enumerate(xs):
                below = f.cmp("slt", x, pivot)
                right = f.sub(f.add(i, i64(k * w)), left)
                self.store(f, packed(x, below), self.at(f, a, left))
                self.store(f, packed(x, f.not_(below)), self.at(f, b, right))
                left = f.add(left, count(below))
            return [left]

        def rest(i: Val, left: Val) -> list[Val]:
            valid = f.mask(f.sub(n, i), w)
            x = f.masked_load(self.vector, self.at(f, a, i), valid, self.bits // 8)
            below = f.and_(f.cmp("slt", x, pivot), valid)
            k = count(below)
            f.masked_store(packed(x, below), self.at(f, a, left), f.mask(k, w), self.bits // 8)
            self.store(f, packed(x, f.and_(f.not_(below), valid)), self.at(f, b, f.sub(i, left)))
            return [f.add(left, k)]

        main = f.and_(n, i64(-w * UNROLL))
        (left,) = f.loop(0, main, some, [i64(0)], step=w * UNROLL)
        return f.loop(main, n, rest, [left], step=w)[0]

    # --- when pivots are bad ------------------------------------------------------------------------------------------
    def heap(self) -> str:
        """Heapsort: never slow, never fast."""
        name = f"sort.i{self.bits}.heap"
        f = self.module.function(name, PARAMS, internal=True, attrs="noinline")
        a, _, n = f.args

        def sink(root: Val, end: Val) -> None:
            """Move the element at `root` down to where it is not below a child."""

            def lower(at: Val, go: Val) -> list[Val]:
                left = f.add(f.mul(at, i64(2)), i64(1))
                right = f.intrinsic("smin", f.add(left, i64(1)), f.sub(end, i64(1)))
                x, y = (f.load(self.ty, self.at(f, a, c)) for c in (left, right))
                child, z = f.select(f.cmp("slt", x, y), right, left), f.intrinsic("smax", x, y)
                own = f.load(self.ty, self.at(f, a, at))
                swap = f.cmp("slt", own, z)
                f.store(f.select(swap, z, own), self.at(f, a, at))
                f.store(f.select(swap, own, z), self.at(f, a, child))
                more = f.cmp("slt", f.add(f.mul(child, i64(2)), i64(1)), end)
                return [child, f.and_(swap, more)]

            some = f.cmp("slt", f.add(f.mul(root, i64(2)), i64(1)), end)
            f.while_([root, some], lambda _, go: go, lower)

        f.loop(0, f.op("sdiv", n, i64(2)), lambda i: sink(f.sub(f.sub(f.op("sdiv", n, i64(2)), i64(1)), i), n))

        def last(i: Val) -> None:
            end = f.sub(f.sub(n, i64(1)), i)
            first, x = f.load(self.ty, a), f.load(self.ty, self.at(f, a, end))
            f.store(x, a)
            f.store(first, self.at(f, a, end))
            sink(i64(0), end)

        f.loop(0, f.sub(n, i64(1)), last)
        f.ret_()
        return name

    # --- all of it ----------------------------------------------------------------------------------------------------
    def driver(self, name: str) -> None:
        networks: list[str] = []
        for c in REGISTERS:
            networks.append(self.short(c, networks[-1] if c > IN_REGISTERS else ""))
        partition, heap, inner = self.partition(), self.heap(), f"{name}.part"
        longest = i64(self.width * REGISTERS[-1])
        f = self.module.function(inner, [*PARAMS, ("budget", "i64")], internal=True, attrs="noinline")
        a, b, n, budget = f.args

        def go_on(_: Val, n: Val, __: Val) -> Val:
            return f.cmp("sgt", n, longest)

        def divide(a: Val, n: Val, budget: Val) -> list[Val]:
            p = self.pivot(f, a, n, networks[REGISTERS.index(SAMPLES)])
            left = f.call(partition, [a, b, n, p], "i64")
            done = f.if_(f.cmp("eq", left, i64(0)), lambda: equal(a, n, p), lambda: both(a, n, left, budget))
            return [*done, f.sub(budget, i64(1))]

        def equal(a: Val, n: Val, p: Val) -> list[Val]:
            """The pivot is the least: those equal to it first."""
            highest = f.cmp("eq", p, const(self.ty, self.top))
            (left,) = f.if_(
                highest, lambda: [n], lambda: [f.call(partition, [a, b, n, f.add(p, const(self.ty, 1))], "i64")]
            )
            return [self.at(f, a, left), f.sub(n, left)]

        def both(a: Val, n: Val, left: Val, budget: Val) -> list[Val]:
            """The shorter part now, the longer one next, so that few calls are open at a time."""
            right, start = f.sub(n, left), self.at(f, a, left)
            less = f.cmp("slt", left, right)
            first, size = f.select(less, a, start), f.intrinsic("smin", left, right)
            f.call(inner, [first, b, size, f.sub(budget, i64(1))])
            return [f.select(less, start, a), f.intrinsic("smax", left, right)]

        def guarded(a: Val, n: Val, budget: Val) -> list[Val]:
            bad = f.cmp("slt", budget, i64(0))

            def slowly() -> list[Val]:
                f.call(heap, [a, b, n])
                return [a, i64(0), budget]

            return f.if_(bad, slowly, lambda: divide(a, n, budget))

        a, n, _ = f.while_([a, n, budget], go_on, guarded)

        def choose(k: int) -> None:
            """The smallest network that is large enough."""

            def use() -> None:
                f.call(networks[k], [a, b, n])

            if k + 1 == len(networks):
                use()
            else:
                f.if_(f.cmp("sle", n, i64(self.width * REGISTERS[k])), use, lambda: choose(k + 1))

        choose(0)
        f.ret_()
        g = self.module.function(name, PARAMS)
        g.call(inner, [*g.args, g.mul(self.log2(g, g.args[2]), i64(2))])
        g.ret_()

    def log2(self, f: Fn, n: Val) -> Val:
        full = self.module.declare("llvm.ctlz.i64", "i64", ["i64", "i1 immarg"])
        return f.sub(i64(64), f.pure(f"call i64 @{full}(i64 {n}, i1 false)", "i64"))
