"""Errors of traced functions: raised where the program comes to them, with nothing changed, on the user's line."""

import traceback

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ControlFlowError, ConversionError, ConversionWarning

ONE, MINUS_ONE = tj.constant(1.0), tj.constant(-1.0)
X = np.array([1.0, -2.0, 3.0])


class Odd(Exception):
    """Cannot be made from its arguments."""

    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class Special(Exception):
    def __init__(self, text, code):
        super().__init__(text, code)
        self.code = code


def last_line(caught):
    return [(f.name, f.lineno) for f in traceback.extract_tb(caught.value.__traceback__)][-1]


def refuses(x):
    y = x * 2.0
    if y < 0:
        raise ValueError(f"{y:.1f} is negative")
    return tj.sqrt(y)


def test_an_error_of_a_branch_is_raised_when_it_is_taken():
    f = tj.function(refuses)
    for _ in range(2):
        assert float(f(tj.constant(2.0))) == 2.0
        with pytest.raises(ValueError, match=r"^-2.0 is negative$") as caught:
            f(MINUS_ONE)
        assert last_line(caught) == ("refuses", refuses.__code__.co_firstlineno + 3)
        assert all(__file__ == f.filename for f in traceback.extract_tb(caught.value.__traceback__))
    assert f.experimental_get_tracing_count() == 1


def test_the_error_is_a_new_one_each_time():
    cause = KeyError("why")

    @tj.function
    def f(x):
        if x < 0:
            raise Special("text", 7) from cause
        return x

    found = []
    for _ in range(2):
        with pytest.raises(Special) as caught:
            f(MINUS_ONE)
        found.append(caught.value)
    assert found[0] is not found[1]
    assert [(e.args, e.code, e.__cause__) for e in found] == [(("text", 7), 7, cause)] * 2
    assert not hasattr(found[0], "ag_raised")


def test_errors_that_cannot_be_copied():
    @tj.function
    def f(x):
        if x < 0:
            raise Odd(f"{x}", 2)
        return x

    for k in (-1.0, -2.0):
        with pytest.raises(Odd, match=str(k)) as caught:
            f(tj.constant(k))
        assert caught.value.b == 2
    assert float(f(ONE)) == 1.0


def test_an_error_that_is_always_raised():
    @tj.function
    def f(x):
        raise ValueError(f"got {x}")

    for k in (1.0, 2.0):
        with pytest.raises(ValueError, match=f"got {k}"):
            f(tj.constant(k))


def test_a_failed_call_changes_nothing():
    v, seen = tj.Variable(1.0), []

    @tj.function
    def f(x):
        v.assign_add(x)
        seen.append(x)
        if v > 5:
            raise ValueError("too much")
        v.assign_add(0.5)
        return v * 1.0

    assert float(f(ONE)) == 2.5
    with pytest.raises(ValueError):
        f(tj.constant(10.0))
    assert (float(v), len(seen)) == (2.5, 1)
    assert float(f(ONE)) == 4.0


def test_errors_in_loops_and_helpers():
    def checked(x, n):
        if x > 100:
            raise OverflowError("step", n)
        return x * 10.0

    @tj.function
    def grow(x, n):
        k = 0
        while k < n:
            x = checked(x, k)
            k += 1
        return x, k

    assert [float(y) for y in grow(ONE, tj.constant(2))] == [100.0, 2]
    with pytest.raises(OverflowError) as caught:
        grow(ONE, tj.constant(9))
    assert (caught.value.args[0], int(caught.value.args[1])) == ("step", 3)
    assert last_line(caught) == ("checked", checked.__code__.co_firstlineno + 2)

    @tj.function
    def first_negative(v):
        for i in tj.range(len(v)):
            if v[i] < 0:
                raise ValueError(f"element {i}")
        return v * 2.0

    np.testing.assert_allclose(first_negative(np.arange(7.0)), np.arange(7.0) * 2)
    with pytest.raises(ValueError, match="element 5"):
        first_negative(np.array([0.0, 1, 2, 3, 4, -5, -6]))

    @tj.function
    def never(n):
        while n > 0:
            raise ValueError("in the first step")
        return n

    assert int(never(tj.constant(0))) == 0
    with pytest.raises(ValueError, match="first step"):
        never(tj.constant(3))


def test_variables_keep_what_python_knows_of_them():
    @tj.function
    def f(x):
        n, mode = 3, "plain"
        if x < 0:
            mode = "failed"
            raise ValueError(mode)
        y = x * 2.0
        for _ in range(n):
            y = y + 1.0
        return y if mode == "plain" else -y

    assert float(f(ONE)) == 5.0


