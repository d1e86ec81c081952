"""The thread pool's native code: a kernel's tasks run on several threads, and the launch returns when all are done.

A launch divides the chunks of tasks into one range per thread and publishes the ranges, one 64-bit word each:
`first << 32 | end`. A thread takes chunks from the front of its own range and, when that is empty, from the back of the
others', always by compare-and-swap. So the same thread gets the same tasks launch after launch, as long as nobody is
late, and the caller waits only for chunks that another thread has taken, never for a thread that sleeps or was not
given a processor. A word needs no launch number: a successful swap has taken a chunk of the launch that is under way,
however old the value that was expected, and everything else about a launch is read after the swap and stays as it is
until the chunk is reported done.
"""

from __future__ import annotations

import signal

from tracejit.lower.llvm import NULL, Fn, Val, i64
from tracejit.runtime.poolwait import (
    ADJUSTED,
    BUSY,
    CHUNK,
    COLD,
    CONDITION,
    DONE,
    EPOCH,
    FN,
    FPMODE,
    FRAME,
    GETTID,
    HANDLES,
    IDX,
    KEPT_OFF,
    LIVE,
    MAX_THREADS,
    MUTEX,
    QUIT,
    RANGES,
    SLEEPERS,
    SPIN,
    STACK,
    TID,
    WAKE,
    WANTED,
    N,
    Waiting,
    give_way,
    i32,
    pause,
)

EXPORTS = ("tj_parallel", "tj_pool_threads", "tj_pool_start", "tj_pool_stop", "tj_pool_reset")


