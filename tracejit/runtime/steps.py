"""The native code that takes the steps of a plan: kernels, jumps, copies, and calls of Python."""

from __future__ import annotations

from tracejit.lower.llvm import NULL, Module, Val, const, i64
from tracejit.runtime.boundary import call, decref, inside, nonzero, slot, switch, word
from tracejit.runtime.table import Head, Op, Step


def define_steps(m: Module) -> None:
    """`i32 steps(table, frame)`: take the steps; -1 with an exception set, and always with the GIL held at the end."""
    f = m.function("steps", [("table", "ptr"), ("frame", "ptr")], "i32", internal=True)
    table, frame = f.args
    thread, second, turns, pc = (f.alloca(8, 8) for _ in range(4))
    release = nonzero(f, word(f, table, Head.RELEASE_GIL))
    start, count = inside(f, table, table, Head.STEPS_AT), word(f, table, Head.STEPS)
    parallel = word(f, table, Head.PARALLEL, "ptr")
    for v in (second, turns, pc):
        f.store(i64(0), v)

    def save() -> None:
        f.store(f.call("PyEval_SaveThread", [], "ptr"), thread)

    def restore() -> None:
        f.call("PyEval_RestoreThread", [f.load("ptr", thread)])

    def jump(i: Val, target: Val) -> None:
        f.store(target, pc)
        f.if_(f.cmp("sle", target, i), turn)

    def turn() -> None:
        """Loops see to signals about once a second, so that an endless one can be interrupted."""
        n = f.emit(f"add i64 {f.load('i64', turns)}, 1", "i64")
        f.store(n, turns)
        f.if_(f.cmp("eq", f.and_(n, i64(15)), i64(0)), look_at_clock)

    def look_at_clock() -> None:
        now = f.call("tj_time", [NULL], "i64")
        last = f.load("i64", second)
        f.store(now, second)
        f.if_(f.cmp("ne", now, last), check_signals)

    def check_signals() -> None:
        f.if_(release, restore)
        r = f.call("PyErr_CheckSignals", [], "i32")
        f.guard(f.cmp("eq", r, const("i32", 0)), "error")
        f.if_(release, save)

    f.if_(release, save)
    f.br("head")
    f.label("head")
    f.scopes.append({})
    i = f.load("i64", pc)
    f.guard(f.cmp("slt", i, count), "end")
    f.store(f.add(i, i64(1)), pc)
    rec = f.gep(start, f.mul(i, i64(8 * Step.WORDS)))
    a, b, c, d = (word(f, rec, w) for w in (Step.A, Step.B, Step.C, Step.D))
    entry = f.cast("inttoptr", a, "ptr")

    def host() -> None:
        f.if_(release, restore)
        address = f.call("PyLong_FromVoidPtr", [frame], "ptr")
        f.guard(nonzero(f, address), "error")
        r = f.call("PyObject_CallOneArg", [entry, address], "ptr")
        decref(f, address)
        f.guard(nonzero(f, r), "error")
        decref(f, r)
        f.if_(release, save)

    def branch() -> None:
        taken = f.cmp("eq", f.load("i8", f.load("ptr", slot(f, frame, a))), const("i8", 0))
        f.if_(taken, lambda: jump(i, b))

    def copy() -> None:
        name = m.declare("llvm.memmove.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])
        to, source = (f.load("ptr", slot(f, frame, s)) for s in (a, b))
        f.call(name, [to, source, c, const("i1", 0)])

    def swap() -> None:
        x, y = slot(f, frame, a), slot(f, frame, b)
        old = f.load("ptr", x)
        f.store(f.load("ptr", y), x)
        f.store(old, y)

    arms = {
        Op.KERNEL: lambda: call(f, entry, frame, f.gep(table, b), i64(0), c),
        Op.PARALLEL: lambda: call(f, parallel, entry, frame, f.gep(table, b), c, d),
        Op.HOST: host,
        Op.JUMP: lambda: jump(i, a),
        Op.JUMP_IF_FALSE: branch,
        Op.COPY: copy,
        Op.SWAP: swap,
    }
    switch(f, word(f, rec, Step.KIND), arms, "head")
    f.br("head")
    f.scopes.pop()
    f.label("end")
    f.if_(release, restore)
    f.ret_(const("i32", 0))
    f.label("error")
    f.ret_(const("i32", -1))
