"""Errors name what the user called, with what, and on which line; eagerly as in traces."""

import inspect
import logging
import os
import re
import subprocess
import sys
import traceback
from types import FunctionType

import numpy as np
import pytest

import tracejit as tj
from tracejit import errors
from tracejit.errors import (
    DTypeError,
    OutOfRangeError,
    ShapeError,
    TracedValueError,
    TracejitError,
    UnsupportedError,
)

X = tj.ones((2, 3))
BOTH = pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])


def failure(f, *args):
    with pytest.raises(Exception) as caught:
        f(*args)
    return caught.value


def check_form(e):
    """What every error promises: short, with the user's line, and with the user's frames only."""
    text = str(e)
    assert isinstance(e, TracejitError), text
    assert len(text.splitlines()) <= 12
    assert "test_errors.py:" in text
    assert not any(errors.is_internal(frame.filename) for frame in traceback.extract_tb(e.__traceback__))
    assert os.path.dirname(tj.__file__) + os.sep not in "".join(traceback.format_exception(e))


# --- which function -----------------------------------------------------------------------------------------------
SEVEN = tj.ones((7,))
COMPOSED = {
    "tj.clip_by_value": lambda x: tj.clip_by_value(x, SEVEN, 1.0),
    "tj.nn.batch_normalization": lambda x: tj.nn.batch_normalization(x, SEVEN, SEVEN, None, None, 1e-3),
    "tj.random.normal": lambda x: tj.random.normal((-1,)),
    "tj.reduce_mean": lambda x: tj.reduce_mean(x, axis=5),
    "tj.reduce_sum": lambda x: tj.reduce_sum(x, axis=5),
    "tj.argmax": lambda x: tj.argmax(x, axis=5),
    "tj.argmin": lambda x: tj.argmin(x, axis=5),
    "tj.cumsum": lambda x: tj.cumsum(x, axis=5),
    "tj.math.cumprod": lambda x: tj.math.cumprod(x, axis=5),
    "tj.nn.softmax": lambda x: tj.nn.softmax(x, axis=5),
    "tj.nn.log_softmax": lambda x: tj.nn.log_softmax(x, axis=5),
    "tj.gather": lambda x: tj.gather(x, [0], axis=5),
    "tj.roll": lambda x: tj.roll(x, 1, axis=5),
    "tj.sort": lambda x: tj.sort(x, axis=5),
    "tj.argsort": lambda x: tj.argsort(x, axis=5),
    "tj.unstack": lambda x: tj.unstack(x, axis=5),
    "tj.expand_dims": lambda x: tj.expand_dims(x, axis=5),
    "tj.squeeze": lambda x: tj.squeeze(x, axis=5),
    "tj.split": lambda x: tj.split(x, 2, axis=5),
    "tj.concat": lambda x: tj.concat([x, x], axis=5),
    "tj.stack": lambda x: tj.stack([x, x], axis=5),
    "tj.reverse": lambda x: tj.reverse(x, [5]),
    "tj.repeat": lambda x: tj.repeat(x, 2, axis=5),
    "tj.linalg.trace": lambda x: tj.linalg.trace(x[0]),
    "tj.subtract": lambda x: tj.subtract(x, SEVEN),
    "tj.math.squared_difference": lambda x: tj.math.squared_difference(x, SEVEN),
    "tj.where": lambda x: tj.where(x > 0, x, SEVEN),
    "tj.matmul": lambda x: tj.matmul(x, x),
    "np.sum": lambda x: np.sum(x, axis=5),
    "v[key].assign": lambda x: VARIABLE[0].assign(SEVEN),
    "v[key].assign_add": lambda x: VARIABLE[0:1].assign_add(SEVEN),
    "Variable.assign": lambda x: VARIABLE.assign(SEVEN),
    "Variable.assign_sub": lambda x: VARIABLE.assign_sub(SEVEN),
    "tj.range": lambda x: tj.range(x),
}
VARIABLE = tj.Variable([1.0, 2.0])


@BOTH
@pytest.mark.parametrize("name", COMPOSED)
def test_errors_name_what_the_user_called(wrapper, name):
    e = failure(wrapper(COMPOSED[name]), X)
    check_form(e)
    assert str(e).startswith(f"{name}("), str(e)
    shown = str(e).splitlines()[0]
    if "axis=" in shown or "axis" in inspect.getsource(COMPOSED[name]):
        assert "5" in shown
    assert VARIABLE.numpy().tolist() == [1, 2]