def test_all_branches_raise():
    def sign(x):
        if x > 0:
            raise ValueError("positive")
        raise KeyError("other")

    @tj.function
    def f(x, n):
        if n > 0:
            return sign(x) * 2.0
        return x

    assert float(f(ONE, tj.constant(0))) == 1.0
    with pytest.raises(ValueError):
        f(ONE, tj.constant(1))
    with pytest.raises(KeyError):
        f(MINUS_ONE, tj.constant(1))


def test_errors_of_python_in_a_branch_not_taken():
    table, parts = {"a": 2.0}, [1.0]

    @tj.function
    def f(x, n):
        if n > 4:
            return x[7]
        if n > 3:
            return x[0] * table["b"]
        if n > 2:
            return x[0] * parts[3]
        if n > 1:
            return x[0] * (1 / 0)
        return x[0] * table["a"]

    assert float(f(X, tj.constant(0))) == 2.0
    for n, kind in ((5, IndexError), (4, KeyError), (3, IndexError), (2, ZeroDivisionError)):
        with pytest.raises(kind):
            f(X, tj.constant(n))


def test_gradients_around_a_branch_that_raises():
    f = tj.function(refuses)
    x = tj.constant(2.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    np.testing.assert_allclose(tape.gradient(y, x), 0.5)
    with pytest.raises(ValueError, match="is negative"), tj.GradientTape() as tape:
        x = tj.constant(-2.0)
        tape.watch(x)
        f(x)


def test_asserts():
    @tj.function
    def f(x):
        assert x > 0, f"{x} is not positive"
        assert x < 10
        return x * 2.0

    assert float(f(ONE)) == 2.0
    with pytest.raises(AssertionError, match="x < 10") as caught:
        f(tj.constant(11.0))
    assert last_line(caught)[0] == "f"
    with pytest.raises(AssertionError, match=r"-1\.0 is not positive"):
        f(MINUS_ONE)


# --- try --------------------------------------------------------------------------------------------------------------
def test_try_around_what_is_known():
    @tj.function(strict=True)
    def f(x):
        try:
            if x > 0:
                y = x * 2.0
            else:
                y = -x
            y = y + {"a": 1.0}["b"]
        except KeyError as e:
            assert e.args == ("b",)
            y = y + 10.0
        finally:
            y = y * 2.0
        return y

    assert [float(f(x)) for x in (ONE, MINUS_ONE)] == [24.0, 22.0]

    @tj.function(strict=True)
    def inside(x):
        if x > 0:
            try:
                raise ValueError("known")
            except ValueError:
                x = x + 1.0
        return x

    assert [float(inside(x)) for x in (ONE, MINUS_ONE)] == [2.0, -1.0]


def caught_later(x, i):
    try:
        return x[i] * 2.0
    except IndexError:
        return x[0]


def cleaned_up(x, done):
    try:
        if x < 0:
            raise ValueError("negative")
    finally:
        done.append(1)
    return x


def test_try_around_what_is_not_known():
    with pytest.raises(ConversionError, match=r"cannot be caught .* test_autograph_errors\.py:\d+"):
        tj.function(caught_later, strict=True)(X, tj.constant(1))
    f = tj.function(caught_later)
    with pytest.warns(ConversionWarning, match="cannot be caught"):
        assert float(f(X, tj.constant(1))) == -4.0
    assert float(f(X, tj.constant(9))) == 1.0

    done = []
    g = tj.function(lambda x: cleaned_up(x, done))
    with pytest.warns(ConversionWarning):
        assert float(g(ONE)) == 1.0
    with pytest.raises(ValueError):
        g(MINUS_ONE)
    assert done == [1, 1]


def test_try_that_catches_something_else():
    @tj.function(strict=True)
    def f(x):
        try:
            if x < 0:
                raise ValueError("negative")
            return x * 2.0
        except KeyError:
            return x

    assert float(f(ONE)) == 2.0
    with pytest.raises(ValueError, match="negative"):
        f(MINUS_ONE)


# --- results that are sometimes None ----------------------------------------------------------------------------------
def test_results_that_are_sometimes_none():
    @tj.function
    def find(v, x):
        best = where = None
        for i in tj.range(len(v)):
            if v[i] > x:
                best, where = v[i], i
                break
        return {"best": best, "where": where, "n": 3}

    found = find(X, 2.0)
    assert (float(found["best"]), int(found["where"]), found["n"]) == (3.0, 2, 3)
    assert find(X, 5.0) == {"best": None, "where": None, "n": 3}

    @tj.function
    def pair(x):
        if x > 0:
            return x, x * 2.0
        return None

    assert [float(y) for y in pair(ONE)] == [1.0, 2.0]
    assert pair(MINUS_ONE) is None
    x = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        a, b = pair(x)
        y = a * b
    assert float(tape.gradient(y, x)) == 12.0

    @tj.function(strict=True)
    def half(x):
        if x > 0:
            return x, {"b": x * 2.0, "c": None}
        return -x, {"b": None, "c": "text"}

    assert half(MINUS_ONE) == (1.0, {"b": None, "c": "text"})
    first, rest = half(ONE)
    assert (float(first), float(rest["b"]), rest["c"]) == (1.0, 2.0, None)

    @tj.function(strict=True)
    def picked(x):
        first, rest = half(x)
        return first if rest["b"] is None else rest["b"] * 4.0

    assert [float(picked(x)) for x in (ONE, MINUS_ONE)] == [8.0, 1.0]

    @tj.function
    def maybe(x):
        if x > 0:
            return x
        return None

    @tj.function
    def caller(x):
        y = maybe(x)
        if y is None:
            return x - 1.0
        return y * 2.0

    assert [float(caller(x)) for x in (ONE, MINUS_ONE)] == [2.0, -2.0]


def unset(x):
    if x > 0:
        y = x
    else:
        z = x
    return y, z


def test_both_lines_of_a_name_without_a_value():
    f = tj.function(unset)
    first = unset.__code__.co_firstlineno
    for x, name, k in ((MINUS_ONE, "y", 2), (ONE, "z", 4)):
        with pytest.raises(ControlFlowError, match=f"'{name}' is used") as caught:
            f(x)
        assert f"test_autograph_errors.py:{first + k}" in str(caught.value)
        assert f"test_autograph_errors.py:{first + 5}" in str(caught.value)


# --- ranges and sizes -------------------------------------------------------------------------------------------------
def test_ranges_as_values():
    @tj.function
    def sizes(x):
        r = tj.range(tj.shape(x)[0])
        return r * 2, r[0], r.dtype == tj.int32, f"{x.shape[0]:03d}"

    for n in (3, 5, 7):
        doubled, first, same, text = sizes(np.ones((n, 2)))
        np.testing.assert_array_equal(doubled, np.arange(n) * 2)
        assert (int(first), same, text) == (0, True, f"{n:03d}")

    @tj.function
    def member(x):
        n = x.shape[0]
        return x * (n in [5, 6]) + (n in {5: 1}) + (1 < n == 5)

    for n in (3, 5, 6):
        np.testing.assert_array_equal(member(np.ones(n)), np.ones(n) * (n in (5, 6)) + 2 * (n == 5))


def asserts(x):
    y = x * 1.0
    assert y < 1, f"y {y:.2f}"
    return y


def asserts_in_a_loop(x):
    while x < 10:
        x = x + 3
        assert x < 7, f"x got {x:.2f}"
    return x


@pytest.mark.parametrize(("f", "line"), [(asserts, 2), (asserts_in_a_loop, 3)], ids=["once", "loop"])
def test_an_assert_with_a_message_of_tensors_shows_its_line(f, line):
    traced = tj.function(f)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"5\.00|8\.00") as caught:
            traced(tj.constant(5.0))
        assert last_line(caught) == (f.__name__, f.__code__.co_firstlineno + line)
        assert all(__file__ == s.filename for s in traceback.extract_tb(caught.value.__traceback__))


