"""Plans, carried out natively and in Python: arguments, results, variables, steps, errors."""

import ctypes
import gc
import signal
import sys
import types

import numpy as np
import pytest
from runtime_plans import (
    BOOL,
    F32,
    F64,
    I32,
    I64,
    Function,
    Tensor,
    Variable,
    add_plan,
    counting_plan,
    everything,
    function,
    identity_plan,
    library,
    tensor,
    unshare,
    update_plan,
)

from tracejit.errors import ArgumentError
from tracejit.runtime import executor, interpreter, memory, program
from tracejit.runtime.program import Plan
from tracejit.runtime.records import (
    Capture,
    Constant,
    Copy,
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


@pytest.fixture(scope="module")
def lib():
    return library()


@pytest.fixture(params=["native", "python"])
def run(request):
    """Carries out a plan on arguments, natively or in Python."""
    executor.native()
    return Plan.run if request.param == "native" else Plan.run_python


# --- arguments --------------------------------------------------------------------------------------------------
def test_tensors_and_arrays_are_taken_and_a_tensor_comes_back(lib, run):
    p = add_plan(lib)
    for x in (tensor(1, 2, 3), np.array([1, 2, 3], np.float32)):
        r = run(p, [x, tensor(10, 20, 30)])
        assert type(r) is Tensor and type(r._a) is np.ndarray
        assert r._a.tolist() == [11, 22, 33]
        assert r._a.dtype is F32 and r._a.base is None
        assert r._a.flags.num == np.empty(3, np.float32).flags.num
        assert r._a.ctypes.data % 64 == 0
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


@pytest.mark.parametrize("low, high", [(-3, 4), (-(2**31), -7), (5, 2**31 - 1), (2, 2)])
def test_integers_with_limits_match_within_them(lib, run, low, high):
    plan = identity_plan(lib, ScalarArg(0, int, I32, low, high), I32, "copy4")
    for n in (low, high, (low + high) // 2):
        assert run(plan, [n])[()] == n
    for n in (low - 1, high + 1, 2**31, 2**70, -(2**70), float(low)):
        assert run(plan, [n]) is NotImplemented


def test_static_arguments_are_told_by_identity_or_as_equal_ints_and_strings(run):
    def plan(value):
        return Plan(Tensor, args=[StaticArg(value)], returns=Returns("single", [Constant("hit")]))

    big, text, pair = int("1" * 30), "".join(["a", "b"]), (1, 2)
    for value, other in ((big, int("1" * 30)), (text, "".join(["a", "b"])), (None, None), (pair, pair)):
        assert run(plan(value), [other]) == "hit"
    for value, other in ((1, True), (1, 1.0), (1, 2), ("a", "b"), (None, 0), (pair, (*[1, 2],)), (0.0, -0.0)):
        assert run(plan(value), [other]) is NotImplemented


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
    seen = []
    run(plan(returns=Returns("call", [Constant(marker)], finish=seen.append)), [])
    assert sys.getrefcount(seen[0]) == sys.getrefcount((marker,)) + 1


def test_an_error_in_finish_propagates(run):
    def finish(_):
        raise LookupError("finish")

    with pytest.raises(LookupError, match="finish"):
        run(Plan(Tensor, returns=Returns("call", finish=finish)), [])


# --- variables --------------------------------------------------------------------------------------------------
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
    before = memory.stats().live_blocks
    assert run(p, [tensor(1, 2, 3)])._a.tolist() == [2, 4, 6]
    assert run(p, [tensor(1, 2)]) is NotImplemented
    assert memory.stats().live_blocks == before


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
        {"frame": [0, 0], "steps": [kernel]},
        {"frame": [0] * 3, "steps": [Kernel(0, (0, 1, 2))]},
        {"frame": [0] * 3, "steps": [ParallelKernel(lib["add"], (0, 1, 2), 1, 1)]},
        {"steps": [Jump(2)]},
        {"frame": [0], "steps": [JumpIfFalse(0, -1)]},
        {"frame": [0], "arena_bytes": 8, "arena": [(0, 16)]},
        {"frame": [0], "captures": [Capture(0, v, F32, (3,), written=True)]},
        {"frame": [0], "captures": [Capture(0, v, F32, (3,)), Capture(0, v, F32, (3,))]},
        {"frame": [0], "args": [ScalarArg(0, float, I32)]},
        {"args": [TensorArg(0, F32, ())]},
        {"returns": Returns("single")},
        {"returns": Returns("single", [0])},
        {"returns": Returns("dict")},
        {"returns": Returns("call")},
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


# --- text -------------------------------------------------------------------------------------------------------
def test_a_plan_describes_itself(lib):
    p, *_ = everything(lib)
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


# --- before native code is ready ----------------------------------------------------------------------------------
def test_light_plans_need_not_wait_for_native_code(lib, monkeypatch):
    light = [
        add_plan(lib),
        add_plan(lib, release_gil=True),
        add_plan(lib, 100_000),
        Plan(Tensor, captures=[Capture(0, Variable([1.0]), F64, (1,), False)], frame=[0]),
        Plan(Tensor, steps=[Host(abs)]),
        Plan(Tensor, args=[StaticArg("a")], returns=Returns("single", [Constant(1)])),
    ]
    step = Kernel(lib["add"], (0, 1, 2), 3, "add")
    heavy = [
        add_plan(lib, 1_000_000),
        add_plan(lib, arena_bytes=9 << 20),
        Plan(Tensor, frame=[0, 0, 0], steps=[step] * 65),
        Plan(Tensor, steps=[Jump(1)]),
        Plan(Tensor, frame=[0], steps=[JumpIfFalse(0, 1)]),
        Plan(Tensor, captures=[Capture(0, Variable([1.0]), F64, (1,), True)], frame=[0], unshare=abs),
    ]
    assert all(map(interpreter.suits, light)) and not any(map(interpreter.suits, heavy))
    taken = []
    monkeypatch.setattr(executor, "ready", lambda: False)
    monkeypatch.setattr(program, "ready", lambda: False)
    monkeypatch.setattr(interpreter, "run", lambda plan, leaves: taken.append(plan))
    monkeypatch.setattr(program, "native", lambda: types.SimpleNamespace(execute=lambda plan, leaves: None))
    for p in (*light, *heavy):
        p.run([])
    assert taken == light


def test_results_of_either_way_are_alike(lib, run):
    x = tensor(1, 2, 3)
    r = run(add_plan(lib), [x, x])._a
    assert r.ctypes.data % 64 == 0 and r.flags.owndata and r.base is None
