"""The callable that runs plans: how calls are matched, what it is as a Python object, and what it leaves in memory."""

import gc
import os
import subprocess
import sys
import threading
import types
import weakref

import numpy as np
import pytest
from helpers import in_threads
from runtime_plans import (
    BOOL,
    F32,
    I64,
    Function,
    Tensor,
    add_plan,
    everything,
    function,
    library,
    tensor,
)

from tracejit.context import activity
from tracejit.errors import ArgumentError
from tracejit.runtime import executor, layout, memory
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.program import Plan
from tracejit.runtime.records import (
    Constant,
    Form,
    Host,
    Kernel,
    Output,
    Returns,
    StaticArg,
)


@pytest.fixture(scope="module")
def lib():
    return library()


def test_native_code_is_in_use_here():
    assert layout.unsupported() is None
    assert executor.native() is not None


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
    assert result(Form((0, 1)), x, y, z=y) == "slow"
    assert result(None, x, y, "mode", z=y) == "slow"
    assert result(Form((0,), {"y": 1}), x) == "slow"
    assert result(Form((0,), {"y": 1}), x, y=y, mode="mode") == "slow"
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


# --- the callable -----------------------------------------------------------------------------------------------
def test_a_call_makes_no_python_frame(lib):
    f, x = function(add_plan(lib)), tensor(1, 2, 3)
    assert Function.__flags__ & layout.HAVE_VECTORCALL and NativeCallable.__flags__ & layout.HAVE_VECTORCALL
    frames = []
    sys.setprofile(lambda frame, event, arg: frames.append(frame.f_code.co_name) if event == "call" else None)
    try:
        results = [f(x, x), f(*(x, x)), f(*[x], x)]
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
    assert f(*range(50), k=1) == ("slow", tuple(range(50)), {"k": 1})
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
    hit = Returns("single", [Constant("hit")])
    Model.step.set_plans([Plan(Tensor, args=[StaticArg(m), StaticArg(1)], returns=hit)])
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
    nested = Plan(
        Tensor, args=p.args, frame=p.frame, outputs=p.outputs, steps=[*p.steps, Host(again), *p.steps],
        returns=p.returns, release_gil=True, keep=lib,
    )  # fmt: skip
    f.set_plans([nested])
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

    in_threads(4, work)
    assert not wrong


def test_where_objects_cannot_be_read_calls_go_through_python():
    code = """
import sys, warnings
import numpy as np
sys.version = sys.version.replace("(", "free-threading build (", 1)
from tracejit.runtime import layout
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.program import Plan
from tracejit.runtime.records import *
class Tensor:
    __slots__ = ("_a",)
class Function(NativeCallable):
    def _slow(self, *args):
        return "slow"
assert "GIL" in layout.unsupported()
dtype = np.dtype("f4")
f = Function()
out = Output(1, dtype, (2,))
f.set_plans([Plan(Tensor, args=[TensorArg(0, dtype, (2,))], frame=[0, 0], outputs=[out], steps=[Copy(1, 0, 8)],
                  returns=Returns("single", [0]))])
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    assert f(np.array([1, 2], np.float32))._a.tolist() == [1, 2]
    assert f(np.array([3, 4], np.float32))._a.tolist() == [3, 4]
assert [w.category.__name__ for w in seen] == ["CompileWarning"], seen
assert f(1) == "slow"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- memory -----------------------------------------------------------------------------------------------------
def _resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def test_no_reference_is_lost_or_left(lib):
    p, v, marker, mode = everything(lib)
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
    p, _, _, mode = everything(lib)
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
