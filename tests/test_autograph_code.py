"""Which code is converted, and what runs where it is not: text, decorators, fallbacks, debugging, lines."""

import gc
import linecache
import sys
import threading
import traceback
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ControlFlowError, ConversionError, ConversionWarning, ShapeError, TracedValueError

ONE, MINUS_ONE = tj.constant(1.0), tj.constant(-1.0)


def line(f, k):
    return f"test_autograph_code.py:{f.__code__.co_firstlineno + k}"


def absolute(x):
    if x > 0:
        return x
    return -x


def clashing(x):
    if x > 0:
        y = "positive"
    else:
        y = x
    return x * len(y if isinstance(y, str) else "x")


def both(f):
    return [float(f(x)) for x in (ONE, MINUS_ONE)]


# --- names ------------------------------------------------------------------------------------------------------------
def test_the_namespace():
    assert tj.autograph.experimental.do_not_convert is tj.autograph.do_not_convert
    assert "ag__.if_" in tj.autograph.to_code(absolute)
    assert tj.autograph.to_code(absolute).startswith("def absolute(x):")
    assert float(tj.autograph.to_graph(absolute)(MINUS_ONE)) == 1.0
    assert tj.autograph.to_code(tj.function(absolute)) == tj.autograph.to_code(absolute)
    for f in (tj.autograph.to_code, tj.autograph.to_graph):
        with pytest.raises(ControlFlowError, match="source text"):
            f(without_text("lambda x: x"))
        with pytest.raises(tj.errors.SignatureError):
            f(len)


@pytest.mark.parametrize("mark", [tj.autograph.do_not_convert, tj.autograph.do_not_convert()])
def test_functions_that_are_not_converted(mark):
    marked = mark(absolute)
    assert marked.__name__ == "absolute"
    with pytest.raises(ControlFlowError, match="absolute is not converted: it is marked with do_not_convert") as caught:
        tj.function(lambda x: marked(x) * 2.0)(ONE)
    assert "tj.cond" in str(caught.value)
    assert line(absolute, 1) in str(caught.value)
    assert both(tj.function(absolute)) == [1.0, 1.0]  # the function itself is as before
    assert float(marked(MINUS_ONE)) == 1.0

    class Model:
        @mark
        def step(self, x):
            return tj.cond(x > 0, lambda: x, lambda: -x)

        @staticmethod
        @mark
        def still(x):
            return x * 2.0

    assert both(tj.function(Model().step)) == [1.0, 1.0]
    assert float(tj.function(Model.still)(ONE)) == 2.0


def test_conversion_switched_off():
    f = tj.function(absolute, autograph=False)
    with pytest.raises(ControlFlowError, match="autograph=False"):
        f(ONE)

    class Model:
        @tj.function(autograph=False)
        def step(self, x):
            return absolute(x)

    with pytest.raises((ControlFlowError, TracedValueError), match=r"tj\.where"):
        Model().step(ONE)
    with pytest.raises(ControlFlowError, match="autograph=False"):  # also as part of another function
        tj.function(lambda x: f(x))(ONE)


# --- text -------------------------------------------------------------------------------------------------------------
def without_text(text):
    space = {"tj": tj}
    exec(f"f = {text}" if text.startswith("lambda") else text, space)
    return space["f"]


def test_code_without_text_says_so():
    f = tj.function(without_text("def f(x):\n    while x > 1:\n        x = x / 2\n    return x\n"))
    with pytest.raises(ControlFlowError, match=r"source text of f .*exec.* is not available") as caught:
        f(ONE)
    assert "tj.while_loop" in str(caught.value)
    assert "<string>:2" in str(caught.value)
    assert float(tj.function(without_text("lambda x: x * 2"))(ONE)) == 2.0


def test_equal_code_with_and_without_text():
    text = "def f(x):\n    if x > 2:\n        return x\n    return -x\n"
    for name in ("<one cell>", "<another cell>"):
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    try:
        found = []
        for name in ("<none>", "<one cell>", "<another cell>"):
            space = {}
            exec(compile(text, name, "exec"), space)
            found.append(tj.function(space["f"]))
        with pytest.raises(ControlFlowError):
            found[0](ONE)
        for f in found[1:]:
            assert both(f) == [-1.0, 1.0]
    finally:
        for name in ("<one cell>", "<another cell>"):
            del linecache.cache[name]


