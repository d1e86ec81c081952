"""Footguns of side effects: what a traced function prints, appends, writes and calls happens as in Python."""

import itertools
import logging

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError

X = np.array([1.0, -2.0, 3.0])
COUNT = 0


class Settings:
    """An object to write to."""


# --- printing and writing --------------------------------------------------------------------------------------------
def test_print_runs_on_every_call(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            print("begins")
            y = x * 2.0
            print("y is", y, "sum", tj.reduce_sum(y), sep=" | ")
            print(f"text {y} and {tj.reduce_sum(x):.3f}", end="!\n")
            return y

        return [f(tj.constant(X)), f(tj.constant(X + 1.0)), f(tj.constant(X))]


def test_print_in_branches_and_loops(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(n):
            i = 0 * n
            while i < n:
                if i % 2 == 0:
                    print("even", i)
                else:
                    print("odd")
                i = i + 1
            print("done")
            return i

        return [f(tj.constant(k)) for k in (3, 0, 2)]


def test_prints_of_two_functions_keep_their_order(twins):
    @twins
    def scene(wrap):
        def helper(x):
            print("helper", x)
            return x + 1.0

        @wrap
        def f(x):
            print("before")
            y = helper(x)
            print("between", y)
            return helper(y)

        return [f(tj.constant(1.0)), f(tj.constant(2.0))]


def test_appending_to_an_outside_list(twins):
    @twins
    def scene(wrap):
        seen = []

        @wrap
        def f(x):
            seen.append(x * 2.0)
            seen.append("text")
            seen.extend([x, 1.0])
            return x

        f(tj.constant(X))
        f(tj.constant(X + 1.0))
        return seen


def test_appending_in_a_branch(twins):
    @twins
    def scene(wrap):
        seen = []

        @wrap
        def f(x):
            if x > 0:
                seen.append(x)
            return x

        for k in (1.0, -1.0, 2.0):
            f(tj.constant(k))
        return seen


def test_writing_a_global(twins):
    @twins
    def scene(wrap):
        global COUNT
        COUNT = 0

        @wrap
        def f(x):
            global COUNT
            COUNT += 1
            return x * COUNT

        return [f(X), f(X), f(X), COUNT]


def test_writing_a_closure_variable(twins):
    @twins
    def scene(wrap):
        total, calls = tj.constant(0.0), 0

        @wrap
        def f(x):
            nonlocal total, calls
            calls += 1
            total = total + x
            return total

        return [f(1.0), f(2.0), f(5.0), total, calls]


def test_writing_attributes_and_items(twins):
    @twins
    def scene(wrap):
        s, d, xs = Settings(), {"n": 0}, [0.0, 0.0]

        @wrap
        def f(x):
            s.last = x
            s.steps = getattr(s, "steps", 0) + 1
            d["n"] += 1
            d["sum"] = d.get("sum", 0.0) + x
            xs[1] = xs[0] + x
            return x * 2.0

        out = [f(tj.constant(1.5)), f(tj.constant(2.5))]
        return [out, s.last, s.steps, d, xs]


def test_writing_an_attribute_in_a_tensor_branch(twins):
    @twins
    def scene(wrap):
        s = Settings()
        s.best = tj.constant(-1.0)

        @wrap
        def f(x):
            if x > s.best:
                s.best = x
            return s.best

        return [f(tj.constant(k)) for k in (0.5, 0.25, 3.0, 2.0)] + [s.best]


def test_side_effects_happen_in_order(twins):
    @twins
    def scene(wrap):
        v, seen = tj.Variable(1.0), []

        @wrap
        def f(x):
            seen.append(v.read_value())
            v.assign_add(x)
            print("v", v.read_value())
            seen.append(v.read_value())
            v.assign(v * 2.0)
            return v.read_value()

        return [f(1.0), f(2.0), seen, v]


def test_logging_runs_on_every_call(caplog):
    log = logging.getLogger("footguns")

    @tj.function
    def f(x):
        log.warning("at %s", "the step")
        return x

    with caplog.at_level(logging.WARNING):
        f(X)
        f(X)
    assert [r.getMessage() for r in caplog.records] == ["at the step"] * 2


def test_an_iterator_of_outside_moves_on(twins):
    @twins
    def scene(wrap):
        numbers = itertools.count()
        f = wrap(lambda x: x * next(numbers))
        try:
            return [f(X), f(X), f(X)]
        except (tj.errors.TracejitError, Warning):
            return [X * k for k in range(3)]  # refused, which is no wrong answer


# --- calls to the host ------------------------------------------------------------------------------------------------
VECTOR = tj.TensorSpec((3,), tj.float64)


def test_py_function_runs_once_per_call_and_in_order(twins):
    @twins
    def scene(wrap):
        calls = []

        def host(name, x):
            calls.append((name, float(tj.reduce_sum(x))))
            return x * 2.0

        @wrap
        def f(x):
            a = tj.py_function(lambda t: host("first", t), [x], VECTOR)
            b = tj.py_function(lambda t: host("second", t), [a], VECTOR)
            tj.py_function(lambda t: host("unused", t), [x], VECTOR)
            c = tj.py_function(lambda t: host("first", t), [x], VECTOR)
            return b + c

        return [f(tj.constant(X)), f(tj.constant(X)), f(tj.constant(X + 1.0)), calls]


def test_numpy_function_gets_arrays(twins):
    @twins
    def scene(wrap):
        kinds = []

        def host(a, k):
            kinds.append((type(a).__name__, a.dtype.name))
            return np.sort(a) * k

        @wrap
        def f(x, k):
            return tj.numpy_function(host, [x, k], VECTOR) + 1.0

        return [f(tj.constant(X), tj.constant(2.0, tj.float64)) for _ in range(2)] + [kinds]


def test_host_calls_in_branches_and_loops(twins):
    @twins
    def scene(wrap):
        calls = []

        def host(x):
            calls.append(x.numpy().tolist())
            return x + 1.0

        @wrap
        def f(x, n):
            for i in tj.range(n):
                if i % 2 == 0:
                    x = tj.py_function(host, [x], VECTOR)
                else:
                    x = x * 2.0
            return x

        return [f(tj.constant(X), tj.constant(k)) for k in (0, 1, 4)] + [calls]


def test_the_gradient_of_a_py_function(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            return tj.reduce_sum(tj.py_function(lambda t: tj.sin(t) * t, [x], VECTOR) * x)

        x = tj.constant(X)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return y, tape.gradient(y, x)


def test_errors_of_host_calls_pass_through():
    class Mine(Exception):
        pass

    def host(a):
        raise Mine("no")

    f = tj.function(lambda x: tj.numpy_function(host, [x], VECTOR))
    for _ in range(2):
        with pytest.raises(Mine, match="no"):
            f(tj.constant(X))


def lines_of(capsys):
    got = capsys.readouterr()
    return (got.out + got.err).splitlines()


def test_tj_print_prints_on_every_call_and_in_order(capsys):
    def f(x):
        tj.print("x is", x)
        y = x + 1
        for i in tj.range(2):
            tj.print("step", i, y, sep=", ")
        tj.print("x is", x)
        return y

    f(tj.constant([1, 2]))
    want = lines_of(capsys)
    assert [line.split()[0].strip(",") for line in want] == ["x", "step", "step", "x"]
    f(tj.constant([5, 7]))
    other = lines_of(capsys)
    g = tj.function(f)
    for x, expected in (([1, 2], want), ([1, 2], want), ([5, 7], other)):
        g(tj.constant(x))
        assert lines_of(capsys) == expected


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_assertions_on_tensors(wrapper):
    @wrapper
    def f(x):
        tj.debugging.assert_greater(x, tj.zeros_like(x), message="x must be positive")
        tj.debugging.assert_less_equal(tj.reduce_sum(x), 100.0)
        tj.debugging.assert_equal(tj.shape(x)[0], 3)
        return x * 2.0

    assert f(tj.constant([1.0, 2.0, 3.0])).numpy().tolist() == [2, 4, 6]
    with pytest.raises(tj.errors.TracejitError, match="x must be positive"):
        f(tj.constant([1.0, -2.0, 3.0]))
    with pytest.raises(tj.errors.TracejitError):
        f(tj.constant([1.0, 200.0, 3.0]))
    assert f(tj.constant([1.0, 1.0, 1.0])).numpy().tolist() == [2, 2, 2]


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_assertions_whose_result_is_unused_are_kept_in_branches(wrapper):
    @wrapper
    def f(x, strict):
        if strict:
            tj.debugging.assert_near(x, tj.ones_like(x))
        return 5.0 + 0.0 * x

    near, far = tj.constant([1.0, 1.0]), tj.constant([1.0, 3.0])
    assert f(far, tj.constant(False)).numpy().tolist() == [5, 5]
    assert f(near, tj.constant(True)).numpy().tolist() == [5, 5]
    with pytest.raises(tj.errors.TracejitError):
        f(far, tj.constant(True))


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_check_numerics(wrapper):
    f = wrapper(lambda x: tj.debugging.check_numerics(tj.math.log(x), "the logarithm") * 1.0)
    assert float(f(tj.constant(1.0))) == 0.0
    for bad in (0.0, -1.0):
        with pytest.raises(tj.errors.TracejitError, match="the logarithm"):
            f(tj.constant(bad))


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_assert_statements(wrapper):
    @wrapper
    def f(x):
        assert x > 0, "x must be positive"
        for i in tj.range(3):
            assert x * tj.cast(i, tj.float32) < 10
        return x

    assert float(f(tj.constant(2.0))) == 2.0
    with pytest.raises(AssertionError, match="x must be positive"):
        f(tj.constant(-1.0))
    with pytest.raises(AssertionError):
        f(tj.constant(6.0))
    assert float(f(tj.constant(1.0))) == 1.0


@pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_a_raise_in_a_branch(wrapper):
    @wrapper
    def f(x):
        if x < 0:
            raise ValueError("negative")
        return tj.sqrt(x)

    assert float(f(tj.constant(4.0))) == 2.0
    with pytest.raises(ValueError, match="negative"):
        f(tj.constant(-4.0))
    assert float(f(tj.constant(9.0))) == 3.0


@pytest.mark.parametrize("call", [tj.py_function, tj.numpy_function], ids=["py", "numpy"])
def test_the_results_of_python_functions_are_what_they_were_said_to_be(call):
    pair = tj.TensorSpec((2,), tj.float32)
    one, two = tj.constant(3.0), tj.constant([1.0, 2.0])

    def outcome(x, Tout, wrap, host=lambda a: a * 2):
        try:
            made = wrap(lambda x: call(host, [x], Tout))(x)
        except ArgumentError as e:
            return e.message, e.remedy
        return type(made), [np.asarray(m).tolist() for m in (made if isinstance(made, (list, tuple)) else [made])]

    for x, Tout in [(one, tj.float32), (two, pair), (one, [tj.float32]), (two, (pair,)), (one, tj.int32)]:
        assert outcome(x, Tout, tj.function) == outcome(x, Tout, lambda f: f)
        assert isinstance(outcome(x, Tout, tj.function)[1], list)
    for x, Tout, spec in [(two, tj.float32, "(2,)"), (one, pair, "()"), (two, [tj.float32], "(2,)")]:
        eager = outcome(x, Tout, lambda f: f)
        assert outcome(x, Tout, tj.function) == eager
        assert f"say tj.TensorSpec({spec}, tj.float32) in Tout" in eager[1]
    for Tout in ([tj.float32, tj.float32], (tj.float32, tj.int32)):
        two_of_them = outcome(one, Tout, tj.function, lambda a: (a, a + 1))
        assert two_of_them == outcome(one, Tout, lambda f: f, lambda a: (a, a + 1)) == (type(Tout), [3.0, 4.0])


class Shown:
    def __init__(self, x):
        self.x = x

    def __repr__(self):
        return f"Shown({self.x:.1f})"


def shown_in_a_branch(x, y):
    s = Shown(x)
    if y < 0:
        s = Shown(-x)
    if x > 0:
        print("above", s, [s, "a"], {"k": (s, 1)}, str([s]))
    else:
        print(f"below {s} {[s]}")
    return s.x


def test_objects_in_containers_are_printed_as_they_are_when_the_program_runs(capsys):
    f = tj.function(shown_in_a_branch, strict=True)
    for x, y in ((1.0, 2.0), (-1.0, 2.0), (2.0, -1.0), (-3.0, -1.0)):
        assert float(f(tj.constant(x), tj.constant(y))) == (x if y > 0 else -x)
        said = capsys.readouterr().out
        with tj.debug():
            shown_in_a_branch(tj.constant(x), tj.constant(y))
        assert said == capsys.readouterr().out