def test_the_first_error_is_the_one_that_is_raised(capsys):
    @tj.function
    def f(x):
        if x > 0:
            raise RuntimeError(f"x was {float(x)}")
        return undefined_name  # noqa: F821

    with pytest.raises(RuntimeError, match=r"^x was 1.0$"):
        f(ONE)
    with pytest.raises(NameError, match="undefined_name"):
        f(MINUS_ONE)

    @tj.function
    def g(x):
        print("before")
        return x * (1 / 0)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            g(ONE)
        assert last_line(caught)[0] == "g"
        assert capsys.readouterr().out == "before\n"


def steered(x, mode):
    if mode == "key":
        return {"a": x}["b"]
    if mode == "shape":
        return x @ tj.ones((3, 3))
    for _ in range(2):
        if mode == "number":
            while True:
                with tj.name_scope("inside"):
                    return int("x") + x
    if tj.reduce_sum(x) > -100:
        if mode == "raise":
            raise LookupError("as written")
        x = multiplied(x)
    return x


def multiplied(x):
    if len(x.shape) == 1:
        return x @ tj.ones((3, 3))
    return x


@pytest.mark.parametrize("mode", ["key", "shape", "number", "raise", "call"])
def test_tracebacks_show_each_call_once(mode):
    frames, lines = [], []
    for f in (steered, tj.function(steered)):
        with pytest.raises((LookupError, ValueError)) as caught:
            f(tj.ones(2), mode)
        shown = traceback.extract_tb(caught.value.__traceback__)
        frames.append([(s.name, s.lineno) for s in shown if s.filename == __file__][1:])
        lines.append([(w.function, w.line) for w in getattr(caught.value, "where", [])][:-1])
    assert frames[0] == frames[1]
    assert lines[0] == lines[1]
