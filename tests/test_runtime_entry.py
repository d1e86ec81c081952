"""Plans and the callable that runs them, natively and in Python: guards, results, state, steps, errors, memory."""

import ctypes
import gc
import os
import signal
import sys
import threading
import types
import weakref

import numpy as np
import pytest

from tracejit.context import activity
from tracejit.errors import ArgumentError
from tracejit.lower import engine
from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.runtime import executor, layout, memory
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.program import Plan
from tracejit.runtime.records import (
    Capture,
    Constant,
    Copy,
    Form,
    Host,
    Jump,
    JumpIfFalse,
    Kernel,
    Output,
    ParallelKernel,
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


@pytest.fixture(scope="module")
def lib():
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


@pytest.fixture(params=["native", "python"])
def run(request):
    """Carries out a plan on arguments, natively or in Python."""
    return Plan.run if request.param == "native" else Plan.run_python


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
    f = Function()
    f.set_plans(plans)
    return f


def test_native_code_is_in_use_here():
    assert layout.unsupported() is None
    assert executor.native() is not None


# --- arguments --------------------------------------------------------------------------------------------------
def test_tensors_and_arrays_are_taken_and_a_tensor_comes_back(lib, run):
    p = add_plan(lib)
    for x in (tensor(1, 2, 3), np.array([1, 2, 3], np.float32)):
        r = run(p, [x, tensor(10, 20, 30)])
        assert type(r) is Tensor and type(r._a) is np.ndarray
        assert r._a.tolist() == [11, 22, 33]
        assert r._a.dtype is F32 and r._a.base is None
        assert r._a.flags.num == np.empty(3, np.float32).flags.num
        assert r._a.ctypes.data % 64 == 0 or run is Plan.run_python
        assert not hasattr(r, "name") and r.__dict__ == {}


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(3),
        np.zeros(4, np.float32),
        np.zeros((3, 1), np.float32),
        np.zeros((), np.float32),
        np.zeros(6, np.float32)[::2],
        np.zeros(3, ">f4"),
        np.frombuffer(bytes(13), np.float32, 3, 1),
        np.ma.zeros(3, np.float32),
        Variable(np.zeros(3, np.float32)),
        object.__new__(Tensor),
        Tensor.of([1, 2, 3]),
        [1.0, 2.0, 3.0],
        None,
        1.0,
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_argument_that_differs_in_anything_does_not_match(lib, run, wrong):
    p = add_plan(lib)
    ok = tensor(1, 2, 3)
    assert run(p, [wrong, ok]) is NotImplemented
    assert run(p, [ok, wrong]) is NotImplemented
    assert function(p)(ok, wrong) == ("slow", (ok, wrong), {})


def test_the_number_of_arguments_is_a_guard(lib, run):
    p = add_plan(lib)
    x = tensor(1, 2, 3)
    assert run(p, [x]) is NotImplemented
    assert run(p, (x, x, x)) is NotImplemented
    assert function(p)(x)[0] == "slow"


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3), (1, 1, 1, 4)])
def test_arrays_of_every_rank(lib, run, shape):
    n = int(np.prod(shape))
    p = Plan(
        Tensor,
        args=[TensorArg(0, F32, shape)],
        frame=[0, 0],
        outputs=[Output(1, F32, shape)],
        steps=[Kernel(lib["double"], (0, 1), n)],
        returns=Returns("single", [0]),
        keep=lib,
    )
    x = np.arange(n, dtype=np.float32).reshape(shape)
    r = run(p, [x])._a
    assert r.shape == shape and r.flags.num == np.empty(shape, np.float32).flags.num
    np.testing.assert_array_equal(r, 2 * x)
    assert run(p, [np.zeros((*shape, 2), np.float32)]) is NotImplemented


