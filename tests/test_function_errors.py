"""Errors in and around traces: what they say, whose frames they show, and what they leave behind."""

import os
import re
import subprocess
import sys
import traceback
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import tracejit as tj
from tracejit import concrete, differentiate, errors
from tracejit.errors import (
    CompileWarning,
    ConversionWarning,
    DTypeError,
    LeakedTensorError,
    ShapeError,
    TracedValueError,
)  # fmt: skip
from tracejit.lower import compiler
from tracejit.lower.binding import Binding
from tracejit.lower.kernel import Lowering
from tracejit.lower.program import Program
from tracejit.passes import pipeline, simplify
from tracejit.passes.fuse import Fuser
from tracejit.runtime.program import Plan

X = np.arange(3, dtype=np.float32)


def failure(f, *args):
    with pytest.raises(Exception) as caught:
        f(*args)
    return caught.value


def frames(error):
    """Files in the traceback, without that of this test's own harness."""
    return [fr.filename for fr in traceback.extract_tb(error.__traceback__)]


def model(x, w):
    h = tj.nn.relu(x)
    return h @ w  # the line at fault


# --- what an error says -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_shape_errors_show_op_shapes_and_line(wrapper):
    e = failure(wrapper(model), tj.ones((2, 3)), tj.ones((4, 5)))
    text = str(e)
    assert isinstance(e, ShapeError)
    assert isinstance(e, ValueError)
    assert "matmul" in text
    assert "(2, 3)" in text
    assert "(4, 5)" in text
    assert "test_function_errors.py" in text
    assert "h @ w  # the line at fault" in text
    assert re.search(r"^ +\^{5}$", text, re.MULTILINE)
    assert len(text.splitlines()) <= 12


def test_the_carets_stand_below_the_expression():
    lines = str(failure(tj.function(model), tj.ones((2, 3)), tj.ones((4, 5)))).splitlines()
    at = next(i for i, line in enumerate(lines) if "h @ w" in line)
    assert lines[at + 1].index("^") == lines[at].index("h @ w")


def test_dtype_errors():
    e = failure(tj.function(lambda x: tj.bitwise.bitwise_and(x, x)), X)
    assert isinstance(e, DTypeError)
    assert isinstance(e, TypeError)
    assert "float32" in str(e)
    assert len(str(e).splitlines()) <= 12


def test_our_frames_are_not_shown():
    e = failure(tj.function(model), tj.ones((2, 3)), tj.ones((4, 5)))
    printed = "".join(traceback.format_exception(e))
    assert "def model" not in printed
    assert not any(map(errors.is_internal, frames(e)))
    assert frames(e)[-1] == __file__
    assert e.__cause__ is None
    assert e.__suppress_context__


def fails_at_run_time(x, i):
    return tj.sort(x)[i] + 1


@pytest.mark.parametrize("python", [False, True], ids=["native", "in Python"])
@pytest.mark.parametrize("tape", [False, True], ids=["", "under a tape"])
def test_our_frames_do_not_reach_those_who_catch(monkeypatch, python, tape):
    """Neither in the first call, which traces, nor in later ones."""
    if python:
        monkeypatch.setattr(Plan, "run", Plan.run_python)
    shapes, index = tj.function(model), tj.function(fails_at_run_time)
    x, w, i = tj.ones((2, 3)), tj.ones((3, 5)), tj.constant(0)
    with tj.GradientTape() if tape else nullcontext():
        for _ in range(2):
            caught = [
                failure(shapes, x, tj.ones((4, 5))), failure(index, x[0], tj.constant(9)), failure(shapes, x),
                failure(shapes.graph, x, x), failure(shapes.get_concrete_function, x, x), failure(shapes.explain, x, x),
            ]  # fmt: skip
            shapes(x, w)
            index(x[0], i)
    caught.append(failure(shapes.get_concrete_function(x, w), x, x))
    for e in caught:
        assert not any(map(errors.is_internal, frames(e))), traceback.format_exception(e)
        assert not any("inspect.py" in f for f in frames(e))
        assert len(str(e).splitlines()) <= 12
    assert isinstance(caught[2], TypeError)
    assert "missing a required argument: 'w'" in str(caught[2])


def test_frames_of_users_stay():
    def outer(x):
        return tj.function(inner)(x) + 1

    def inner(x):
        return {}["missing"]

    e = failure(tj.function(outer), X)
    assert [fr.name for fr in traceback.extract_tb(e.__traceback__)] == ["failure", "outer", "inner"]


def failing_script(folder, text):
    """What a script that fails writes to standard error, in which there is no line of ours."""
    script = folder / "script.py"
    script.write_text(text)
    root = os.path.dirname(os.path.dirname(tj.__file__))
    r = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert r.returncode == 1
    assert os.path.dirname(tj.__file__) not in r.stderr
    return r.stderr