class Pool(Waiting):
    """Writes the pool's functions for one operating system ("linux", "posix" or "none") and processor."""

    def text(self) -> str:
        if self.system == "none":
            self.without_threads()
            return self.module.text()
        self.drain()
        self.work()
        self.sleep()
        if self.system == "linux":
            self.keep_off()
        self.wake()
        self.worker()
        self.stop_workers()
        self.start_workers()
        self.publish()
        self.parallel()
        self.control()
        return self.module.text()

    # --- chunks ---------------------------------------------------------------------------------------------
    def fpmode(self, f: Fn, restore: bool) -> None:
        """Rounding and denormals as the caller has them, in every thread: results must not depend on who computes."""
        if self.machine in ("x86_64", "AMD64"):
            f.call(f"llvm.x86.sse.{'ld' if restore else 'st'}mxcsr", [self.at(f, FPMODE)], declare=True)
        elif self.machine in ("aarch64", "arm64"):
            if restore:
                f.call("llvm.aarch64.set.fpcr", [f.load("i64", self.at(f, FPMODE))], declare=True)
            else:
                f.store(f.call("llvm.aarch64.get.fpcr", [], "i64", declare=True), self.at(f, FPMODE))

    def work(self) -> None:
        """Run chunks as thread `self` until every range is empty; the result is how many. The caller is thread 0."""
        f = self.module.function("tj_work", [("self", "i64")], "i64", internal=True)
        (me,) = f.args
        ranges = self.get(f, RANGES, "i64")
        first = f.select(f.cmp("ult", me, ranges), me, i64(0))

        def scan(k: Val, total: Val) -> list[Val]:
            at = f.add(first, k)
            thread = f.select(f.cmp("ult", at, ranges), at, f.sub(at, ranges))
            ran = f.call("tj_drain", [self.word(f, thread), f.cmp("eq", thread, me)], "i64")

            def report() -> None:
                f.atomic_rmw("add", self.at(f, DONE), ran, "release")

            f.if_(f.and_(f.cmp("ne", ran, i64(0)), f.cmp("ne", me, i64(0))), report)
            return [f.add(total, ran)]

        f.ret_(f.loop(0, ranges, scan, [i64(0)])[0])

    def drain(self) -> None:
        """Run chunks of one range until it is empty, from the front if it is the thread's own; how many."""
        f = self.module.function("tj_drain", [("word", "ptr"), ("own", "i1")], "i64", internal=True)
        word, own = f.args
        step = f.select(own, i64(1 << 32), i64(-1))

        def left(seen: Val, _: Val) -> Val:
            return f.cmp("ult", f.op("lshr", seen, i64(32)), f.and_(seen, i64(0xFFFFFFFF)))

        def take(seen: Val, ran: Val) -> list[Val]:
            won = f.cas(word, seen, f.add(seen, step))
            end = f.sub(f.and_(seen, i64(0xFFFFFFFF)), i64(1))
            chunk = f.select(own, f.op("lshr", seen, i64(32)), end)
            f.if_(won, lambda: self.run_chunk(f, chunk))
            return [f.atomic_load("i64", word), f.add(ran, f.cast("zext", won, "i64"))]

        f.ret_(f.while_([f.atomic_load("i64", word), i64(0)], left, take)[1])

    def run_chunk(self, f: Fn, index: Val) -> None:
        self.fpmode(f, restore=True)
        n, chunk = f.load("i64", self.at(f, N)), f.load("i64", self.at(f, CHUNK))
        lo = f.mul(index, chunk)
        hi = f.add(lo, f.intrinsic("umin", f.sub(n, lo), chunk))
        fn, frame, idx = (f.load("ptr", self.at(f, k)) for k in (FN, FRAME, IDX))
        f.call(fn, [frame, idx, lo, hi])

    # --- workers ----------------------------------------------------------------------------------------------
    def worker(self) -> None:
        """A worker's life: `arg` is its number and, in the upper half, the launch number when it was made."""
        f = self.module.function("tj_worker", [("arg", "ptr")], "ptr", internal=True, attrs=COLD)
        arg = f.cast("ptrtoint", f.args[0], "i64")
        me = f.and_(arg, i64(0xFFFFFFFF))
        born = f.cast("trunc", f.op("lshr", arg, i64(32)), "i32")

        def stay(_: Val) -> Val:
            return f.cmp("eq", self.get(f, QUIT, order="acquire"), i32(0))

        def serve(seen: Val) -> list[Val]:
            f.call("tj_work", [me], "i64")
            return [f.call("tj_sleep", [me, seen], "i32")]

        if self.system == "linux":
            f.store(f.cast("trunc", self.syscall(f, GETTID[self.machine]), "i32"), self.place(f, me, TID))
        f.while_([f.call("tj_sleep", [me, born], "i32")], stay, serve)
        f.ret_(NULL)

    def stop_workers(self) -> None:
        """End every worker and wait for it. The caller holds the pool."""
        f = self.module.function("tj_stop_workers", [], internal=True, attrs=COLD)
        live = self.get(f, LIVE)
        self.put(f, QUIT, i32(1), "release")
        f.call("tj_wake", [i32(MAX_THREADS)])
        if self.system == "linux":
            self.futex(f, 129, i32(0x7FFFFFFF))

        def join(k: Val) -> None:
            handle = f.load("i64", f.gep(self.at(f, HANDLES), f.mul(k, i64(8))))
            f.call("pthread_join", [handle, NULL], "i32", declare=True)

        f.loop(0, f.cast("zext", live, "i64"), join)
        self.put(f, QUIT, i32(0))
        self.put(f, LIVE, i32(0))
        f.ret_()

    def start_workers(self) -> None:
        """Have as many workers as are wanted, or as the system gives. The caller holds the pool."""
        f = self.module.function("tj_start_workers", [("wanted", "i32")], internal=True, attrs=COLD)
        (wanted,) = f.args
        self.call_if(f, f.cmp("sle", wanted, self.get(f, LIVE)), "tj_stop_workers")
        live = self.get(f, LIVE)
        if self.system == "posix":
            f.if_(f.cmp("eq", live, i32(0)), lambda: self.init_condition(f))
        attributes, mask, old = f.alloca(256), f.alloca(128), f.alloca(128)
        f.call("pthread_attr_init", [attributes], "i32", declare=True)
        f.call("pthread_attr_setstacksize", [attributes, i64(STACK)], "i32", declare=True)
        self.block_signals(f, mask, old)
        base = f.op("shl", f.cast("zext", self.get(f, EPOCH), "i64"), i64(32))

        def more(k: Val, failed: Val) -> Val:
            return f.and_(f.cmp("slt", k, wanted), f.cmp("eq", failed, i32(0)))

        def create(k: Val, _: Val) -> list[Val]:
            number = f.cast("zext", k, "i64")
            arg = f.cast("inttoptr", f.or_(base, number), "ptr")
            f.store(i64(0), self.place(f, number, TID))
            f.store(i64(0), self.place(f, number, KEPT_OFF))
            handle = f.gep(self.at(f, HANDLES), f.mul(f.sub(number, i64(1)), i64(8)))
            failed = f.call("pthread_create", [handle, attributes, Val("@tj_worker", "ptr"), arg], "i32", declare=True)
            return [f.select(f.cmp("eq", failed, i32(0)), f.add(k, i32(1)), k), failed]

        count, _ = f.while_([f.add(live, i32(1)), i32(0)], more, create)
        f.call("pthread_sigmask", [i32(int(getattr(signal, "SIG_SETMASK", 2))), old, NULL], "i32", declare=True)
        f.call("pthread_attr_destroy", [attributes], "i32", declare=True)
        self.put(f, LIVE, f.sub(count, i32(1)))
        self.put(f, ADJUSTED, wanted)
        f.ret_()

    def init_condition(self, f: Fn) -> None:
        f.call("pthread_mutex_init", [self.at(f, MUTEX), NULL], "i32", declare=True)
        f.call("pthread_cond_init", [self.at(f, CONDITION), NULL], "i32", declare=True)

    def block_signals(self, f: Fn, mask: Val, old: Val) -> None:
        """Workers are made with all signals blocked but their own faults: handlers belong to Python's threads."""
        own = (signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, getattr(signal, "SIGBUS", 7))
        faults = sum(1 << (int(s) - 1) for s in own)
        for k in range(16):
            f.store(i64(~faults if k == 0 else -1), f.gep(mask, 8 * k))
        f.call("pthread_sigmask", [i32(int(getattr(signal, "SIG_SETMASK", 2))), mask, old], "i32", declare=True)

    # --- launching --------------------------------------------------------------------------------------------
    def publish(self) -> None:
        """Write the launch's description, then its ranges; the result is the number of chunks."""
        params = [("fn", "ptr"), ("frame", "ptr"), ("idx", "ptr"), ("n", "i64"), ("chunk", "i64")]
        f = self.module.function("tj_publish", params, "i64", internal=True)
        fn, frame, idx, n, chunk = f.args
        last = f.sub(n, i64(1))
        # Chunk numbers have 32 bits, and nobody needs more than a million chunks: join them.
        joined = f.mul(chunk, f.add(f.op("lshr", f.op("udiv", last, chunk), i64(20)), i64(1)))
        chunks = f.add(f.op("udiv", last, joined), i64(1))
        threads = f.cast("zext", f.add(self.get(f, LIVE), i32(1)), "i64")
        ranges = f.intrinsic("umin", threads, chunks)
        for offset, v in ((FN, fn), (FRAME, frame), (IDX, idx), (N, n), (CHUNK, joined)):
            f.store(v, self.at(f, offset))
        self.fpmode(f, restore=False)
        self.put(f, DONE, i64(0))
        self.put(f, RANGES, ranges)
        size, rest = f.op("udiv", chunks, ranges), f.op("urem", chunks, ranges)

        def write(k: Val, first: Val) -> list[Val]:
            longer = f.cast("zext", f.cmp("ult", k, rest), "i64")
            end = f.add(first, f.add(size, longer))
            f.atomic_store(f.or_(f.op("shl", first, i64(32)), end), self.word(f, k))
            return [end]

        f.loop(0, ranges, write, [i64(0)])
        f.call("tj_wake", [f.cast("trunc", f.sub(ranges, i64(1)), "i32")])
        f.ret_(chunks)

    def parallel(self) -> None:
        params = [("fn", "ptr"), ("frame", "ptr"), ("idx", "ptr"), ("n", "i64"), ("chunk", "i64")]
        f = self.module.function("tj_parallel", params)
        fn, frame, idx, n, chunk = f.args
        chunk = f.intrinsic("smax", chunk, i64(1))
        f.guard(f.cmp("sgt", n, chunk), "alone")
        wanted = self.get(f, WANTED)
        f.guard(f.cmp("sgt", wanted, i32(1)), "alone")
        f.guard(f.cas(self.at(f, BUSY), i32(0), i32(1), "acquire monotonic"), "alone")
        self.call_if(f, f.cmp("ne", self.get(f, ADJUSTED), wanted), "tj_start_workers", wanted)
        chunks = f.call("tj_publish", [fn, frame, idx, n, chunk], "i64")
        others = f.sub(chunks, f.call("tj_work", [i64(0)], "i64"))

        def wait(_: Val, k: Val) -> list[Val]:
            pause(f, self.machine)
            give_way(f, k)
            return [self.get(f, DONE, "i64", "acquire"), f.add(k, i32(1))]

        f.while_([self.get(f, DONE, "i64", "acquire"), i32(0)], lambda done, _: f.cmp("ne", done, others), wait)
        self.put(f, BUSY, i32(0), "release")
        f.ret_()
        f.label("alone")
        f.guard(f.cmp("sgt", n, i64(0)), "nothing")
        f.call(fn, [frame, idx, i64(0), n])
        f.br("nothing")
        f.label("nothing")
        f.ret_()

    def control(self) -> None:
        """What Python calls: set the number of threads; start or stop workers (1 if done, 0 if the pool is in use)."""
        f = self.module.function("tj_pool_threads", [("wanted", "i32"), ("spin", "i32")], attrs=COLD)
        self.put(f, WANTED, f.args[0])
        self.put(f, SPIN, f.args[1])
        f.ret_()
        for name in ("tj_pool_start", "tj_pool_stop"):
            f = self.module.function(name, [], "i32", attrs=COLD)
            f.guard(f.cas(self.at(f, BUSY), i32(0), i32(1), "acquire monotonic"), "busy")
            if name == "tj_pool_start":
                f.call("tj_start_workers", [self.get(f, WANTED)])
            else:
                f.call("tj_stop_workers", [])
                self.put(f, ADJUSTED, i32(0))
            self.put(f, BUSY, i32(0), "release")
            f.ret_(i32(1))
            f.label("busy")
            f.ret_(i32(0))
        self.reset()

    def reset(self) -> None:
        """Forget workers and any launch: they are the parent's, and this is the child of a fork."""
        f = self.module.function("tj_pool_reset", [], attrs=COLD)
        f.loop(0, f.cast("zext", f.add(self.get(f, LIVE), i32(1)), "i64"), lambda k: f.store(i64(0), self.word(f, k)))
        for offset in (BUSY, EPOCH, SLEEPERS, WAKE, ADJUSTED, LIVE, QUIT):
            self.put(f, offset, i32(0))
        f.ret_()

    def without_threads(self) -> None:
        params = [("fn", "ptr"), ("frame", "ptr"), ("idx", "ptr"), ("n", "i64"), ("chunk", "i64")]
        f = self.module.function("tj_parallel", params)
        f.guard(f.cmp("sgt", f.args[3], i64(0)), "nothing")
        f.call(f.args[0], [f.args[1], f.args[2], i64(0), f.args[3]])
        f.br("nothing")
        f.label("nothing")
        f.ret_()
        self.module.function("tj_pool_threads", [("wanted", "i32"), ("spin", "i32")]).ret_()
        self.module.function("tj_pool_reset", []).ret_()
        for name in ("tj_pool_start", "tj_pool_stop"):
            self.module.function(name, [], "i32").ret_(i32(1))
