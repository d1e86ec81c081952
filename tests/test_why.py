"""Missing gradients explain themselves: `tape.why`, and `unconnected_gradients="raise"`."""

import gc
import re
import weakref

import numpy as np
import pytest

import tracejit as tj

V = tj.Variable([1.0, 2.0])
CUTS = {
    "comparison": (lambda x: tj.cast(x > 1.5, tj.float32) * 2.0, r"cut at `greater`.*result is bool\[2\]"),
    "integers": (lambda x: tj.cast(tj.cast(x * 3.0, tj.int32), tj.float32) * V, r"cut at `cast`.*result is i32\[2\]"),
    "positions": (lambda x: tj.argmax(x), r"cut at `argmax`.*i64"),
    "stop": (lambda x: tj.stop_gradient(x) * 2.0, "cut at `stop_gradient`.*stops gradients"),
    "steps": (lambda x: tj.floor(x) * 2.0, "cut at `floor`.*no gradient"),
    "unused": (lambda x: V * 2.0, "no operation that the tape heard after watching a tensor f32.2. uses it"),
    "apart": (lambda x: (x * 1.0, V * 2.0)[1], "nothing that the target is computed from follows from the source"),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", CUTS)
def test_what_cuts_the_path(name, traced):
    f, words = CUTS[name]
    found = []

    def run(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        before = tape.why(y, x)
        assert tape.gradient(y, x) is None
        found.append((before, tape.why(y, x)))
        return x

    (tj.function(run) if traced else run)(tj.constant([1.0, 2.0]))
    for text in found[0]:
        assert re.search(words, text), text
    if "cut at" in found[0][0]:
        assert "test_why.py" in found[0][0], "it names the line"
        assert "path: source → " in found[0][0]


def test_values_that_leave_the_tape():
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = tj.constant(tj.exp(x).numpy() * 2.0) * V
        z = tj.constant(float(tj.reduce_sum(x)))
    assert "was taken by" in tape.why(y, x)
    assert "float()" in tape.why(z, x)
    assert "test_why.py" in tape.why(y, x)


def test_what_is_not_watched():
    x, w, u = tj.constant(1.0), tj.Variable(2.0, trainable=False), tj.Variable(3.0)
    with tj.GradientTape() as tape:
        y = x * w * V
    assert tape.gradient(y, [x, w, u]) == [None, None, None]
    assert "tape.watch(x)" in tape.why(y, x)
    assert "not trainable" in tape.why(y, w)
    assert "was not read" in tape.why(y, u)
    assert "only floating" in tj.GradientTape().why(y, tj.constant(1))
    with tj.GradientTape(watch_accessed_variables=False) as tape:
        y = u * 2.0
    assert "watch_accessed_variables=False" in tape.why(y, u)


def test_what_is_connected():
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(tj.exp(x) * 2.0)
    assert tape.why(y, x) == "the target depends on the source: source → exp → mul → reduce_sum → target"
    assert tape.gradient(y, x) is not None
    with pytest.raises(tj.errors.GradientError, match="forgotten"):
        tape.why(y, x)
    with pytest.raises(tj.errors.ArgumentError, match=r"tape\.why takes"):
        tj.GradientTape().why(1.0, x)


def test_a_result_of_a_traced_function_that_is_cut_off_inside():
    f = tj.function(lambda x: (tj.floor(x) * 2.0, tj.sin(x)))
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(x)
        a, b = f(x)
        c = a + 1.0
    text = tape.why(c, x)
    assert "inside, no gradient flows through `floor`" in text
    assert "test_why.py" in text
    assert "depends on the source" in tape.why(b, x)


@pytest.mark.parametrize("mode", ["raise", tj.UnconnectedGradients.RAISE])
def test_raising_instead(mode):
    x = tj.constant([1.0, 2.0])
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = tj.stop_gradient(x) * V
    with pytest.raises(tj.errors.GradientError, match="cut at `stop_gradient`"):
        tape.gradient(y, [V, x], unconnected_gradients=mode)
    with pytest.raises(tj.errors.GradientError, match="cut at `stop_gradient`"):
        tape.jacobian(y, x, unconnected_gradients=mode)
    assert tape.gradient(y, V, unconnected_gradients=mode).numpy().tolist() == [1.0, 2.0]

    @tj.function
    def traced(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.round(x)
        return tape.gradient(y, x, unconnected_gradients=mode)

    with pytest.raises(tj.errors.GradientError, match="cut at `round`"):
        traced(x)


def test_what_is_noted_holds_no_tensors():
    x = tj.constant(np.ones(1000))
    with tj.GradientTape() as tape:
        tape.watch(x)
        hidden = tj.exp(x)
        mask = hidden > 1.0
        y = tj.reduce_sum(tj.cast(mask, tj.float32))
        gone = weakref.ref(mask), weakref.ref(hidden)
        del mask
        gc.collect()
        assert gone[0]() is None
    assert tape.gradient(y, x) is None
    del hidden
    gc.collect()
    assert gone[1]() is None
    assert "greater" in tape.why(y, x)