@pytest.mark.parametrize(
    "python, dtype, kernel, value, expected",
    [
        (float, F32, "copy4", 0.1, np.float32(0.1)),
        (float, F32, "copy4", 1e300, np.float32(np.inf)),
        (float, F64, "copy8", 0.1, 0.1),
        (int, I32, "copy4", 2**31 - 1, 2**31 - 1),
        (int, I32, "copy4", -(2**31), -(2**31)),
        (int, I64, "copy8", -(2**63), -(2**63)),
        (int, I64, "copy8", 2**63 - 1, 2**63 - 1),
        (int, F32, "copy4", 3, np.float32(3)),
        (int, F64, "copy8", 2**53 + 1, float(2**53 + 1)),
        (bool, BOOL, "copy1", True, True),
        (bool, BOOL, "copy1", False, False),
    ],
)
def test_numbers_are_converted(lib, run, python, dtype, kernel, value, expected):
    r = run(identity_plan(lib, ScalarArg(0, python, dtype), dtype, kernel), [value])
    assert type(r) is np.ndarray and r.dtype is dtype
    assert r[()] == expected


@pytest.mark.parametrize(
    "python, dtype, wrong",
    [
        (float, F32, 1),
        (float, F32, np.float64(1)),
        (float, F32, True),
        (int, I32, 2**31),
        (int, I32, -(2**31) - 1),
        (int, I32, 2**70),
        (int, I64, 2**63),
        (int, I64, True),
        (int, I64, 1.0),
        (int, F32, 2**63),
        (bool, BOOL, 1),
        (bool, BOOL, None),
    ],
)
def test_numbers_of_another_type_or_size_do_not_match(lib, run, python, dtype, wrong):
    assert run(identity_plan(lib, ScalarArg(0, python, dtype), dtype, "copy1"), [wrong]) is NotImplemented


def test_static_arguments_are_told_by_identity_or_as_equal_ints_and_strings(run):
    def plan(value):
        return Plan(Tensor, args=[StaticArg(value)], returns=Returns("single", [Constant("hit")]))

    big, text, pair = int("1" * 30), "".join(["a", "b"]), (1, 2)
    for value, other in ((big, int("1" * 30)), (text, "".join(["a", "b"])), (None, None), (pair, pair)):
        assert run(plan(value), [other]) == "hit"
    for value, other in ((1, True), (1, 1.0), (1, 2), ("a", "b"), (None, 0), (pair, tuple([1, 2])), (0.0, -0.0)):
        assert run(plan(value), [other]) is NotImplemented


# --- forms of calls ---------------------------------------------------------------------------------------------
def sub_plan(lib, form=None):
    """Returns its first argument plus the second, which stand anywhere; the third is static."""
    p = add_plan(lib)
    return Plan(
        Tensor, args=[*p.args, StaticArg("mode")], frame=p.frame, outputs=p.outputs, steps=p.steps, returns=p.returns,
        keep=lib, form=form,
    )  # fmt: skip


@pytest.fixture(params=["native", "python"])
def call(request, monkeypatch):
    """Makes functions whose calls go through native code or through Python."""
    if request.param == "python":
        monkeypatch.setattr(executor, "_loaded", [None])
    return function


