"""How the thread pool's workers wait for a launch and are woken, and the state that all its functions share.

Workers wait for the launch number to change: for a while in a loop, then asleep (a futex on Linux, a condition variable
on other POSIX systems). Elsewhere everything runs in the calling thread. Linux may wake a thread on the processor of
the one that wakes it although another is idle (in virtual machines an idle one looks as if it had been taken away), and
there it would run only after the launch. So sleeping workers are kept off the processor that the caller is on.
"""

from __future__ import annotations

from tracejit.lower.llvm import Fn, Module, Val, const, i64

MAX_THREADS = 1024
LINE = 128  # processors fetch lines of 64 bytes in pairs
STACK = 8 << 20
FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
GETTID = {"x86_64": 186, "aarch64": 178, "riscv64": 178}

# Offsets in the pool's state; what different threads write lies in different lines.
BUSY, EPOCH, SLEEPERS, DONE, WAKE, JOB, CONTROL = (k * LINE for k in range(7))
FN, FRAME, IDX, N, CHUNK, RANGES, FPMODE = (JOB + 8 * k for k in range(7))
WANTED, ADJUSTED, LIVE, QUIT, SPIN = (CONTROL + 4 * k for k in range(5))
MUTEX, CONDITION = 7 * LINE, 8 * LINE
WORDS = 9 * LINE
HANDLES = WORDS + MAX_THREADS * LINE
PLACES = HANDLES + MAX_THREADS * 8
SIZE = PLACES + MAX_THREADS * 16
# In a worker's place: its thread id, whether it sleeps, and the processor that it is kept off (plus 1; 0 is none).
TID, ASLEEP, KEPT_OFF = 0, 4, 8
MASK = 1024  # bytes in a set of processors

# Functions off the path of a launch: compiled plainly, which takes a fraction of the time.
COLD = "noinline optnone"


def i32(value: int) -> Val:
    return const("i32", value)


def pause(f: Fn, machine: str) -> None:
    """Tell the processor that this is a waiting loop."""
    if machine in ("x86_64", "AMD64"):
        f.call("llvm.x86.sse2.pause", [], declare=True)
    elif machine in ("aarch64", "arm64"):
        f.call("llvm.aarch64.hint", [i32(1)], declare=True)


def give_way(f: Fn, k: Val) -> None:
    """In round `k` (i32) of a waiting loop: let another thread run, once in 1024 rounds."""

    def give() -> None:
        f.call("sched_yield", [], "i32", declare=True)

    f.if_(f.cmp("eq", f.and_(k, i32(1023)), i32(1023)), give)