def test_an_uncaught_error_of_a_running_program_names_the_line(tmp_path):
    said = failing_script(
        tmp_path,
        "import tracejit as tj\n@tj.function\ndef f(x, i):\n    return x[i]\n"
        "x = tj.ones((3,))\nf(x, tj.constant(1))\nf(x, tj.constant(7))\n",
    )
    assert "index 7 is outside axis 0 of size 3" in said
    assert "return x[i]" in said
    assert "f(x, tj.constant(7))" in said


def test_a_script_that_fails_shows_its_own_lines_only(tmp_path):
    said = failing_script(
        tmp_path,
        "import tracejit as tj\ndef model(x):\n    return x @ tj.ones((4, 5))\ntj.function(model)(tj.ones((2, 3)))\n",
    )
    assert "in model" in said
    assert "(4, 5)" in said
    assert len(said.splitlines()) <= 12


def test_the_whole_traceback_on_request(monkeypatch):
    monkeypatch.setenv("TRACEJIT_FULL_TRACEBACK", "1")
    e = failure(tj.function(model), tj.ones((2, 3)), tj.ones((4, 5)))
    assert any(f.endswith("tracing.py") for f in frames(e))
    monkeypatch.setenv("TRACEJIT_FULL_TRACEBACK", "0")
    e = failure(tj.function(model), tj.ones((2, 3)), tj.ones((4, 5)))
    assert not any(map(errors.is_internal, frames(e)))


def test_errors_in_nested_functions_name_the_innermost_line():
    inner = tj.function(model)
    outer = tj.function(lambda x: inner(x, tj.ones((7, 1))))
    text = str(failure(outer, tj.ones((2, 3))))
    assert "in model" in text
    assert len(text.splitlines()) <= 12


def test_errors_in_gradients_of_a_trace():
    @tj.function
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = x * 2
        tape.gradient(y, x)
        return tape.gradient(y, x)

    assert "persistent" in str(failure(f, tj.constant(X)))


def test_exceptions_of_the_user_pass_through():
    class Mine(Exception):
        pass

    @tj.function
    def f(x):
        raise Mine("stop")

    assert isinstance(failure(f, X), Mine)
    assert isinstance(failure(tj.function(lambda x: {}["missing"]), X), KeyError)
    assert isinstance(failure(tj.function(lambda x: x.no_such_attribute), tj.constant(X)), AttributeError)


def test_a_failed_trace_can_be_tried_again():
    bad = [True]

    @tj.function
    def f(x):
        if bad[0]:
            raise RuntimeError("not yet")
        return x + 1

    failure(f, X)
    failure(f, X)
    bad[0] = False
    assert f(X).numpy().tolist() == [1, 2, 3]
    assert f.experimental_get_tracing_count() == 1


# --- values that are not there yet ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "use",
    [lambda t: t.numpy(), lambda t: np.asarray(t), lambda t: b"ab"[tj.cast(t, tj.int32)],
     lambda t: t.item(), lambda t: tuple(range(tj.cast(t, tj.int32))), lambda t: t.tolist(),
     lambda t: np.sum(t + 0).item()],
    ids=["numpy", "asarray", "index", "item", "range", "tolist", "np.sum"],
)  # fmt: skip
def test_asking_for_a_traced_value(use):
    def f(x):
        total = tj.reduce_sum(x)
        return use(total)

    e = failure(tj.function(f), tj.constant(X))
    assert isinstance(e, TracedValueError)
    assert isinstance(e, TypeError)
    assert "remedy" in str(e)
    assert "test_function_errors.py" in str(e)
    assert len(str(e).splitlines()) <= 12


def test_printing_a_traced_tensor_is_fine():
    seen = []
    tj.function(lambda x: seen.append((repr(x), str(x))))(tj.constant(X))
    assert all("shape=(3,)" in s for s in seen[0])


# --- tensors that outlive their trace ---------------------------------------------------------------------------------
def test_a_leaked_tensor_names_the_line_that_made_it():
    box = []

    @tj.function(autograph=False)
    def f(x):
        box.append(x * 2.0)
        box.append(x)
        return x + 1

    f(tj.constant(X))
    for use in (
        lambda t: t + 1,
        lambda t: tj.exp(t),
        lambda t: t.numpy(),
        lambda t: tj.stack([t, t]),
        lambda t: tj.Variable(t),
    ):
        e = failure(use, box[0])
        assert isinstance(e, LeakedTensorError), e
        assert isinstance(e, RuntimeError)
        assert "box.append(x * 2.0)" in str(e)
        assert len(str(e).splitlines()) <= 12
    assert "argument" in str(failure(lambda t: t + 1, box[1]))