def test_keyword_arguments_defaults_and_containers(lib, call):
    x, y = tensor(1, 2, 3), tensor(10, 20, 30)
    p = sub_plan(lib)

    def result(form, *args, **kwargs):
        r = call(p.called_as(form))(*args, **kwargs)
        return r._a.tolist() if type(r) is Tensor else r[0]

    total = [11, 22, 33]
    assert result(None, x, y, "mode") == total
    assert result(Form((1, 0)), x, y) == total
    assert result(Form((0,), {"y": 1}), x, y=y) == total
    assert result(Form((), {"y": 1, "mode": 2, "x": 0}), y=y, mode="mode", x=x) == total
    assert result(Form(((0, [1, (2,)]),)), (x, [y, ("mode",)])) == total
    assert result(Form(({"a": {"b": 0}, "c": [1]},)), {"a": {"b": x}, "c": [y]}) == total
    assert result(Form(([], 0, 1)), [], x, y) == total

    assert result(Form((0,), {"y": 1}), x, z=y) == "slow"
    assert result(Form((0,), {"y": 1}), x, y) == "slow"
    assert result(Form((0, 1)), x, y=y) == "slow"
    assert result(Form((0,), {"y": 1, "mode": 2}), x, mode="mode", y=y) == "slow"
    assert result(Form(([0, 1],)), (x, y)) == "slow"
    assert result(Form(((0, 1),)), [x, y]) == "slow"
    assert result(Form(([0, 1],)), [x, y, y]) == "slow"
    assert result(Form(([0, 1],)), x) == "slow"
    assert result(Form(({"a": 0, "b": 1},)), {"b": y, "a": x}) == "slow"
    assert result(Form(({"a": 0, "b": 1},)), {"a": x}) == "slow"
    assert result(Form(((0, 1),)), types.SimpleNamespace()) == "slow"


def test_a_form_must_have_every_argument_once(lib):
    p = sub_plan(lib)
    for form in (Form((0,)), Form((0, 1, 1)), Form((0, 1, 3)), Form((0, "x")), Form((0, {1}))):
        with pytest.raises(ArgumentError):
            p.called_as(form)


# --- results ----------------------------------------------------------------------------------------------------
def test_structures_of_results(run):
    def plan(*args, **kwargs):
        return Plan(Tensor, frame=[0, 0], outputs=[Output(0, F32, (2,)), Output(1, I64, (), wrap=False)], **kwargs)

    marker = object()
    assert run(plan(), []) is None
    r = run(plan(returns=Returns("tuple", [1, Constant(marker), 0, 0])), [])
    assert type(r) is tuple and r[1] is marker and r[2] is r[3]
    assert type(r[0]) is np.ndarray and r[0].dtype is I64 and r[0].shape == ()
    assert type(r[2]) is Tensor and r[2]._a.shape == (2,)
    r = run(plan(returns=Returns("list", [0, Constant(marker)])), [])
    assert type(r) is list and type(r[0]) is Tensor and r[1] is marker
    assert run(plan(returns=Returns("tuple")), []) == ()
    assert run(plan(returns=Returns("list")), []) == []
    assert run(plan(returns=Returns("single", [Constant(marker)])), []) is marker
    flat = run(plan(returns=Returns("call", [Constant(1), Constant(2)], finish=lambda t: {"flat": t})), [])
    assert flat == {"flat": (1, 2)}


def test_an_error_in_finish_propagates(run):
    def finish(_):
        raise LookupError("finish")

    with pytest.raises(LookupError, match="finish"):
        run(Plan(Tensor, returns=Returns("call", finish=finish)), [])


# --- variables --------------------------------------------------------------------------------------------------
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


def test_a_variable_is_updated_in_place_while_nobody_else_sees_its_array(lib, run):
    calls = []
    v = Variable(np.ones(3, np.float32))
    at = v._a.ctypes.data
    p = update_plan(lib, v, unshare=lambda v: (calls.append(v), unshare(v)))
    for _ in range(3):
        assert run(p, [np.ones(3, np.float32)]) is None
    assert v._a.tolist() == [4, 4, 4] and v._a.ctypes.data == at and not calls
    v._a = np.zeros(3, np.float32)  # a new array is found at the next call
    run(p, [tensor(1, 2, 3)])
    assert v._a.tolist() == [1, 2, 3] and not calls


@pytest.mark.parametrize(
    "look",
    [lambda v: v._a, lambda v: v._a[:], lambda v: Tensor.of(v._a), lambda v: memoryview(v._a)],
    ids=["array", "view", "tensor", "buffer"],
)
def test_a_snapshot_of_a_variable_keeps_its_values(lib, run, look):
    v = Variable(np.ones(3, np.float32))
    p = update_plan(lib, v)
    seen = look(v)
    run(p, [tensor(1, 1, 1)])
    assert v._a.tolist() == [2, 2, 2]
    assert np.asarray(getattr(seen, "_a", seen)).tolist() == [1, 1, 1]