def test_lambdas_of_one_line_are_told_apart():
    f, g = (lambda x: x + 1.0 if x > 0 else x), (lambda x: x * 2.0 if x > 0 else -x)
    assert both(tj.function(f)) == [2.0, -1.0]
    assert both(tj.function(g)) == [2.0, 1.0]
    a, b = (lambda x: 1.0 if x > 0 else 2.0), (lambda x: 1.0 if x > 0 else 3.0)
    assert [float(tj.function(h)(MINUS_ONE)) for h in (a, b)] == [2.0, 3.0]
    same = [(lambda x: x if x > 0 else -x), (lambda x: x if x > 0 else -x)]
    assert [both(tj.function(h)) for h in same] == [[1.0, 1.0]] * 2
    k, m = 5.0, 7.0
    p, q = (lambda x: k if x > 0 else x), (lambda x: m if x > 0 else x)
    assert [float(tj.function(h)(ONE)) for h in (p, q)] == [5.0, 7.0]
    inner = (lambda y: (lambda x: x * y if x > 0 else y))(3.0)
    assert both(tj.function(inner)) == [3.0, 3.0]
    r, s = (lambda x, n=2.0: x * n if x > 0 else x), (lambda x, n=4.0: x * n if x > 0 else x)
    assert [float(tj.function(h)(ONE)) for h in (r, s)] == [2.0, 4.0]


def test_private_names_and_classes_in_functions():
    class Counter:
        def __init__(self):
            self.__start = 10.0

        def __step(self, x):
            return x + self.__start if x > 0 else x

        @tj.function
        def run(self, x):
            __local = self.__step(x)
            if __local > 5:
                __local = __local * 2.0
            return __local

    assert both(Counter().run) == [22.0, -1.0]

    @tj.function
    def f(x):
        class Pair:
            def first(self, y):
                if y > 0:
                    return y * 3.0
                return y

        return Pair().first(x)

    assert both(f) == [3.0, -1.0]