@BOTH
@pytest.mark.parametrize("f", ["reduce_sum", "argmax", "cumsum", "sort", "squeeze", "split", "unstack", "roll"])
def test_axis_errors_show_the_rank_and_the_allowed_range(wrapper, f):
    more = {"split": (2,), "roll": (1,)}.get(f, ())
    text = str(failure(wrapper(lambda x: getattr(tj, f)(x, *more, axis=-3)), X))
    assert "axis -3 is outside -2 … 1 for a tensor of 2 axes" in text
    assert "f32[2,3]" in text
    assert "axis=-3" in text
    assert "0-d" in str(failure(wrapper(lambda x: tj.cumsum(x, axis=0)), tj.constant(1.0)))


@BOTH
def test_the_arguments_are_told_by_name_and_type(wrapper):
    e = failure(wrapper(lambda x: tj.clip_by_value(x, np.ones(4), [1.0, 2.0])), X)
    assert "tj.clip_by_value(t=f32[2,3], clip_value_min=f64[4], clip_value_max=[1.0, 2.0]): " in str(e)
    assert "(2, 3) and (4,)" in str(e)


def test_long_arguments_are_cut():
    assert len(str(failure(lambda: tj.reshape(list(range(1000)), "a" * 1000))).splitlines()[0]) < 250


def test_operators_keep_their_form():
    assert str(failure(lambda: X - SEVEN)).startswith("sub(f32[2,3], f32[7]): shapes (2, 3) and (7,)")
    assert str(failure(lambda: X @ X)).startswith("matmul(f32[2,3], f32[2,3]): left (2, 3), right (2, 3): 3 != 2")


def test_errors_of_running_programs_name_the_function():
    f = tj.function(lambda x, i: tj.nn.embedding_lookup(x, i))
    f(X, tj.constant([0]))
    e = failure(f, X, tj.constant([9]))
    assert isinstance(e, OutOfRangeError)
    assert str(e).startswith("tj.nn.embedding_lookup: index 9 is outside axis 0 of size 2")


# --- every public function --------------------------------------------------------------------------------------------
MODULES = {
    "tj": tj, "math": tj.math, "nn": tj.nn, "linalg": tj.linalg, "random": tj.random, "bitwise": tj.bitwise,
    "signal": tj.signal,
}  # fmt: skip
# these call the user's functions, or print, or take anything
OTHERS = {
    "benchmark", "case", "cond", "custom_gradient", "debug", "foldl", "foldr", "function", "get_threads", "is_tensor",
    "map_fn", "numpy_function", "print", "py_function", "recompute_grad", "scan", "set_threads", "switch_case",
    "threads", "vectorized_map", "vmap", "while_loop", "as_dtype", "get_global_generator",
}  # fmt: skip
WRONG = {
    "shape": X, "other shape": tj.ones((4, 5)), "text": "text", "none": None, "complex": tj.constant([1j, 2j, 3j]),
    "negative": -7, "ragged": [tj.ones((2,)), tj.ones((3,))],
}  # fmt: skip


def public_functions():
    seen = set()
    for m, module in MODULES.items():
        for name in module.__all__ if hasattr(module, "__all__") else [n for n in vars(module) if n[0] != "_"]:
            f = getattr(module, name)
            if type(f) is FunctionType and f.__module__.startswith("tracejit") and f not in seen and name not in OTHERS:
                seen.add(f)
                yield pytest.param(f, id=f"{m}.{name}")


def wrong_calls(f):
    """Calls with arguments of each wrong kind, by turns, and with an axis outside every tensor."""
    parameters = inspect.signature(f).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
    values = list(WRONG.values())
    for i in range(len(values)):
        yield [values[(i + 2 * j) % len(values)] for j in range(len(needed))], {}
    if "axis" in [p.name for p in parameters if p not in needed]:
        yield [X] * len(needed), {"axis": 99}


def called_with(f, args, kwargs, places):
    """The call as a function of the tensors among its arguments."""

    def call(*tensors):
        given = [tensors[places.index(i)] if i in places else a for i, a in enumerate(args)]
        return f(*given, **kwargs)

    return call


@pytest.mark.parametrize("f", list(public_functions()))
def test_wrong_arguments_of_every_public_function(f):
    names = {n for m in MODULES.values() for n in vars(m) if getattr(m, n) is f}
    for args, kwargs in wrong_calls(f):
        try:
            f(*args, **kwargs)
        except Exception as e:
            eager = e
        else:
            continue
        places = [i for i, a in enumerate(args) if isinstance(a, tj.Tensor)]
        traced = failure(tj.function(called_with(f, args, kwargs, places)), *[args[i] for i in places])
        for e in (eager, traced):
            check_form(e)
            head = re.match(r"tj\.[\w.]+", str(e))
            assert head, str(e)
            assert head[0].rpartition(".")[2] in names
        assert type(traced) is type(eager) or isinstance(traced, TracedValueError), (eager, traced)