def test_a_variable_given_as_argument_too_is_read_before_it_is_written(lib, run):
    v = Variable(np.array([1, 2, 3], np.float32))
    run(update_plan(lib, v), [v._a])
    assert v._a.tolist() == [2, 4, 6]


def test_memory_that_is_not_the_variables_own_is_not_written(lib, run):
    v = Variable(np.zeros(3, np.float32))
    p = update_plan(lib, v)
    base = np.ones(6, np.float32)
    v._a = base[:3]
    run(p, [tensor(1, 1, 1)])
    assert base.tolist() == [1] * 6 and v._a.tolist() == [2] * 3
    v._a = np.ones(3, np.float32)
    v._a.flags.writeable = False
    run(p, [tensor(1, 1, 1)])
    assert v._a.tolist() == [2] * 3


def test_a_variable_that_is_only_read_may_be_shared(lib, run):
    v = Variable(np.array([1, 2, 3], np.float32))
    seen = v._a
    p = Plan(
        Tensor,
        captures=[Capture(0, v, F32, (3,))],
        frame=[0, 0],
        outputs=[Output(1, F32, (3,))],
        steps=[Kernel(lib["double"], (0, 1), 3)],
        returns=Returns("single", [0]),
        keep=lib,
    )
    assert run(p, [])._a.tolist() == [2, 4, 6] and v._a is seen
    for wrong in (np.zeros(3), np.zeros(4, np.float32), np.zeros(6, np.float32)[::2], None):
        v._a = wrong
        assert run(p, []) is NotImplemented
    del v._a
    assert run(p, []) is NotImplemented


def test_an_error_while_unsharing_changes_nothing(lib, run):
    def refuse(_):
        raise LookupError("no")

    v = Variable(np.ones(3, np.float32))
    p = update_plan(lib, v, unshare=refuse)
    seen = v._a
    with pytest.raises(LookupError):
        run(p, [tensor(1, 1, 1)])
    assert v._a is seen and seen.tolist() == [1, 1, 1]
    del seen
    run(p, [tensor(1, 1, 1)])
    assert v._a.tolist() == [2, 2, 2]


def test_a_variable_that_cannot_be_unshared_is_an_error(lib):
    v = Variable(np.ones(3, np.float32))
    calls = []
    p = update_plan(lib, v, unshare=calls.append)
    seen = v._a
    for f in (function(p), lambda x: p.run([x])):
        with pytest.raises(RuntimeError, match="stays shared"):
            f(tensor(1, 1, 1))
    assert seen.tolist() == [1, 1, 1] and 2 <= len(calls) < 100


def test_plans_may_be_replaced_while_unsharing(lib):
    v = Variable(np.ones(3, np.float32))
    f = Function()

    def replace(v):
        f.set_plans([])
        gc.collect()
        unshare(v)

    f.set_plans([update_plan(lib, v, unshare=replace)])
    seen = v._a
    assert f(tensor(1, 1, 1))[0] == "slow"  # starts again with the plans that hold now
    assert seen.tolist() == v._a.tolist() == [1, 1, 1]


# --- steps ------------------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize("release_gil", [False, True])
def test_loops_and_branches(lib, run, release_gil):
    zero = np.zeros((), np.int64)

    def plan(limit):
        steps = [
            Host(lambda frame: ctypes.memset(ctypes.c_void_p.from_address(frame).value, 0, 8)),
            Kernel(lib["less"], (0, 1, 2)),
            JumpIfFalse(2, 5),
            Kernel(lib["inc"], (0, 0)),
            Jump(1),
        ]
        return counting_plan(lib, steps, limit, release_gil=release_gil)

    for limit in (0, 1, 100):
        assert run(plan(limit), [])._a == limit
    assert zero == 0