# --- what cannot be compiled ------------------------------------------------------------------------------------------
def test_a_function_that_cannot_be_compiled_runs_as_python():
    f = tj.function(clashing)
    with pytest.warns(ConversionWarning, match="clashing runs as plain Python: 'y' is str") as told:
        assert both(f) == [8.0, -1.0]
    assert len(told) == 1
    assert line(clashing, 1) in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert both(f) == [8.0, -1.0]  # told once
    x = tj.constant(2.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert float(tape.gradient(y, x)) == 8.0
    np.testing.assert_allclose(f(np.float64(2.0)), 16.0)


def test_what_cannot_be_compiled_is_an_error_of_strict_functions():
    for f in (tj.function(clashing, strict=True), tj.function(strict=True)(clashing)):
        with pytest.raises(ConversionError, match="'y' is str 'positive' in one branch") as caught:
            f(ONE)
        assert line(clashing, 1) in str(caught.value)
    with pytest.raises(ConversionError):  # where warnings are errors, they are this error
        tj.function(clashing)(ONE)
    with pytest.raises(ConversionError):
        tj.function(clashing).get_concrete_function(ONE)


def test_a_failed_trace_changes_nothing():
    v, seen, model = tj.Variable(1.0), [], type("Model", (), {"count": 0})()

    @tj.function
    def f(x):
        v.assign_add(x)
        seen.append(1)
        model.count += 1
        return clashing(x)

    with pytest.warns(ConversionWarning):
        assert float(f(ONE)) == 8.0
    assert (float(v), seen, model.count) == (2.0, [1], 1)
    assert float(f(ONE)) == 8.0
    assert (float(v), seen, model.count) == (3.0, [1, 1], 2)


def test_a_function_around_what_cannot_be_compiled():
    inner = tj.function(clashing)
    outer = tj.function(lambda x: inner(x) + 1.0)
    with pytest.warns(ConversionWarning):
        assert both(outer) == [9.0, 0.0]


def test_generators():
    def scaled(x):
        for k in (1.0, 2.0):
            yield x * k

    def positive(v):
        for a in v:
            if a > 0:
                yield a

    def total(v):
        out = 0.0
        for _, a in enumerate(positive(v)):
            out = out + a
        return out

    @tj.function
    def unrolled(x):
        out = 0.0
        for y in scaled(x):
            if y > 1:
                out = out + y
        return out

    assert both(unrolled) == [2.0, 0.0]
    with pytest.raises(ConversionError, match=r"positive is a generator \(it has a `yield`\)") as caught:
        tj.function(total, strict=True)(tj.constant([1.0, -2.0]))
    assert line(positive, 2) in str(caught.value)
    with pytest.warns(ConversionWarning, match="yield"):
        assert float(tj.function(total)(tj.constant([1.0, -2.0, 4.0]))) == 5.0


def test_user_errors_do_not_fall_back():
    def shapes(x):
        if x > 0:
            x = tj.ones((2, 3)) @ tj.ones((4, 5))
        return x

    def unset(x):
        if x > 0:
            del x
        return x

    with pytest.raises(tj.errors.ShapeError):
        tj.function(shapes)(ONE)
    with pytest.raises(ControlFlowError):
        tj.function(unset)(ONE)
    with pytest.raises(NameError):
        tj.function(lambda x: x + missing)(ONE)  # noqa: F821


# --- recursion --------------------------------------------------------------------------------------------------------
def even(x):
    return odd(x - 1.0) if x > 0 else 1.0


def odd(x):
    if x > 0:
        return even(x - 1.0)
    return x


def test_recursion_that_tensors_decide_names_the_cycle():
    cycle = r"even → odd → even|odd → even → odd"
    with pytest.raises(ConversionError, match=cycle) as caught:
        tj.function(even, strict=True)(tj.constant(3.0))
    assert "test_autograph_code.py" in str(caught.value)
    with pytest.warns(ConversionWarning, match=cycle):
        got = tj.function(even)(tj.constant(3.0))
    assert bool(got) == bool(even(tj.constant(3.0)))


def test_static_recursion():
    def power(x, n):
        if n == 0:
            return tj.ones_like(x)
        half = power(x, n // 2)
        return half * half * x if n % 2 else half * half

    np.testing.assert_allclose(tj.function(lambda x: power(x, 11))(tj.constant([2.0, 0.5])), [2.0**11, 0.5**11])

    def down(x, n):
        if n == 0:
            return x
        if x > 0:
            return down(x - 1.0, n - 1)
        return down(x + 1.0, n - 1)

    f = tj.function(lambda x: down(x, 5))
    assert [float(f(tj.constant(x))) for x in (9.0, 0.5, -7.0)] == [4.0, -0.5, -2.0]

    def deep(x, n):
        return x if n == 0 else deep(x + 1.0, n - 1)

    def too_deep(x):
        return deep(x, 500)

    with pytest.raises(ConversionError, match="too deep"):
        tj.function(too_deep, strict=True)(ONE)


# --- debugging --------------------------------------------------------------------------------------------------------
def test_debug_is_of_one_thread():
    kinds = {}

    @tj.function
    def f(x):
        return x * 2.0 if tj.is_tensor(x) and type(x._a) is np.ndarray else x * 3.0

    def call(name):
        kinds[name] = float(f(ONE))

    with tj.debug():
        other = threading.Thread(target=call, args=("other",))
        other.start()
        other.join()
        call("this")
    call("after")
    assert kinds == {"other": 3.0, "this": 2.0, "after": 3.0}


def test_breakpoints_in_the_source():
    lines = set()

    def watch(frame, event, arg):
        if frame.f_code.co_filename == __file__ and event == "line":
            lines.add(frame.f_lineno)
        return watch

    f = tj.function(absolute)
    before = sys.gettrace()
    sys.settrace(watch)  # what coverage sees: the lines that were traced
    try:
        f(ONE)
    finally:
        sys.settrace(before)
    first = absolute.__code__.co_firstlineno
    assert {first + 1, first + 2, first + 3} <= lines


def test_tracebacks_go_through_the_lines_of_the_source():
    def inner(x):
        if x > 0:
            return tj.reshape(x, [3])
        return x

    def outer(x):
        while x > 0:
            x = inner(x)
        return x

    with pytest.raises(ShapeError) as caught:
        tj.function(outer)(ONE)
    frames = [(f.name, f.lineno) for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == __file__]
    lines = [("outer", outer.__code__.co_firstlineno + 2), ("inner", inner.__code__.co_firstlineno + 2)]
    assert frames[1:] == lines
    assert all(f.filename == __file__ for f in traceback.extract_tb(caught.value.__traceback__))


def test_converted_code_is_given_back():
    from tracejit.autograph import convert

    gc.collect()
    before = len(convert._factories)
    for k in range(5):
        name = f"<given back {k}>"
        text = f"def f(x):\n    if x > {k}:\n        x = -x\n    return x\n"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        space = {}
        exec(compile(text, name, "exec"), space)
        f = tj.function(space["f"])
        f(ONE)
        del linecache.cache[name], f, space
    gc.collect()
    assert len(convert._factories) <= before + 1