# --- sizes ------------------------------------------------------------------------------------------------------------
def test_symbolic_sizes_are_shown_with_the_sizes_of_the_call():
    w = tj.ones((10, 5))
    f = tj.function(lambda x, y: (x @ w) + y)
    f(tj.ones((2, 10)), tj.ones((2, 5)))
    f(tj.ones((3, 10)), tj.ones((3, 5)))
    text = str(failure(f, tj.ones((32, 10)), tj.ones((31, 5))))
    assert "32" in text
    assert "31" in text
    f = tj.function(lambda x: tj.reshape(x, (3, -1)), input_signature=[tj.TensorSpec((None, 10), tj.float32)])
    for n in (32, 1, 64):
        text = str(failure(f, tj.ones((n, 10))))
        assert f"={n}, 10)" in text or f"({n}, 10)" in text, text
        assert f"={10 * n} elements" in text or f"({10 * n} elements" in text, text
    text = str(failure(f.get_concrete_function, tj.TensorSpec((None, 10), tj.float32)))
    assert "tensor=f32[d0_0,10]" in text  # of no call


def test_sizes_are_not_shown_in_graphs():
    f = tj.function(lambda x: x + 1, input_signature=[tj.TensorSpec(("n", 3), tj.float32)])
    assert "(%0: f32[n,3])" in str(f.graph(tj.ones((5, 3))))
    seen = []
    tj.function(lambda x: seen.append(repr(x)), input_signature=[tj.TensorSpec(("n", 3), tj.float32)])(tj.ones((5, 3)))
    assert "shape=(5, 3)" in seen[0]  # nor elsewhere: what Python is shown are numbers


# --- what tensors do not do -------------------------------------------------------------------------------------------
def set_item(x):
    x[0] = 1.0


def set_item_in_place(x):
    x[0] += 1.0


def delete_item(x):
    del x[0]


def loop(x):
    for _ in x:
        pass


def unpack(x):
    _a, _b = x


AS_WRITTEN = {"eager": lambda f: f, "as written": lambda f: tj.function(f, autograph=False)}


@pytest.mark.parametrize("wrapper", AS_WRITTEN.values(), ids=AS_WRITTEN)
@pytest.mark.parametrize("use", [set_item, set_item_in_place, delete_item])
def test_item_assignment(wrapper, use):
    e = failure(wrapper(use), X)
    check_form(e)
    assert isinstance(e, UnsupportedError)
    assert isinstance(e, TypeError)
    assert "does not support item" in str(e)
    assert "x[0]" in str(e)
    if use is not delete_item:
        assert "remedy: keep what changes in a tj.Variable" in str(e)


def test_item_assignment_to_a_variable():
    def f():
        VARIABLE[0] = 1.0

    assert "v[key].assign(value)" in str(failure(f))


@BOTH
@pytest.mark.parametrize(
    "use",
    [lambda x: len(x), loop, lambda x: [y + 1 for y in x], lambda x: list(x), unpack, lambda x: sum(x),
     lambda x: max(x)],
    ids=["len", "for", "comprehension", "list", "unpacking", "sum", "max"],
)  # fmt: skip
def test_tensors_without_axes(wrapper, use):
    e = failure(wrapper(use), tj.constant(1.0))
    check_form(e)
    assert isinstance(e, TypeError)
    assert "axes" in str(e) or "axis" in str(e)


@BOTH
def test_wrong_keys(wrapper):
    for key in ("a", 1.5, (0, 0, 0), 7):
        e = failure(wrapper(lambda x, key=key: x[key]), X)
        check_form(e)
        assert isinstance(e, OutOfRangeError)


# --- tracebacks -------------------------------------------------------------------------------------------------------
def test_the_whole_traceback_of_an_eager_error_on_request(monkeypatch):
    e = failure(lambda: X - SEVEN)
    check_form(e)
    assert errors.whole_traceback(e) is not None
    monkeypatch.setenv("TRACEJIT_FULL_TRACEBACK", "1")
    assert any(errors.is_internal(frame.filename) for frame in traceback.extract_tb(e.__traceback__))


def test_a_traceback_can_be_set():
    e = failure(lambda: X - SEVEN)
    assert e.with_traceback(None).__traceback__ is None
    assert str(e).startswith("sub(")
    e = ShapeError("mine")
    e.__traceback__ = None
    assert str(e) == "mine"


def test_errors_in_logs(caplog):
    try:
        tj.reduce_sum(X, axis=9)
    except ShapeError as e:
        logging.getLogger("test").error("failed", exc_info=e)
    assert "tj.reduce_sum(input_tensor=f32[2,3], axis=9)" in caplog.text
    assert os.path.dirname(tj.__file__) + os.sep not in caplog.text


def test_the_users_names_are_shown():
    """Not those of what the conversion makes."""

    def traced(x):
        def inner(a, b):
            return a

        return inner(x)

    for f in (traced, lambda x: (lambda a, b: a)(x)):
        e, plain = failure(tj.function(f), 1.0), failure(f, 1.0)
        assert type(e) is TypeError
        assert str(e) == str(plain)


