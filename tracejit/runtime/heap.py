"""The allocator's native code: 64-byte aligned blocks that are kept when they are freed, and NumPy arrays in them.

A block begins with a header of one line, `[next | base | mapped | capacity | class, state]`; the data follows, so
freeing needs no table. Sizes are rounded up to classes, four to each doubling. A freed block goes on its class's list
and is handed out again: its pages are mapped and its lines may still be in a cache, which is worth far more than a
better fit. What the lists hold is bounded; beyond the bound the largest blocks go back to the system.

Blocks from 2 MiB on are mapped at a 2 MiB boundary and ask for huge pages. Blocks of 16 KiB and more begin at
differing distances from a page boundary: arrays at equal distances that are read and written in step make the
processor take a load for dependent on the store before it.
"""

from __future__ import annotations

from tracejit.lower.llvm import NULL, Fn, Module, Val, i64
from tracejit.runtime import layout
from tracejit.runtime.poolwait import COLD, give_way, i32, pause

_LINE = 64
_LIMIT_BITS = 46  # a request above is refused, so that sums of sizes do not overflow
_CLASSES = 8 + 4 * (_LIMIT_BITS - 9)
_HUGE = 2 << 20
_STAGGERED = 16 << 10
_LIVE, _FREE = 0x746A4C49, 0x746A4652

# Offsets in the heap's state. The first line is the lock's.
_COUNTERS = ("cached_bytes", "cached_blocks", "live_bytes", "live_blocks", "allocations", "reused", "limit", "fresh")
AT = {name: 64 + 8 * k for k, name in enumerate(_COUNTERS)}
_HEADS = 128
_SIZE = _HEADS + 8 * _CLASSES

# What the functions for NumPy arrays need from Python and NumPy, each a pointer.
SLOTS = ("PyArray_NewFromDescr", "PyArray_Type", "handler", "Py_IncRef", "PyErr_NoMemory")

# Offsets in a block's header, from its data.
_NEXT, _BASE, _MAPPED, _CAPACITY, _CLASS, _STATE = -64, -56, -48, -40, -32, -28

EXPORTS = (
    "tj_alloc",
    "tj_free",
    "tj_trim",
    "tj_heap_reset",
    "tj_heap",
    "tj_array",
    "tj_numpy",
    "tj_handler_malloc",
    "tj_handler_calloc",
    "tj_handler_realloc",
    "tj_handler_free",
)