def test_a_leaked_tensor_in_another_trace():
    box = []
    tj.function(lambda x: box.append(x * 2.0), autograph=False)(tj.constant(X))
    assert isinstance(failure(tj.function(lambda x: x + box[0]), X), LeakedTensorError)
    v = tj.Variable([0.0, 0.0, 0.0])
    assert isinstance(failure(v.assign, box[0]), LeakedTensorError)
    assert v.numpy().tolist() == [0, 0, 0]


def test_a_tensor_of_an_outer_trace_may_be_used_in_an_inner_one():
    @tj.function
    def f(x):
        y = x * 2
        return tj.function(lambda z: z + y)(x)

    assert f(X).numpy().tolist() == [0, 3, 6]


# --- failed calls -----------------------------------------------------------------------------------------------------
def test_a_call_that_fails_while_traced_leaves_variables():
    v, w = tj.Variable(X), tj.Variable(1.0)

    @tj.function
    def f(x):
        v.assign_add(x)
        w.assign(5.0)
        return v @ tj.ones((7, 7))

    before = v.numpy()
    failure(f, X)
    assert v.numpy().tolist() == before.tolist()
    assert float(w) == 1.0
    v.assign(X)


def test_a_call_that_fails_while_it_runs_leaves_variables():
    v, w = tj.Variable(X), tj.Variable(1.0)

    @tj.function
    def f(x, i):
        v.assign_add(x)
        w.assign_add(1.0)
        y = tj.gather(x, i)
        w.assign_add(tj.reduce_sum(y))
        return y

    f(X, np.array([0, 1]))
    assert float(w) == 3.0
    for _ in range(2):
        assert isinstance(failure(f, X, np.array([0, 7])), IndexError)
        assert v.numpy().tolist() == (X * 2).tolist()
        assert float(w) == 3.0
    f(X, np.array([2, 2]))
    assert v.numpy().tolist() == (X * 3).tolist()
    assert float(w) == 8.0


def test_errors_of_operations_on_the_host():
    f = tj.function(lambda x, i: tj.gather(x, i))
    assert f(X, np.array([1])).numpy().tolist() == [1]
    for _ in range(3):
        e = failure(f, X, np.array([9]))
        assert isinstance(e, IndexError)
        assert "9" in str(e)
    assert f(X, np.array([2])).numpy().tolist() == [2]


def test_wrong_dtypes_are_not_assigned():
    v = tj.Variable(np.zeros(3, np.int32))

    @tj.function
    def f(x):
        v.assign(x)

    assert isinstance(failure(f, X), DTypeError)
    assert isinstance(failure(f, np.zeros(4, np.int32)), ShapeError)
    assert v.numpy().tolist() == [0, 0, 0]


# --- when compiling fails ---------------------------------------------------------------------------------------------
def broken(*args, **kwargs):
    raise RuntimeError("no compiler today")


@pytest.mark.parametrize("where", ["units", "machine code"])
def test_the_interpreter_takes_over_with_one_warning(monkeypatch, where):
    if where == "units":
        monkeypatch.setattr(Program, "_units", broken)
    else:
        monkeypatch.setattr(compiler, "compile_all", broken)
    v = tj.Variable(X)

    @tj.function
    def f(x, k):
        v.assign_add(x * k)
        return {"y": tj.nn.softmax(x) + k, "v": v * 1.0}

    with pytest.warns(CompileWarning, match=r"f could not be compiled.*no compiler today") as caught:
        f(X, 1.0)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = f(X, 2.0)
    np.testing.assert_allclose(out["y"], np.exp(X - 2) / np.exp(X - 2).sum() + 2, rtol=1e-6)
    assert v.numpy().tolist() == (X * 4).tolist()
    assert out["v"].numpy().tolist() == (X * 4).tolist()
    assert "interpreter" in f.explain(X, 2.0)
    assert f.stats()["kernels"] >= 4


PASSES = {
    "simplify": (pipeline, "rebuild"), "chains": (pipeline, "chains"), "prepare": (concrete, "prepare"),
    "fusion": (Fuser, "run"), "a kernel": (Lowering, "build"), "binding": (Binding, "finish"),
    "partition": (differentiate, "partition"),
}  # fmt: skip


