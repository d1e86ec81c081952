"""Errors of traced functions are those that the caller's `except` clauses name for plain Python."""

import traceback

import pytest

import tracejit as tj

ONE, MINUS_ONE = tj.constant(1.0), tj.constant(-1.0)


class Holder:
    pass


def variable(x):
    if x > 0:
        y = x * 2.0
    return y


def attribute(x):
    h = Holder()
    if x > 0:
        h.value = x
    return h.value


def loop_variable(x):
    while x > 0:
        last = x
        x = x - 1.0
    return last


def deleted(x):
    y = x
    if x < 0:
        del y
    return y * 2.0


def deleted_again(x):
    if x > 0:
        y = x
    del y
    return x


@pytest.mark.parametrize(
    "f, kind",
    [
        (variable, UnboundLocalError), (attribute, AttributeError), (loop_variable, NameError), (deleted, NameError),
        (deleted_again, UnboundLocalError),
    ],
)  # fmt: skip
def test_what_is_not_set_raises_the_error_of_plain_python(f, kind):
    traced = tj.function(f, strict=True)
    assert float(traced(ONE)) == float(f(ONE))
    for g in (f, traced):
        with pytest.raises(kind):
            g(MINUS_ONE)
    with pytest.raises(tj.errors.ControlFlowError, match="without a value"):
        traced(MINUS_ONE)


def test_a_variable_of_a_loop_without_steps_names_both_lines():
    def f(x):
        for v in x:
            z = v * 2
        return z

    first = f.__code__.co_firstlineno
    with pytest.raises(UnboundLocalError, match=f"'z' .* at test_error_kinds.py:{first + 2}"):
        tj.function(f)(tj.zeros((0,)))


def test_what_has_no_value_is_not_deleted():
    def f(x):
        del y  # noqa: F821
        return x

    for g in (f, tj.function(f, strict=True)):
        with pytest.raises(UnboundLocalError):
            g(ONE)


def test_an_unset_variable_is_caught_in_the_function():
    def f(x):
        try:
            return variable(x)
        except NameError:
            return x - 1.0

    with pytest.warns(tj.errors.ConversionWarning):
        assert float(tj.function(f)(MINUS_ONE)) == -2.0


def from_one(x):
    try:
        if x < 0:
            raise ValueError("negative")
    except ValueError as e:
        raise RuntimeError("refused") from e
    return x


def from_one_of_two(x):
    try:
        if x < -3.0:
            raise KeyError("far")
        if x < 0:
            raise ValueError("negative")
    except (KeyError, ValueError) as e:
        why = e
        raise RuntimeError("refused") from why
    return x


def from_none(x):
    try:
        if x < 0:
            raise ValueError("negative")
    except ValueError:
        raise RuntimeError("refused") from None
    return x


@pytest.mark.parametrize("f", [from_one, from_one_of_two, from_none])
def test_an_error_is_raised_from_the_one_that_is_handled(f):
    traced = tj.function(f, strict=True)
    assert float(traced(ONE)) == 1.0
    for v in (-1.0, -5.0):
        found = []
        for g in (f, traced):
            with pytest.raises(RuntimeError, match="refused") as caught:
                g(tj.constant(v))
            found.append((repr(caught.value.__cause__), caught.value.__suppress_context__))
        assert found[0] == found[1]


def test_a_set_asks_for_tensors_as_eagerly():
    def f(n):
        own = {n}
        return n in {1, 2, 3}, n in (1, 2, 3), n not in {1, 2}, n in own, 3 in own, int(n) in {1, 2, 3}

    for n in (tj.constant(3), 3):
        assert [bool(x) for x in tj.function(f, strict=True)(n)] == [bool(x) for x in f(n)]


def counted_in_a_try(x):
    n = 0
    while x > 0.2:
        try:
            n += 1
        finally:
            x = x * 0.5
    return n


def counted_with_a_handler(x):
    n = 0
    while x > 0.2:
        try:
            n += 1
            if x > 9.0:
                raise ValueError("large")
        except ValueError:
            n += 10
            x = x - 1.0
        x = x * 0.5
    return n


@pytest.mark.parametrize("f", [counted_in_a_try, counted_with_a_handler])
def test_a_counter_changes_in_a_try(f):
    traced = tj.function(f, strict=True)
    for v in (1.0, 0.0, 40.0):
        assert int(traced(tj.constant(v))) == f(tj.constant(v))


def one_rank(x):
    if x > 0:
        y = tj.ones([2])
    else:
        y = tj.ones([3])
    return tj.reduce_sum(y)


def other_ranks(x):
    if x > 0:
        y = tj.ones([2, 2])
    else:
        y = tj.ones([3])
    return tj.reduce_sum(y)


def sizes_that_are_found(x):
    y = tj.stack([x, -x, x])
    if x > 0:
        y = y[y > 0]
    return tj.reduce_sum(y)


@pytest.mark.parametrize("f", [one_rank, other_ranks, sizes_that_are_found])
def test_branches_of_two_shapes_run_as_plain_python(f):
    traced = tj.function(f)
    with pytest.warns(tj.errors.ConversionWarning, match="shape"):
        assert float(traced(ONE)) == float(f(ONE))
    assert float(traced(MINUS_ONE)) == float(f(MINUS_ONE))
    with pytest.raises(tj.errors.TracejitError, match="shape"):
        tj.function(f, strict=True)(ONE)


def test_functions_given_for_branches_have_one_shape():
    @tj.function
    def f(x):
        return tj.cond(x > 0, lambda: tj.ones([2]), lambda: tj.ones([3]))

    with pytest.raises(tj.errors.ShapeError, match="the branches give shapes"):
        f(ONE)


def one_item(v, i):
    y = v + 1.0
    return y[i]


def divided(x):
    n = 0
    while x > 0:
        n += 1
        x = x - 1.0
    return 6 / n


@pytest.mark.parametrize(
    "f, args, line",
    [
        (variable, (MINUS_ONE,), "return y"),
        (attribute, (MINUS_ONE,), "return h.value"),
        (divided, (MINUS_ONE,), "return 6 / n"),
        (one_item, (tj.ones([3]), tj.constant(5)), "return y[i]"),
    ],
)
def test_the_traceback_of_an_error_of_the_program_ends_at_the_users_line(f, args, line):
    for g in (f, tj.function(f, strict=True)):
        with pytest.raises(Exception) as caught:
            g(*args)
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert (last.name, last.line) == (f.__name__, line)


def positive(x):
    assert x > 0, "negative"
    return x


def one_key(x):
    if x > 0:
        d = {"a": x}
    else:
        d = {"b": x}
    return d["a"]


@pytest.mark.parametrize("inner, line", [(positive, 1), (one_key, 5)])
def test_tracebacks_of_errors_at_run_time_have_the_lines_of_the_user_only(inner, line):
    def f(x):
        return inner(x)

    traced = tj.function(f, strict=True)
    for _ in range(2):
        assert float(traced(ONE)) == 1.0
        with pytest.raises((AssertionError, KeyError)) as caught:
            traced(MINUS_ONE)
        frames = [(e.filename, e.name, e.lineno) for e in traceback.extract_tb(caught.value.__traceback__)[1:]]
        first = inner.__code__.co_firstlineno
        assert frames == [(__file__, "f", f.__code__.co_firstlineno + 1), (__file__, inner.__name__, first + line)]