# --- narrowing --------------------------------------------------------------------------------------------------------
SMALL = tj.constant([1, 2], dtype=tj.int8)
NARROWED = {
    "a number": lambda: [300], "a float": lambda: [1.7], "an array": lambda: np.array([300]),
    "floats": lambda: np.array([1.0]), "a tensor": lambda: tj.constant([300]),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("kind", NARROWED)
@pytest.mark.parametrize("f", [tj.tensor_scatter_nd_update, tj.tensor_scatter_nd_add])
def test_updates_are_not_narrowed(wrapper, f, kind):
    e = failure(wrapper(lambda: f(SMALL, [[0]], NARROWED[kind]())))
    check_form(e)
    assert isinstance(e, DTypeError)
    assert f(SMALL, [[0]], [100]).numpy().tolist()[1] == 2


@BOTH
@pytest.mark.parametrize("value", [300, 1.5, tj.constant(1.5), tj.constant(300)])
def test_values_that_fill_are_not_narrowed(wrapper, value):
    for f in (
        lambda: tj.pad(SMALL, [[1, 1]], constant_values=value),
        lambda: np.full_like(SMALL, value),
        lambda: tj.Variable([1, 2], dtype=tj.int8)[0].assign(value) if wrapper is not tj.function else tj.cast("a", 1),
    ):
        assert isinstance(failure(wrapper(f)), DTypeError)


# --- Variables --------------------------------------------------------------------------------------------------------
@BOTH
def test_variables_are_unchanged_after_errors(wrapper):
    v, w = tj.Variable([1.0, 2.0]), tj.Variable([3, 4], dtype=tj.int8)

    def attempts():
        yield lambda x: v.assign_add(SEVEN)
        yield lambda x: v[0].assign(SEVEN)
        yield lambda x: v[5].assign(1.0)
        yield lambda x: v[0].assign(1j)
        yield lambda x: w.assign_add([300, 1])
        yield lambda x: w[1].assign_sub(1.5)
        yield lambda x: w.assign([1, 2, 3])
        if wrapper is tj.function:
            yield lambda x: (v.assign([9.0, 9.0]), x @ x)
            yield lambda x: (w.assign_add([1, 1]), tj.gather(x, tj.constant([9])))

    for f in attempts():
        assert isinstance(failure(wrapper(f), X), TracejitError)
        assert v.numpy().tolist() == [1, 2]
        assert w.numpy().tolist() == [3, 4]


def test_an_uncaught_error_is_short(tmp_path):
    """The lines that the traceback shows are not shown again."""
    script = tmp_path / "script.py"
    env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(tj.__file__))}
    for line in ("del x[0]", "tj.zeros(3, 'text')"):
        for decorator in ("", "@tj.function\n"):
            script.write_text(f"import tracejit as tj\n{decorator}def f(x):\n    {line}\nf(tj.ones((3,)))\n")
            said = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env).stderr
            assert said.count(line) == 1
            assert "f(tj.ones((3,)))" in said
            assert len(said.splitlines()) <= 12
            assert os.path.dirname(tj.__file__) + os.sep not in said


# --- the command line -------------------------------------------------------------------------------------------------
def test_bench_shows_errors_of_the_users_function_only(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text('def fails():\n    return {}["missing"]\n')
    root = os.path.dirname(os.path.dirname(tj.__file__))
    env = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-m", "tracejit", "bench", f"{file}:fails"]
    r = subprocess.run(command, capture_output=True, text=True, env=env)
    assert r.returncode == 1
    assert "KeyError: 'missing'" in r.stderr
    assert 'return {}["missing"]' in r.stderr
    assert os.path.dirname(tj.__file__) + os.sep not in r.stderr
    assert "runpy" not in r.stderr
    r = subprocess.run([*command, "--args", "x"], capture_output=True, text=True, env=env)
    assert r.stderr.startswith("ArgumentError: 'x' is no Python literal")


@pytest.mark.parametrize(("kernels", "said"), [(1, "  1 kernel, 3 before fusion"), (2, "  2 kernels, 3 before fusion")])
def test_bench_counts_kernels(kernels, said):
    timing = tj.benchmark(lambda x: x + 1, X, repeat=1, min_time=0.0)
    made = type(timing)("f", timing.eager, timing.traced, 0.0, {"kernels": kernels, "kernels_unfused": 3})
    assert said in str(made).splitlines()


def test_kernels_before_fusion_are_no_fewer():
    f = tj.function(lambda x: tj.transpose(x))
    f(X)
    assert f.stats()["kernels_unfused"] >= f.stats()["kernels"] == 1