def test_copy_and_swap(lib, run):
    x = np.array([1, 2, 3], np.float32)
    p = Plan(
        Tensor,
        args=[TensorArg(0, F32, (3,)), TensorArg(1, F32, (3,))],
        frame=[0] * 4,
        outputs=[Output(2, F32, (3,)), Output(3, F32, (3,))],
        steps=[Swap(0, 1), Copy(2, 0, 12), Copy(3, 1, 8), Copy(3, 1, 12)],
        returns=Returns("tuple", [0, 1]),
    )
    a, b = run(p, [x, 10 * x])
    assert a._a.tolist() == [10, 20, 30] and b._a.tolist() == [1, 2, 3]


def test_parallel_kernels_are_given_in_chunks(lib):
    count = np.zeros((), np.int64)
    p = Plan(
        Tensor,
        args=[TensorArg(1, F32, (10,))],
        frame=[count.ctypes.data, 0, 0],
        outputs=[Output(2, F32, (10,))],
        steps=[ParallelKernel(lib["double"], (1, 2), 10, 4)],
        returns=Returns("single", [0]),
        parallel=lib["parallel"],
        keep=(lib, count),
    )
    x = np.arange(10, dtype=np.float32)
    assert p.run([x])._a.tolist() == (2 * x).tolist() and count == 3
    assert p.run_python([x])._a.tolist() == (2 * x).tolist()


def test_the_arena_is_aligned_and_the_frame_is_each_calls_own(run):
    seen = []

    def look(frame):
        words = (ctypes.c_int64 * 3).from_address(frame)
        seen.append(list(words))
        words[2] += 1

    p = Plan(Tensor, frame=[0, 0, 5], arena_bytes=256, arena=[(0, 0), (1, 64)], steps=[Host(look)])
    run(p, [])
    run(p, [])
    for a, b, c in seen:
        assert a % 64 == 0 and b == a + 64 and c == 5


@pytest.mark.parametrize("slots", [3, 300, 5000])
def test_small_and_large_frames(lib, run, slots):
    p = Plan(
        Tensor,
        args=[TensorArg(slots - 2, F32, (3,))],
        frame=[7] * slots,
        outputs=[Output(slots - 1, F32, (3,))],
        steps=[Kernel(lib["double"], (slots - 2, slots - 1), 3)],
        returns=Returns("single", [0]),
        keep=lib,
    )
    assert run(p, [tensor(1, 2, 3)])._a.tolist() == [2, 4, 6]
    assert run(p, [tensor(1, 2)]) is NotImplemented


# --- errors -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("release_gil", [False, True])
def test_an_error_in_a_host_step_propagates_and_everything_is_freed(lib, run, release_gil):
    def fail(_):
        raise LookupError("host")

    x = np.ones(3, np.float32)
    p = add_plan(lib)
    p = Plan(
        Tensor, args=p.args, frame=p.frame, outputs=p.outputs, steps=[Host(fail)], arena_bytes=4096,
        returns=Returns("list", [0, Constant(x)]), release_gil=release_gil,
    )  # fmt: skip
    before, counts = memory.stats().live_blocks, [sys.getrefcount(o) for o in (x, p, fail)]
    for _ in range(100):
        with pytest.raises(LookupError, match="host"):
            run(p, [x, x])
    assert [sys.getrefcount(o) for o in (x, p, fail)] == counts
    assert memory.stats().live_blocks == before