class Waiting:
    """Writes the functions that wait and wake, for an operating system ("linux", "posix") and a processor."""

    def __init__(self, system: str, machine: str) -> None:
        self.system, self.machine = system, machine
        self.module = Module()
        self.state = self.module.global_("tj_pool", f"internal global [{SIZE} x i8] zeroinitializer, align {LINE}")

    # --- pieces -----------------------------------------------------------------------------------------------
    def at(self, f: Fn, offset: int) -> Val:
        return f.gep(self.state, offset)

    def get(self, f: Fn, offset: int, ty: str = "i32", order: str = "monotonic") -> Val:
        return f.atomic_load(ty, self.at(f, offset), order)

    def put(self, f: Fn, offset: int, v: Val, order: str = "monotonic") -> None:
        f.atomic_store(v, self.at(f, offset), order)

    def call_if(self, f: Fn, condition: Val, name: str, *args: Val) -> None:
        def call() -> None:
            f.call(name, args)

        f.if_(condition, call)

    def word(self, f: Fn, thread: Val) -> Val:
        return f.gep(f.gep(self.state, WORDS), f.mul(thread, i64(LINE)))

    def futex(self, f: Fn, operation: int, value: Val) -> None:
        args = f", ptr {self.at(f, EPOCH)}, i32 {operation}, i32 {value}, ptr null, ptr null, i32 0"
        self.syscall(f, FUTEX[self.machine], args)

    def syscall(self, f: Fn, number: int, args: str = "") -> Val:
        self.module.declarations.setdefault("syscall", "declare i64 @syscall(i64, ...)")
        return f.emit(f"call i64 (i64, ...) @syscall(i64 {number}{args})", "i64")

    def place(self, f: Fn, worker: Val, field: int) -> Val:
        return f.gep(f.gep(self.at(f, PLACES), f.mul(worker, i64(16))), field)

    # --- waiting ----------------------------------------------------------------------------------------------
    def sleep(self) -> None:
        """Wait until the launch number is not `last`; the result is the new one."""
        f = self.module.function("tj_sleep", [("self", "i64"), ("last", "i32")], "i32", internal=True, attrs=COLD)
        me, last = f.args

        def spin(seen: Val, k: Val) -> list[Val]:
            pause(f, self.machine)
            return [self.get(f, EPOCH, order="acquire"), f.sub(k, i32(1))]

        def waiting(seen: Val, k: Val) -> Val:
            return f.and_(f.cmp("eq", seen, last), f.cmp("sgt", k, i32(0)))

        seen, _ = f.while_([self.get(f, EPOCH, order="acquire"), self.get(f, SPIN)], waiting, spin)
        f.guard(f.cmp("eq", seen, last), "awake")
        if self.system == "linux":
            f.atomic_store(i32(1), self.place(f, me, ASLEEP))
        f.atomic_rmw("add", self.at(f, SLEEPERS), i32(1), "seq_cst")
        if self.system == "linux":
            self.sleep_futex(f, last)
        else:
            self.sleep_condition(f, last)
        f.atomic_rmw("sub", self.at(f, SLEEPERS), i32(1), "seq_cst")
        if self.system == "linux":
            f.atomic_store(i32(0), self.place(f, me, ASLEEP))
            self.pass_on(f)
        f.br("awake")
        f.label("awake")
        f.ret_(self.get(f, EPOCH, order="acquire"))

    def sleep_futex(self, f: Fn, last: Val) -> None:
        def wait(_: Val) -> list[Val]:
            self.futex(f, 128, last)  # FUTEX_WAIT, private to the process
            return [self.get(f, EPOCH, order="acquire")]

        f.while_([self.get(f, EPOCH, order="seq_cst")], lambda seen: f.cmp("eq", seen, last), wait)

    def sleep_condition(self, f: Fn, last: Val) -> None:
        mutex, condition = self.at(f, MUTEX), self.at(f, CONDITION)

        def wait(_: Val) -> list[Val]:
            f.call("pthread_cond_wait", [condition, mutex], "i32", declare=True)
            return [self.get(f, EPOCH, order="acquire")]

        f.call("pthread_mutex_lock", [mutex], "i32", declare=True)
        f.while_([self.get(f, EPOCH, order="seq_cst")], lambda seen: f.cmp("eq", seen, last), wait)
        f.call("pthread_mutex_unlock", [mutex], "i32", declare=True)

    def pass_on(self, f: Fn) -> None:
        """A woken worker wakes two more: waking many from the caller would hold up the launch."""
        budget = self.get(f, WAKE)

        def more() -> None:
            before = f.atomic_rmw("sub", self.at(f, WAKE), i32(2), "monotonic")
            f.if_(f.cmp("sgt", before, i32(0)), lambda: self.futex(f, 129, f.intrinsic("smin", before, i32(2))))

        f.if_(f.cmp("sgt", budget, i32(0)), more)

    def processor_in_set(self, f: Fn, mask: Val, processor: Val) -> tuple[Val, Val]:
        """Where a processor (plus 1) is in a set: its byte and its bit."""
        n = f.sub(processor, i32(1))
        bit = f.op("shl", i32(1), f.and_(n, i32(7)))
        return f.gep(mask, f.cast("zext", f.op("lshr", n, i32(3)), "i64")), f.cast("trunc", bit, "i8")

    def keep_off(self) -> None:
        """Take the caller's processor from the set of those on which a sleeping worker may run, and give back the last
        one taken. Some calls of the system each, hence for few workers in one launch."""
        f = self.module.function("tj_keep_off", [], internal=True, attrs=COLD)
        here = f.add(f.call("sched_getcpu", [], "i32", declare=True), i32(1))
        f.guard(f.cmp("sgt", here, i32(0)), "unknown")
        size, mask = i64(MASK), f.alloca(MASK)

        def move(worker: Val) -> list[Val]:
            tid, note = f.load("i32", self.place(f, worker, TID)), self.place(f, worker, KEPT_OFF)
            got = f.call("sched_getaffinity", [tid, size, mask], "i32", declare=True)
            f.if_(f.cmp("eq", got, i32(0)), lambda: self.exclude(f, tid, note, mask, here))
            return [i64(1)]

        def one(k: Val, moved: Val) -> list[Val]:
            worker = f.add(k, i64(1))
            asleep = f.cmp("ne", f.atomic_load("i32", self.place(f, worker, ASLEEP)), i32(0))
            free = f.cmp("ne", f.load("i32", self.place(f, worker, KEPT_OFF)), here)
            due = f.and_(f.and_(asleep, free), f.cmp("slt", moved, i64(8)))
            return [f.add(moved, f.if_(due, lambda: move(worker), lambda: [i64(0)])[0])]

        f.loop(0, f.cast("zext", self.get(f, LIVE), "i64"), one, [i64(0)])
        f.br("unknown")
        f.label("unknown")
        f.ret_()

    def exclude(self, f: Fn, tid: Val, note: Val, mask: Val, here: Val) -> None:
        before = f.load("i32", note)

        def give_back() -> None:
            byte, bit = self.processor_in_set(f, mask, before)
            f.store(f.or_(f.load("i8", byte), bit), byte)

        f.if_(f.cmp("ne", before, i32(0)), give_back)
        byte, bit = self.processor_in_set(f, mask, here)
        old = f.load("i8", byte)
        f.store(f.and_(old, f.not_(bit)), byte)
        # Fails where no other processor is left: then nothing changes.
        failed = f.cmp("ne", f.call("sched_setaffinity", [tid, i64(MASK), mask], "i32", declare=True), i32(0))
        taken = f.select(f.cmp("ne", f.and_(old, bit), const("i8", 0)), here, i32(0))
        f.store(f.select(failed, before, taken), note)

    def wake(self) -> None:
        """Announce a new launch number and wake up to `count` sleepers."""
        f = self.module.function("tj_wake", [("count", "i32")], internal=True, attrs=COLD)
        (count,) = f.args
        epoch = f.add(self.get(f, EPOCH), i32(1))
        self.put(f, EPOCH, epoch, "seq_cst")

        def futex() -> None:
            f.call("tj_keep_off", [])
            few = f.intrinsic("smin", count, i32(2))
            self.put(f, WAKE, f.sub(count, few))
            self.futex(f, 129, few)  # FUTEX_WAKE, private to the process

        def broadcast() -> None:
            f.call("pthread_mutex_lock", [self.at(f, MUTEX)], "i32", declare=True)
            f.call("pthread_mutex_unlock", [self.at(f, MUTEX)], "i32", declare=True)
            f.call("pthread_cond_broadcast", [self.at(f, CONDITION)], "i32", declare=True)

        asleep = f.cmp("sgt", self.get(f, SLEEPERS, order="seq_cst"), i32(0))
        f.if_(asleep, futex if self.system == "linux" else broadcast)
        f.ret_()