@pytest.mark.parametrize("error", [RuntimeError, ShapeError])
@pytest.mark.parametrize("name", PASSES)
def test_faults_of_passes_do_not_reach_the_user(monkeypatch, name, error):
    """One warning for all traces of a function, and the right results, with gradients of any order."""

    def fault(*args, **kwargs):
        raise error("an internal fault")

    monkeypatch.setattr(tj.config, "check", False)
    v = tj.Variable(X)

    def work(x):
        v.assign_add(tj.ones((3,)))
        y = tj.sin(x) * 1.0 + tj.reduce_sum(v)
        return y, tj.cos(x)

    traced = tj.function(work)
    monkeypatch.setattr(*PASSES[name], fault)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = []
        for f in (work, traced):
            v.assign(X)
            out = [*f(tj.constant(X)), *f(tj.constant(X.astype(np.float64)))]
            x = tj.constant(X)
            with tj.GradientTape() as outer:
                outer.watch(x)
                with tj.GradientTape() as tape:
                    tape.watch(x)
                    y, z = f(x)
                g = tape.gradient(y, x)
            got.append([t.numpy() for t in (*out, y, z, g, outer.gradient(g, x))] + [v.numpy()])
    assert [w.category for w in caught] == [CompileWarning]
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert "an internal fault" in text
    assert "report" in text
    assert "TRACEJIT_CHECK" in text
    for a, b in zip(*got):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr(tj.config, "check", True)
    with pytest.raises(error, match="internal fault"), tj.GradientTape() as tape:
        if name == "partition":
            tape.watch(x)
        tj.function(work)(x)


def test_the_warning_names_the_pass(monkeypatch):
    def fault(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(tj.config, "check", False)
    monkeypatch.setattr(simplify, "fold", fault)
    with pytest.warns(CompileWarning, match=r"in pass simplify\.\w+ \(passes/simplify\.py:\d+\)"):
        assert tj.function(lambda x: x * tj.sqrt(tj.constant(4.0)))(X).numpy().tolist() == [0, 2, 4]


def test_errors_of_the_users_own_gradient_are_not_taken_for_faults():
    @tj.custom_gradient
    def f(x):
        def back(g):
            raise KeyError("mine")

        return x * 2, back

    g = tj.function(lambda x: f(x) + 1)
    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        with pytest.warns(ConversionWarning, match="gradient function of f raises an error"):
            y = g(x)
    assert isinstance(failure(tape.gradient, y, x), KeyError)


def test_gradients_in_the_interpreter(monkeypatch):
    monkeypatch.setattr(compiler, "compile_all", broken)
    w = tj.Variable([1.0, 2.0, 3.0])
    f = tj.function(lambda x: tj.reduce_sum(tj.tanh(w * x)))
    x = tj.constant(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        gx, gw = tape.gradient(y, [x, w])
    slope = 1 - np.tanh(np.arange(1, 4) * X) ** 2
    np.testing.assert_allclose(gx, slope * np.arange(1, 4), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gw, slope * X, rtol=1e-5, atol=1e-6)


def test_checks_raise_what_compiling_raises(monkeypatch):
    monkeypatch.setattr(tj.config, "check", True)
    monkeypatch.setattr(compiler, "compile_all", broken)
    with pytest.raises(RuntimeError, match="no compiler today"):
        tj.function(lambda x: x + 1)(X)


CALLS = {
    "fits": ([tj.TensorSpec([None])], lambda f: f([1.0, 2.0])),
    "dtype": ([tj.TensorSpec([None])], lambda f: f(tj.ones(2) > 0)),
    "rank": ([tj.TensorSpec([None])], lambda f: f([[1.0]])), "none given": ([tj.TensorSpec()], lambda f: f()),
    "too many": ([tj.TensorSpec()], lambda f: f(1.0, 2.0, 3.0)),
    "by name": ([tj.TensorSpec()], lambda f: f(x=2.0, k=3.0)),
    "an array": ([tj.TensorSpec([2])], lambda f: f(np.ones(2, np.float32))),
    "a size": ([tj.TensorSpec([2])], lambda f: f(np.ones(3, np.float32))),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_signature_holds_in_debug_too(name):
    specs, call = CALLS[name]
    f = tj.function(lambda x, k=2.0: x * k, input_signature=specs)
    seen = []
    for plain in (False, True):
        with tj.debug() if plain else nullcontext():
            try:
                seen.append(np.asarray(call(f)).tolist())
            except errors.TracejitError as e:
                seen.append((type(e), e.message))
    assert seen[0] == seen[1]


def test_the_signature_of_a_method_holds_in_debug_too():
    class Model:
        @tj.function(input_signature=[tj.TensorSpec([None])])
        def double(self, x):
            return x * 2.0

    with tj.debug():
        assert Model().double([1.0, 2.0]).numpy().tolist() == [2.0, 4.0]
        with pytest.raises(errors.ArgumentError, match="the signature wants"):
            Model.double(Model(), tj.constant([1, 2]))