@pytest.mark.parametrize("what", ["arena", "output", "second output"])
def test_lack_of_memory_is_found_before_anything_is_changed(lib, run, what):
    v = Variable(np.ones(3, np.float32))
    huge = [Output(1, F32, (1 << 48,))]
    p = update_plan(
        lib,
        v,
        arena_bytes=1 << 50 if what == "arena" else 0,
        outputs={"arena": [], "output": huge, "second output": [Output(1, F32, (3,)), *huge]}[what],
        steps=[Kernel(lib["add"], (0, 0, 0), 3)],
    )
    before = memory.stats().live_blocks
    with pytest.raises(MemoryError):
        run(p, [tensor(1, 1, 1)])
    assert v._a.tolist() == [1, 1, 1] and memory.stats().live_blocks == before


def test_faulty_plans_are_refused(lib):
    v = Variable(np.zeros(3, np.float32))
    kernel = Kernel(lib["add"], (0, 1, 2))
    for faulty in (
        dict(frame=[0, 0], steps=[kernel]),
        dict(frame=[0] * 3, steps=[Kernel(0, (0, 1, 2))]),
        dict(frame=[0] * 3, steps=[ParallelKernel(lib["add"], (0, 1, 2), 1, 1)]),
        dict(steps=[Jump(2)]),
        dict(frame=[0], steps=[JumpIfFalse(0, -1)]),
        dict(frame=[0], arena_bytes=8, arena=[(0, 16)]),
        dict(frame=[0], captures=[Capture(0, v, F32, (3,), written=True)]),
        dict(frame=[0], captures=[Capture(0, v, F32, (3,)), Capture(0, v, F32, (3,))]),
        dict(frame=[0], args=[ScalarArg(0, float, I32)]),
        dict(args=[TensorArg(0, F32, ())]),
        dict(returns=Returns("single")),
        dict(returns=Returns("single", [0])),
        dict(returns=Returns("dict")),
        dict(returns=Returns("call")),
    ):
        with pytest.raises(ArgumentError):
            Plan(Tensor, **faulty)
    with pytest.raises(TypeError, match="_a"):
        Plan(type("Other", (), {"_a": None}))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.parametrize("release_gil", [False, True])
def test_an_endless_loop_can_be_interrupted(lib, release_gil):
    def interrupt(*_):
        raise KeyboardInterrupt

    p = counting_plan(lib, [Kernel(lib["inc"], (0, 0)), Jump(0)], 0, release_gil=release_gil)
    before = memory.stats().live_blocks
    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            p.run([])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert memory.stats().live_blocks == before


# --- the callable -----------------------------------------------------------------------------------------------
def test_a_call_makes_no_python_frame(lib):
    f, x = function(add_plan(lib)), tensor(1, 2, 3)
    assert Function.__flags__ & layout.HAVE_VECTORCALL and NativeCallable.__flags__ & layout.HAVE_VECTORCALL
    frames = []
    sys.setprofile(lambda frame, event, arg: frames.append(frame.f_code.co_name) if event == "call" else None)
    try:
        results = [f(x, x), f(*(x, x)), f(*[x, x], **{})]
    finally:
        sys.setprofile(None)
    assert [r._a.tolist() for r in results] == [[2, 4, 6]] * 3
    assert not frames


def test_the_python_call_agrees_with_the_native_one(lib, monkeypatch):
    f, x = function(add_plan(lib)), tensor(1, 2, 3)
    assert f.__call__(x, x)._a.tolist() == [2, 4, 6]
    assert Function.__call__(f, x, x=x) == ("slow", (x,), {"x": x})
    monkeypatch.setattr(executor, "_loaded", [None])
    g = function(add_plan(lib))
    assert g(x, x)._a.tolist() == [2, 4, 6]
    assert g(x, 1)[0] == "slow"


def test_plans_are_tried_in_order(lib):
    plans = [add_plan(lib, n) for n in (2, 3, 4)]
    f = function(*plans)
    assert f.plans == tuple(plans)
    for n in (2, 3, 4):
        x = np.ones(n, np.float32)
        assert f(x, x)._a.tolist() == [2] * n
    assert f(np.ones(5, np.float32), 1)[0] == "slow"
    f.set_plans([])
    assert f(x, x)[0] == "slow" and f.plans == ()
    with pytest.raises(TypeError):
        f.set_plans([None])
    first = [Plan(Tensor, returns=Returns("single", [Constant(k)])) for k in (1, 2)]
    assert function(*first)() == 1 and function(*first[::-1])() == 2


