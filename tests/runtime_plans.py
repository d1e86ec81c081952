"""Kernels, classes and plans for the tests of the runtime."""

import functools
import types

import numpy as np

from tracejit.lower import engine
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.runtime import executor
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.program import Plan
from tracejit.runtime.records import (
    Capture,
    Constant,
    Copy,
    Form,
    Host,
    Kernel,
    Output,
    Returns,
    ScalarArg,
    StaticArg,
    Swap,
    TensorArg,
)

F32, F64, I32, I64, BOOL = map(np.dtype, ("f4", "f8", "i4", "i8", "?"))


class Tensor:
    __slots__ = ("_a", "name", "__dict__", "__weakref__")

    @staticmethod
    def of(a):
        t = object.__new__(Tensor)
        t._a = a
        return t


class Variable(Tensor):
    __slots__ = ("trainable",)

    def __init__(self, a):
        self._a = np.array(a)


# --- kernels ----------------------------------------------------------------------------------------------------
def _operands(f: Fn, n: int) -> list[Val]:
    frame, idx = f.args[:2]
    at = [f.load("i32", f.gep(idx, 4 * k)) for k in range(n)]
    return [f.load("ptr", f.gep(frame, f.cast("sext", a, "i64"), "i64")) for a in at]


def _elementwise(m: Module, name: str, inputs: int, ty: str, value) -> None:
    """Task i computes element i of the last operand from elements i of the others."""
    f = m.function(name, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    *xs, out = _operands(f, inputs + 1)

    def body(i):
        f.store(value(f, *[f.load(ty, f.gep(x, i, ty)) for x in xs]), f.gep(out, i, ty))

    f.loop(f.args[2], f.args[3], body)
    f.ret_()


def _less(m: Module) -> None:
    f = m.function("less", [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    a, b, out = _operands(f, 3)
    f.store(f.cast("zext", f.cmp("slt", f.load("i64", a), f.load("i64", b)), "i8"), out)
    f.ret_()


def _wait(m: Module) -> None:
    """Spin until an i64 is not zero, but not forever; then store its value."""
    f = m.function("wait", [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    flag, out = _operands(f, 2)
    f.br("again")
    f.label("again")
    k = f.emit("phi i64 [ 0, %entry ], [ %more, %next ]", "i64")
    v = f.emit(f"load atomic i64, ptr {flag} seq_cst, align 8", "i64")
    f.br_if(f.emit(f"icmp eq i64 {v}, 0", "i1"), "next", "end")
    f.label("next")
    f.line(f"%more = add i64 {k}, 1")
    f.line("%stop = icmp eq i64 %more, 3000000000")
    f.line("br i1 %stop, label %end, label %again")
    f.label("end")
    f.store(v, out)
    f.ret_()


def _parallel(m: Module) -> None:
    """Stands for the thread pool: runs the chunks one after the other and counts them in frame slot 0."""
    params = [("fn", "ptr"), ("frame", "ptr"), ("idx", "ptr"), ("n", "i64"), ("chunk", "i64")]
    f = m.function("parallel", params)
    fn, frame, idx, n, chunk = f.args

    def body(i):
        f.call(fn, [frame, idx, i, f.intrinsic("smin", f.add(i, chunk), n)])
        count = f.load("ptr", frame)
        f.store(f.emit(f"add i64 {f.load('i64', count)}, 1", "i64"), count)

    f.loop(0, n, body, step=chunk)
    f.ret_()


@functools.cache
def library() -> engine.Library:
    """The kernels' code; the names are functions above."""
    m = Module()
    _elementwise(m, "add", 2, "float", lambda f, x, y: f.add(x, y))
    _elementwise(m, "double", 1, "float", lambda f, x: f.add(x, x))
    _elementwise(m, "copy8", 1, "i64", lambda f, x: x)
    _elementwise(m, "copy4", 1, "i32", lambda f, x: x)
    _elementwise(m, "copy1", 1, "i8", lambda f, x: x)
    _elementwise(m, "inc", 1, "i64", lambda f, x: f.add(x, i64(1)))
    _elementwise(m, "sum20", 20, "float", lambda f, *x: _sum(f, x))
    _less(m)
    _wait(m)
    _parallel(m)
    names = [g.name for g in m.functions]
    return engine.load(m.text(), names)


def _sum(f, xs):
    s = xs[0]
    for x in xs[1:]:
        s = f.add(s, x)
    return s


# --- plans ------------------------------------------------------------------------------------------------------
def tensor(*values, dtype=np.float32):
    return Tensor.of(np.array(values, dtype))


def add_plan(lib, n=3, **kwargs):
    kwargs.setdefault("returns", Returns("single", [0]))
    return Plan(
        Tensor,
        args=[TensorArg(0, F32, (n,)), TensorArg(1, F32, (n,))],
        frame=[0, 0, 0],
        outputs=[Output(2, F32, (n,))],
        steps=[Kernel(lib["add"], (0, 1, 2), n, "add")],
        keep=lib,
        **kwargs,
    )


def identity_plan(lib, arg, dtype, kernel):
    return Plan(
        Tensor,
        args=[arg],
        frame=[0, 0],
        outputs=[Output(1, dtype, (), wrap=False)],
        steps=[Kernel(lib[kernel], (0, 1))],
        returns=Returns("single", [0]),
        keep=lib,
    )


class Function(NativeCallable):
    def _slow(self, *args, **kwargs):
        return "slow", args, kwargs

    def __get__(self, obj, owner=None):
        return self if obj is None else types.MethodType(self, obj)


def function(*plans):
    executor.native()  # else the first calls may be made in Python
    f = Function()
    f.set_plans(plans)
    return f


def unshare(v):
    v._a = v._a.copy()


def update_plan(lib, v, n=3, **kwargs):
    """v += x, and returns nothing."""
    kwargs.setdefault("unshare", unshare)
    kwargs.setdefault("steps", [Kernel(lib["add"], (0, 1, 0), n)])
    return Plan(
        Tensor,
        args=[TensorArg(1, F32, (n,))],
        captures=[Capture(0, v, F32, (n,), written=True)],
        frame=[0, 0],
        keep=lib,
        **kwargs,
    )


def everything(lib):
    """A plan that uses every kind of record, and arguments for it."""
    v = Variable(np.ones(3, np.float32))
    marker, mode = object(), object()
    p = Plan(
        Tensor,
        args=[TensorArg(0, F32, (3,)), ScalarArg(1, float, F32), ScalarArg(2, int, I64), StaticArg(mode)],
        form=Form(([0, (1, 2)],), {"mode": 3}),
        captures=[Capture(3, v, F32, (3,), written=True)],
        frame=[0] * 7,
        arena_bytes=256,
        arena=[(4, 0)],
        outputs=[Output(5, F32, (3,)), Output(6, BOOL, (2, 2), wrap=False)],
        steps=[Kernel(lib["add"], (0, 3, 5), 3), Copy(3, 5, 12), Swap(0, 3), Host(abs)],
        returns=Returns("list", [0, 1, Constant(marker), 0]),
        unshare=unshare,
        keep=lib,
    )
    return p, v, marker, mode


def counting_plan(lib, steps, limit, **kwargs):
    """Slots: 0 counter (output), 1 limit, 2 test, 3 scratch."""
    top = np.array(limit, np.int64)
    return Plan(
        Tensor,
        frame=[0, top.ctypes.data, 0, 0],
        arena_bytes=128,
        arena=[(2, 0), (3, 64)],
        outputs=[Output(0, I64, ())],
        steps=steps,
        returns=Returns("single", [0]),
        keep=(lib, top),
        **kwargs,
    )