class Heap:
    """Writes the allocator's functions for "linux", "posix" or "none" and a processor."""

    def __init__(self, system: str, machine: str) -> None:
        self.linux, self.posix, self.machine = system == "linux", system != "none", machine
        self.module = Module()
        self.state = self.module.global_("tj_heap", f"global [{_SIZE} x i8] zeroinitializer, align {_LINE}")
        self.numpy = self.module.global_("tj_numpy", f"global [{len(SLOTS)} x ptr] zeroinitializer, align 8")

    def text(self) -> str:
        self.wait_for_lock()
        self.reset()
        self.fresh()
        self.release()
        self.alloc()
        self.trim()
        self.overflow()
        self.free()
        self.handler()
        self.array()
        return self.module.text()

    # --- pieces -----------------------------------------------------------------------------------------------
    def counter(self, f: Fn, name: str) -> Val:
        return f.load("i64", f.gep(self.state, AT[name]))

    def count(self, f: Fn, name: str, by: Val) -> None:
        f.store(f.add(self.counter(f, name), by), f.gep(self.state, AT[name]))

    def lock(self, f: Fn) -> None:
        won = f.cas(self.state, i32(0), i32(1), "acquire monotonic")

        def contended() -> None:
            f.call("tj_heap_lock", [])

        f.if_(won, lambda: None, contended)

    def unlock(self, f: Fn) -> None:
        f.atomic_store(i32(0), self.state)

    def wait_for_lock(self) -> None:
        f = self.module.function("tj_heap_lock", [], internal=True, attrs=COLD)

        def test(k: Val) -> Val:
            return f.not_(f.cas(self.state, i32(0), i32(1), "acquire monotonic"))

        def wait(k: Val) -> list[Val]:
            pause(f, self.machine)
            if self.posix:
                give_way(f, k)
            return [f.add(k, i32(1))]

        f.while_([i32(1000)], test, wait)
        f.ret_()

    def reset(self) -> None:
        """After a fork: if another thread was at work in the heap, its lists cannot be trusted, so forget them."""
        f = self.module.function("tj_heap_reset", [], attrs=COLD)
        f.guard(f.cmp("ne", f.atomic_load("i32", self.state), i32(0)), "whole")
        f.loop(0, _CLASSES, lambda k: f.store(NULL, self.list(f, k)))
        f.store(i64(0), f.gep(self.state, AT["cached_bytes"]))
        f.store(i64(0), f.gep(self.state, AT["cached_blocks"]))
        self.unlock(f)
        f.br("whole")
        f.label("whole")
        f.ret_()

    def list(self, f: Fn, number: Val) -> Val:
        return f.gep(f.gep(self.state, _HEADS), f.mul(number, i64(8)))

    def size_class(self, f: Fn, size: Val) -> tuple[Val, Val]:
        """The number and the capacity in bytes of the smallest class that holds `size` (at least 1) bytes."""
        last = f.op("lshr", f.sub(size, i64(1)), i64(6))  # lines, less one
        small = f.cmp("ult", last, i64(8))
        self.module.declare("llvm.ctlz.i64", "i64", ["i64", "i1"])
        zeros = f.pure(f"call i64 @llvm.ctlz.i64(i64 {last}, i1 false)", "i64")
        shift = f.select(small, i64(0), f.sub(i64(61), zeros))
        quarter = f.op("lshr", last, shift)  # 4 to 7, or the lines themselves
        capacity = f.op("shl", f.add(quarter, i64(1)), f.add(shift, i64(6)))
        return f.add(f.mul(shift, i64(4)), quarter), capacity

    def push(self, f: Fn, block: Val) -> None:
        """Put a block on its list. The lock is held."""
        number = f.cast("zext", f.load("i32", f.gep(block, _CLASS)), "i64")
        head = self.list(f, number)
        f.store(f.load("ptr", head), f.gep(block, _NEXT))
        f.store(block, head)
        self.count(f, "cached_bytes", f.load("i64", f.gep(block, _CAPACITY)))
        self.count(f, "cached_blocks", i64(1))

    def pop(self, f: Fn, number: Val, capacity: Val) -> Val:
        """Take the first block of a list; null if it is empty. The lock is held."""
        head = self.list(f, number)
        block = f.load("ptr", head)

        def take() -> None:
            f.store(f.load("ptr", f.gep(block, _NEXT)), head)
            self.count(f, "cached_bytes", f.sub(i64(0), capacity))
            self.count(f, "cached_blocks", i64(-1))

        f.if_(f.cmp("ne", block, NULL), take)
        return block

    # --- the system's memory ----------------------------------------------------------------------------------
    def fresh(self) -> None:
        """A new block from the system, or null."""
        f = self.module.function("tj_fresh", [("number", "i64"), ("capacity", "i64")], "ptr", internal=True, attrs=COLD)
        number, capacity = f.args
        turn = f.atomic_rmw("add", f.gep(self.state, AT["fresh"]), i64(1), "monotonic")

        def heap() -> list[Val]:
            step = f.mul(f.and_(turn, i64(63)), i64(17 * _LINE))
            shift = f.select(f.cmp("ult", capacity, i64(_STAGGERED)), i64(0), f.and_(step, i64(4095)))
            base = f.call("malloc", [f.add(f.add(capacity, shift), i64(2 * _LINE))], "ptr", declare=True)
            start = f.and_(f.add(f.cast("ptrtoint", base, "i64"), i64(2 * _LINE - 1)), i64(-_LINE))
            return [base, i64(0), f.add(start, shift)]

        def mapped() -> list[Val]:
            offset = f.add(f.mul(f.and_(turn, i64(15)), i64(4096 + 17 * _LINE)), i64(_LINE))
            base, length = self.map(f, f.add(capacity, offset))
            return [base, length, f.add(f.cast("ptrtoint", base, "i64"), offset)]

        if self.linux:
            base, length, start = f.if_(f.cmp("ult", capacity, i64(_HUGE)), heap, mapped)
        else:
            base, length, start = heap()
        f.guard(f.cmp("ne", base, NULL), "failed")
        block = f.cast("inttoptr", start, "ptr")
        for v, offset in ((base, _BASE), (length, _MAPPED), (capacity, _CAPACITY)):
            f.store(v, f.gep(block, offset))
        f.store(f.cast("trunc", number, "i32"), f.gep(block, _CLASS))
        f.ret_(block)
        f.label("failed")
        f.ret_(NULL)

    def map(self, f: Fn, size: Val) -> tuple[Val, Val]:
        """Map `size` bytes from a 2 MiB boundary on; the start (null if there is no memory) and the length."""
        # A short rest after the last boundary stays in small pages, since a huge one would be mostly waste.
        rest = f.and_(size, i64(_HUGE - 1))
        unit = f.select(f.cmp("ult", rest, i64(_HUGE // 2)), i64(4096), i64(_HUGE))
        length = f.and_(f.add(size, f.sub(unit, i64(1))), f.sub(i64(0), unit))
        whole = f.add(length, i64(_HUGE))
        # read and write; private and anonymous
        args = [NULL, whole, i32(3), i32(0x22), i32(-1), i64(0)]
        got = f.cast("ptrtoint", f.call("mmap", args, "ptr", declare=True), "i64")

        def fit() -> list[Val]:
            start = f.and_(f.add(got, i64(_HUGE - 1)), i64(-_HUGE))
            before = f.sub(start, got)
            self.unmap(f, got, before)
            self.unmap(f, f.add(start, length), f.sub(i64(_HUGE), before))
            base = f.cast("inttoptr", start, "ptr")
            f.call("madvise", [base, length, i32(14)], "i32", declare=True)  # MADV_HUGEPAGE
            return [base]

        return f.if_(f.cmp("ne", got, i64(-1)), fit, lambda: [NULL])[0], length

    def unmap(self, f: Fn, start: Val, length: Val) -> None:
        def call() -> None:
            f.call("munmap", [f.cast("inttoptr", start, "ptr"), length], "i32", declare=True)

        f.if_(f.cmp("ne", length, i64(0)), call)

    def release(self) -> None:
        """Give a block back to the system."""
        f = self.module.function("tj_release", [("block", "ptr")], internal=True, attrs=COLD)
        base = f.load("ptr", f.gep(f.args[0], _BASE))
        length = f.load("i64", f.gep(f.args[0], _MAPPED))

        def free() -> None:
            f.call("free", [base], declare=True)

        def unmap() -> None:
            f.call("munmap", [base, length], "i32", declare=True)

        if self.linux:
            f.if_(f.cmp("eq", length, i64(0)), free, unmap)
        else:
            free()
        f.ret_()

    # --- allocate and free ------------------------------------------------------------------------------------
    def alloc(self) -> None:
        f = self.module.function("tj_alloc", [("bytes", "i64")], "ptr")
        size = f.intrinsic("umax", f.args[0], i64(1))
        f.guard(f.cmp("ule", size, i64(1 << _LIMIT_BITS)), "failed")
        number, capacity = self.size_class(f, size)
        self.lock(f)
        kept = self.pop(f, number, capacity)
        have = f.cmp("ne", kept, NULL)
        self.count(f, "reused", f.cast("zext", have, "i64"))
        self.count(f, "allocations", i64(1))
        self.count(f, "live_bytes", capacity)
        self.count(f, "live_blocks", i64(1))
        self.unlock(f)

        def slow() -> list[Val]:
            first = f.call("tj_fresh", [number, capacity], "ptr")
            return f.if_(f.cmp("eq", first, NULL), retry, lambda: [first])

        def retry() -> list[Val]:
            f.call("tj_trim", [i64(0)])
            return [f.call("tj_fresh", [number, capacity], "ptr")]

        (block,) = f.if_(have, lambda: [kept], slow)
        f.guard(f.cmp("ne", block, NULL), "undo")
        f.store(i32(_LIVE), f.gep(block, _STATE))
        f.ret_(block)
        f.label("undo")
        self.lock(f)
        self.count(f, "live_bytes", f.sub(i64(0), capacity))
        self.count(f, "live_blocks", i64(-1))
        self.unlock(f)
        f.br("failed")
        f.label("failed")
        f.ret_(NULL)

    def free(self) -> None:
        f = self.module.function("tj_free", [("block", "ptr")])
        (block,) = f.args
        f.guard(f.cmp("ne", block, NULL), "nothing")
        # Freeing twice, or a pointer from elsewhere, would corrupt data much later: stop here instead.
        f.guard(f.cmp("eq", f.load("i32", f.gep(block, _STATE)), i32(_LIVE)), "wrong")
        f.store(i32(_FREE), f.gep(block, _STATE))
        capacity = f.load("i64", f.gep(block, _CAPACITY))
        self.lock(f)
        self.count(f, "live_bytes", f.sub(i64(0), capacity))
        self.count(f, "live_blocks", i64(-1))
        fits = f.cmp("ule", f.add(self.counter(f, "cached_bytes"), capacity), self.counter(f, "limit"))
        f.if_(fits, lambda: self.push(f, block))
        self.unlock(f)
        f.guard(fits, "full")
        f.br("nothing")
        f.label("full")
        f.call("tj_overflow", [block])
        f.br("nothing")
        f.label("nothing")
        f.ret_()
        f.label("wrong")
        f.call("abort", [], declare=True)
        f.line("unreachable")

    def overflow(self) -> None:
        """Free a block for which the lists have no room: make room, since the newest is the likeliest to be used."""
        f = self.module.function("tj_overflow", [("block", "ptr")], internal=True, attrs=COLD)
        (block,) = f.args
        capacity = f.load("i64", f.gep(block, _CAPACITY))
        limit = self.counter(f, "limit")

        def keep() -> None:
            f.call("tj_trim", [f.op("lshr", limit, i64(1))])
            self.lock(f)
            self.push(f, block)
            self.unlock(f)

        def let_go() -> None:
            f.call("tj_release", [block])

        f.if_(f.cmp("ule", capacity, f.op("lshr", limit, i64(1))), keep, let_go)
        f.ret_()

    def trim(self) -> None:
        """Give kept blocks back to the system, the largest first, until at most `keep` bytes are left."""
        f = self.module.function("tj_trim", [("keep", "i64")], attrs=COLD)
        (keep,) = f.args

        def one_class(k: Val) -> None:
            number = f.sub(i64(_CLASSES - 1), k)

            def take(_: Val) -> list[Val]:
                self.lock(f)
                head = f.load("ptr", self.list(f, number))
                over = f.cmp("ugt", self.counter(f, "cached_bytes"), keep)
                some = f.and_(f.cmp("ne", head, NULL), over)

                def pop() -> list[Val]:
                    return [self.pop(f, number, f.load("i64", f.gep(head, _CAPACITY)))]

                (block,) = f.if_(some, pop, lambda: [NULL])
                self.unlock(f)

                def give() -> None:
                    f.call("tj_release", [block])

                f.if_(f.cmp("ne", block, NULL), give)
                return [block]

            f.while_([self.state], lambda block: f.cmp("ne", block, NULL), take)

        f.loop(0, _CLASSES, one_class)
        f.ret_()

    # --- NumPy ------------------------------------------------------------------------------------------------
    def handler(self) -> None:
        """The four functions of NumPy's PyDataMemAllocator."""
        f = self.module.function("tj_handler_malloc", [("ctx", "ptr"), ("size", "i64")], "ptr", attrs=COLD)
        f.ret_(f.call("tj_alloc", [f.args[1]], "ptr"))

        f = self.module.function("tj_handler_free", [("ctx", "ptr"), ("block", "ptr"), ("size", "i64")], attrs=COLD)
        f.call("tj_free", [f.args[1]])
        f.ret_()

        params = [("ctx", "ptr"), ("count", "i64"), ("each", "i64")]
        f = self.module.function("tj_handler_calloc", params, "ptr", attrs=COLD)
        name = self.module.declare("llvm.umul.with.overflow.i64", "{ i64, i1 }", ["i64", "i64"])
        product = f.emit(f"call {{ i64, i1 }} @{name}(i64 {f.args[1]}, i64 {f.args[2]})", "{ i64, i1 }")
        size = f.emit(f"extractvalue {product.ty} {product}, 0", "i64")
        f.guard(f.not_(f.emit(f"extractvalue {product.ty} {product}, 1", "i1")), "failed")
        block = f.call("tj_alloc", [size], "ptr")
        f.guard(f.cmp("ne", block, NULL), "failed")
        f.call("memset", [block, i32(0), size], "ptr", declare=True)
        f.ret_(block)
        f.label("failed")
        f.ret_(NULL)

        params = [("ctx", "ptr"), ("old", "ptr"), ("size", "i64")]
        f = self.module.function("tj_handler_realloc", params, "ptr", attrs=COLD)
        self.reallocate(f, f.args[1], f.args[2])

    def reallocate(self, f: Fn, old: Val, size: Val) -> None:
        f.guard(f.cmp("ne", old, NULL), "first")
        capacity = f.load("i64", f.gep(old, _CAPACITY))
        stays = f.and_(f.cmp("ule", size, capacity), f.cmp("ugt", size, f.op("lshr", capacity, i64(2))))
        f.guard(f.not_(stays), "same")
        new = f.call("tj_alloc", [size], "ptr")
        f.guard(f.cmp("ne", new, NULL), "failed")
        f.call("memcpy", [new, old, f.intrinsic("umin", size, capacity)], "ptr", declare=True)
        f.call("tj_free", [old])
        f.ret_(new)
        f.label("same")
        f.ret_(old)
        f.label("failed")
        f.ret_(NULL)
        f.label("first")
        f.ret_(f.call("tj_alloc", [size], "ptr"))

    def slot(self, f: Fn, name: str) -> Val:
        return f.load("ptr", f.gep(self.numpy, 8 * SLOTS.index(name)))

    def array(self) -> None:
        """`tj_array(descr, nd, dims, bytes)`: a C-contiguous ndarray with its own block, or null and an exception."""
        params = [("descr", "ptr"), ("nd", "i32"), ("dims", "ptr"), ("bytes", "i64")]
        f = self.module.function("tj_array", params, "ptr")
        descr, nd, dims, size = f.args
        data = f.call("tj_alloc", [size], "ptr")
        f.guard(f.cmp("ne", data, NULL), "full")
        f.call(self.slot(f, "Py_IncRef"), [descr])
        flags = i32(layout.C_CONTIGUOUS | layout.ALIGNED | layout.WRITEABLE)
        args = [self.slot(f, "PyArray_Type"), descr, nd, dims, NULL, data, flags, NULL]
        array = f.call(self.slot(f, "PyArray_NewFromDescr"), args, "ptr")
        f.guard(f.cmp("ne", array, NULL), "failed")
        handler = self.slot(f, "handler")
        f.call(self.slot(f, "Py_IncRef"), [handler])
        f.store(handler, f.gep(array, layout.ARRAY_HANDLER))
        at = f.gep(array, layout.ARRAY_FLAGS)
        f.store(f.or_(f.load("i32", at), i32(layout.OWNDATA)), at)
        f.ret_(array)
        f.label("full")
        f.ret_(f.call(self.slot(f, "PyErr_NoMemory"), [], "ptr"))
        f.label("failed")
        f.call("tj_free", [data])
        f.ret_(NULL)
