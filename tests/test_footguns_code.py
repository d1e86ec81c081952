"""Footguns of code: recursion, generators, functions without text, random numbers, debugging."""

import bdb
import linecache
import random
import sys
import threading

import numpy as np
import pytest
from python_twins import failure

import tracejit as tj
from tracejit.errors import TracejitError

X = np.array([1.0, -2.0, 3.0])
ONE, MINUS_ONE = tj.constant(1.0), tj.constant(-1.0)


# --- recursion and generators -----------------------------------------------------------------------------------------
def test_recursion_on_python_numbers(twins):
    def factorial(x, n):
        return x if n == 0 else factorial(x * n, n - 1)

    @twins
    def scene(wrap):
        f = wrap(lambda x: factorial(x, 5))
        return [f(X), f(X + 1.0)]


def descend(x):
    if x > 1:
        return descend(x / 2.0)
    return x


def test_recursion_on_a_tensor_is_refused():
    text = failure(tj.function(descend), tj.constant(9.0))
    assert "descend" in text
    assert "recurs" in text


def pairs(v):
    for a in v:
        if a > 0:
            yield a * 2.0


def test_a_generator_over_a_tensor_works_or_is_refused():
    def f(v):
        total = 0.0
        for a in pairs(v):
            total = total + a
        return total

    try:
        got = tj.function(f)(tj.constant(X))
    except TracejitError as e:
        text = str(e)
        assert "yield" in text or "generator" in text
        assert "test_footguns_code.py" in text
        return
    assert float(got) == 8.0


def test_a_static_generator(twins):
    def scaled(x):
        for k in (1.0, 2.0, 3.0):
            yield x * k

    @twins
    def scene(wrap):
        f = wrap(lambda x: sum(scaled(x)))
        return [f(X), f(X * 2.0)]


# --- code without text ------------------------------------------------------------------------------------------------
def exec_function(text):
    space = {"tj": tj}
    exec(text, space)
    return space["f"]


def test_code_without_text_is_traced():
    text = "def f(x):\n    y = tj.exp(x)\n    for k in range(3):\n        y = y + k\n    return y\n"
    f = tj.function(exec_function(text))
    np.testing.assert_allclose(f(X), np.exp(X) + 3)


def test_a_branch_in_code_without_text_works_or_is_explained():
    f = tj.function(exec_function("def f(x):\n    if x > 0:\n        return x\n    return -x\n"))
    try:
        got = [float(f(ONE)), float(f(MINUS_ONE))]
    except TracejitError as e:
        text = str(e)
        assert "source" in text or "text" in text
        assert "f" in text
        assert "tj.cond" in text
        return
    assert got == [1.0, 1.0]


def test_text_in_the_line_cache_is_enough():
    text = "def f(x):\n    if x > 0:\n        return x\n    return -x\n"
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(True), "<cell 1>")
    try:
        space = {}
        exec(compile(text, "<cell 1>", "exec"), space)
        f = tj.function(space["f"])
        assert [float(f(ONE)), float(f(MINUS_ONE))] == [1.0, 1.0]
    finally:
        del linecache.cache["<cell 1>"]


# --- random numbers ---------------------------------------------------------------------------------------------------
def test_random_numbers_are_new_in_each_call_and_the_eager_ones(twins):
    @twins
    def scene(wrap):
        tj.random.set_seed(5)

        @wrap
        def f(x):
            y = tj.random.normal((3,))
            if x > 0:
                y = y + tj.random.uniform((3,))
            for i in tj.range(2):
                y = y * tj.random.uniform((), 1.0, 2.0)
            return y

        out = [f(tj.constant(k)) for k in (1.0, 1.0, -1.0, 1.0)]
        assert not np.allclose(out[0], out[1])
        return out


def test_random_numbers_in_a_loop_differ():
    @tj.function
    def f(n):
        out = []
        for _ in tj.range(n):
            out.append(tj.random.uniform(()))
        return tj.stack(out)

    assert len(set(f(tj.constant(20)).numpy().tolist())) == 20


def test_a_generator_in_a_loop_goes_on(twins):
    @twins
    def scene(wrap):
        g = tj.random.Generator.from_seed(3)

        @wrap
        def walk(n):
            at = 0.0
            while n > 0:
                if g.uniform(()) < 0.5:
                    at = at - 1.0
                else:
                    at = at + 1.0
                n = n - 1
            return at * 1.0

        return [walk(tj.constant(k)) for k in (9, 0, 4)] + [g.normal((2,))]


def test_python_random_numbers_are_not_frozen():
    @tj.function
    def f(x):
        return x * random.random()

    try:
        values = {float(f(ONE)) for _ in range(4)}
    except (TracejitError, Warning):
        return  # refused or warned of, which is no wrong answer
    assert len(values) == 4


# --- debugging --------------------------------------------------------------------------------------------------------
def halved(x, seen):
    n = 0
    while x > 1:
        x = x / 2.0
        seen.append(float(x))
        n += 1
    return x