def test_calls_that_no_plan_takes_go_to_slow_with_everything(lib):
    f, x = function(add_plan(lib)), tensor(1, 2, 3)
    assert f(x, y=x) == ("slow", (x,), {"y": x})
    assert f() == ("slow", (), {})
    assert f(*range(50), **{"k": 1}) == ("slow", tuple(range(50)), {"k": 1})
    assert Function()(1) == ("slow", (1,), {})
    with pytest.raises(TypeError, match="no plan"):
        NativeCallable()(1)
    n = NativeCallable()
    n.set_plans([add_plan(lib)])
    with pytest.raises(TypeError, match="no plan"):
        n(1)
    f.__class__ = type("Failing", (Function,), {"_slow": lambda self: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        f()


def test_while_something_is_traced_all_calls_are_slow(lib):
    f, x = function(add_plan(lib)), tensor(1, 2, 3)
    activity.enter()
    try:
        assert f(x, x)[0] == "slow" and f.__call__(x, x)[0] == "slow"
    finally:
        activity.leave()
    assert type(f(x, x)) is Tensor


def test_methods_bind(lib):
    class Model:
        step = function()

    m = Model()
    assert m.step(1, k=2) == ("slow", (m, 1), {"k": 2})
    Model.step.set_plans([Plan(Tensor, args=[StaticArg(m), StaticArg(1)], returns=Returns("single", [Constant("hit")]))])
    assert m.step(1) == "hit" and Model.step(m, 1) == "hit" and m.step(2)[0] == "slow"


def test_a_subclass_may_define_call(lib):
    class Counting(Function):
        count = 0

        def __call__(self, *args):
            self.count += 1
            return super().__call__(*args)

    f, x = Counting(), tensor(1, 2, 3)
    f.set_plans([add_plan(lib)])
    assert f(x, x)._a.tolist() == [2, 4, 6] and f.count == 1
    assert f(1)[0] == "slow" and f.count == 2

    class Further(Counting):
        pass

    g = Further()
    g.set_plans(f.plans)
    assert g(x, x)._a.tolist() == [2, 4, 6] and g.count == 1


def test_instances_have_attributes_and_are_collected(lib):
    class Other(Function):
        __slots__ = ("extra",)

        def __init__(self, a, *, b):
            self.a, self.b, self.extra = a, b, 1

    f = Other(1, b=2)
    assert (f.a, f.b, f.extra, f.__dict__) == (1, 2, 1, {"a": 1, "b": 2})
    f.me = f
    f.set_plans([Plan(Tensor, steps=[Host(f._slow)], keep=f)])
    plan = weakref.ref(f.plans[0])
    gone = weakref.ref(f)
    del f
    gc.collect()
    assert gone() is None and plan() is None


def test_plans_live_as_long_as_a_call_runs_them(lib):
    f = Function()
    gone = []

    def replace(_):
        f.set_plans([])
        gc.collect()
        gone.append(ref() is None)

    f.set_plans([Plan(Tensor, steps=[Host(replace), Host(replace)], returns=Returns("single", [Constant("done")]))])
    ref = weakref.ref(f.plans[0])
    assert f() == "done" and gone == [False, False]
    gc.collect()
    assert ref() is None


def test_calls_nest(lib):
    f = Function()
    depth = []

    def again(frame):
        depth.append(frame)
        if len(depth) < 50:
            f(x, x)

    x = tensor(1, 2, 3)
    p = add_plan(lib)
    f.set_plans(
        [
            Plan(
                Tensor, args=p.args, frame=p.frame, outputs=p.outputs, steps=[*p.steps, Host(again), *p.steps],
                returns=p.returns, release_gil=True, keep=lib,
            )  # fmt: skip
        ]
    )
    assert f(x, x)._a.tolist() == [2, 4, 6] and len(set(depth)) == 50


def test_other_threads_run_while_the_gil_is_released(lib):
    flag = np.zeros((), np.int64)
    p = Plan(
        Tensor,
        frame=[flag.ctypes.data, 0],
        outputs=[Output(1, I64, (), wrap=False)],
        steps=[Kernel(lib["wait"], (0, 1))],
        returns=Returns("single", [0]),
        release_gil=True,
        keep=(lib, flag),
    )
    t = threading.Timer(0.05, lambda: flag.fill(7))
    t.start()
    assert p.run([]) == 7
    t.join()


def test_threads_call_one_function_at_once(lib):
    f = function(add_plan(lib, 2, release_gil=True), add_plan(lib, 3, release_gil=True, arena_bytes=512))
    wrong = []

    def work(k):
        x = np.full(2 + k % 2, k, np.float32)
        for i in range(3000):
            y = np.full(len(x), i, np.float32)
            if f(x, y)._a.tolist() != [k + i] * len(x):
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# --- memory -----------------------------------------------------------------------------------------------------
def _resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def _everything(lib):
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


def test_no_reference_is_lost_or_left(lib):
    p, v, marker, mode = _everything(lib)
    f, x, number, big = function(p), np.zeros(3, np.float32), 0.5, 1 << 40
    watched = (p, v, v._a, marker, mode, x, number, big, Tensor, F32, BOOL, lib, abs, memory.handler_capsule())
    shared = []
    f([x, (number, big)], mode=mode)

    def calls():
        for _ in range(200):
            assert len(f([x, (number, big)], mode=mode)) == 4
            assert f([x, (number, 1.0)], mode=mode)[0] == "slow"
            assert f([x], mode=mode)[0] == "slow"
            assert p.run([x, number, 1.0, mode]) is NotImplemented
        shared.append(v._a)
        f([x, (number, big)], mode=mode)
        shared.clear()

    calls()
    gc.collect()
    array, blocks = v._a, memory.stats().live_blocks
    del array
    before = [sys.getrefcount(o) for o in watched]
    calls()
    gc.collect()
    assert [sys.getrefcount(o) for o in watched] == before
    assert memory.stats().live_blocks == blocks


def test_memory_stays_the_same_over_a_million_calls(lib):
    p, _, _, mode = _everything(lib)
    f, g, x = function(p), function(add_plan(lib)), np.zeros(3, np.float32)

    def calls(n):
        for _ in range(n):
            g(x, x)
        for _ in range(n // 4):
            f([x, (0.5, 1 << 40)], mode=mode)

    calls(20_000)
    gc.collect()
    before = _resident()
    calls(1_000_000)
    gc.collect()
    assert _resident() - before < 4 << 20


# --- text -------------------------------------------------------------------------------------------------------
def test_a_plan_describes_itself(lib):
    p, *_ = _everything(lib)
    text = p.describe()
    for part in (
        "argument 0: float32[3] -> %0",
        "argument 1: float as float32 -> %1",
        "called as: ([0, (1, 2)], mode=3)",
        "variable Variable: float32[3] -> %3, updated in place",
        "arena: 256 bytes",
        "output 1: bool[2, 2] -> %6, as an ndarray",
        "0: kernel(%0, %3, %5) x 3",
        "1: copy %5 to %3, 12 bytes",
        "host abs",
        "returns list (output 0, output 1, <object",
    ):
        assert part in text, text
    assert "steps" in repr(p)
    loop = Plan(Tensor, frame=[0], steps=[JumpIfFalse(0, 2), Jump(0)]).describe()
    assert "if not %0 jump to 2" in loop and "jump to 0" in loop