def test_run_functions_eagerly():
    seen = []
    f = tj.function(lambda x: halved(x, seen))
    tj.config.run_functions_eagerly(True)
    try:
        assert float(f(tj.constant(5.0))) == 0.625
    finally:
        tj.config.run_functions_eagerly(False)
    assert seen == [2.5, 1.25, 0.625]


def test_debug_runs_the_source_line_by_line():
    seen, lines = [], []

    @tj.function
    def f(x):
        return halved(x, seen)

    def watch(frame, event, arg):
        if frame.f_code is halved.__code__ and event == "line":
            lines.append(frame.f_lineno - halved.__code__.co_firstlineno)
        return watch

    before = sys.gettrace()
    with tj.debug():
        sys.settrace(watch)
        try:
            y = f(tj.constant(2.5))
        finally:
            sys.settrace(before)
    assert float(y) == 0.625
    assert seen == [1.25, 0.625]
    assert lines == [1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 6]


def test_debuggers_stop_in_the_source():
    stops = []

    class Debugger(bdb.Bdb):
        def user_line(self, frame):
            if frame.f_code is halved.__code__ and frame.f_lineno == halved.__code__.co_firstlineno + 3:
                stops.append(float(frame.f_locals["x"]))

    f = tj.function(halved)
    before = sys.gettrace()
    try:
        with tj.debug():
            Debugger().runcall(f, tj.constant(3.0), [])
    finally:
        sys.settrace(before)
    assert stops == [3.0, 1.5]


def test_debug_ends_with_its_block():
    calls = []

    @tj.function
    def f(x):
        calls.append("run")
        if x > 0:
            x = x * 2.0
        return x

    with tj.debug():
        f(ONE)
        with tj.debug():
            f(ONE)
        f(ONE)
    assert len(calls) == 3
    assert float(f(ONE)) == 2.0
    with pytest.raises(ZeroDivisionError), tj.debug():
        1 / 0
    assert not tj.config.functions_run_eagerly()


def deep(x):
    if x > 0:
        y = tj.ones((2, 3)) @ tj.ones((4, 5))  # the line at fault
        return tj.reduce_sum(y)
    return x


def test_errors_in_branches_show_the_source():
    text = failure(tj.function(deep), ONE)
    assert "the line at fault" in text
    assert f"test_footguns_code.py:{deep.__code__.co_firstlineno + 2}" in text
    assert "(2, 3)" in text


def fails_in_python(x, table):
    if x > 0:
        x = x * table["missing"]
    return x


def test_tracebacks_show_the_source():
    with pytest.raises(KeyError) as caught:
        tj.function(fails_in_python)(ONE, {})
    last = caught.traceback[-1]
    assert str(last.path) == __file__
    assert last.lineno + 1 == fails_in_python.__code__.co_firstlineno + 2


def test_conversion_can_be_seen_and_switched_off():
    assert "def halved" in tj.autograph.to_code(halved)

    def f(x):
        if x > 0:
            return x
        return -x

    for g in (tj.function(f, autograph=False), tj.function(tj.autograph.do_not_convert(f))):
        failure(g, ONE)
    assert float(tj.function(f)(MINUS_ONE)) == 1.0


def caught_raise(x):
    try:
        if x > 0:
            raise ValueError("positive")
        return x * 1.0
    except ValueError:
        return x * 10.0


@pytest.mark.filterwarnings("default")
def test_what_cannot_be_converted_runs_as_python_with_one_warning(recwarn):
    f = tj.function(caught_raise)
    assert [float(f(tj.constant(k))) for k in (1.0, -1.0, 2.0, -2.0)] == [10, -1, 20, -2]
    assert len(recwarn) <= 1
    try:
        got = float(tj.function(caught_raise, strict=True)(ONE))
    except TracejitError as e:
        assert isinstance(e, tj.errors.ControlFlowError)
        assert "test_footguns_code.py" in str(e)
    else:
        assert got == 10.0


def test_strict_functions_that_convert():
    @tj.function(strict=True)
    def f(x):
        while x > 1:
            x = x * 0.5
        return x

    assert float(f(tj.constant(6.0))) == 0.75


def test_the_first_calls_from_many_threads():
    @tj.function
    def f(x):
        n = 0
        while x > 1:
            if x > 100:
                x = x / 10.0
            else:
                x = x / 2.0
            n += 1
        return n

    results = {}

    def work(k):
        results[k] = [int(f(tj.constant(10.0**j))) for j in range(4)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert list(results.values()) == [results[0]] * 6
    assert results[0] == [0, 4, 7, 8]


def test_promotion_is_explained():
    def f(n, x):
        if x > 0:
            y = n
        else:
            y = x
        return y

    traced = tj.function(f)
    traced(tj.constant(1), tj.constant(2.0, tj.float64))
    assert "promot" in traced.explain(tj.constant(1), tj.constant(2.0, tj.float64))
