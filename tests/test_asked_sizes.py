"""Sizes that a signature leaves open, where Python asks for them: loops over them, texts of them, and errors."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning, TracedValueError

OPEN = [tj.TensorSpec((None, 2))]
SIZES = (3, 5, 6, 1, 2)


def batch(n):
    return tj.reshape(tj.range(2 * n, dtype=tj.float32), (n, 2))


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- loops ------------------------------------------------------------------------------------------------------------
def summed(x):
    s = tj.zeros(2)
    for i in range(x.shape[0]):
        s = s + x[i] * i
    return s


def appended(x):
    out = []
    for i in range(x.shape[0]):
        out.append(x[i] + i)
    return tj.stack(out)


def left(x):
    s = tj.zeros(2)
    for i in range(1, x.shape[0] - 1):
        if x[i, 0] > 5.0:
            break
        s = s + x[i]
    return s


@pytest.mark.parametrize("f", [summed, appended, left])
def test_a_range_over_an_open_size_is_a_loop_of_the_program(f):
    g = tj.function(f, input_signature=OPEN, strict=True)
    for n in SIZES:
        np.testing.assert_allclose(g(batch(n)), f(batch(n)))
    assert g.experimental_get_tracing_count() == 1


# --- errors -----------------------------------------------------------------------------------------------------------
def listed(w, x):
    y = x * w
    n = len(tuple(range(x.shape[0])))  # asks
    return y * n


def unstacked(w, x):
    return tj.unstack(x)[0] * w  # asks


def keyed(w, x):
    return x * {3: w, 5: -w}[x.shape[0]]  # asks


@pytest.mark.parametrize("f", [listed, unstacked, keyed])
def test_an_error_names_the_line_that_asks_and_the_argument(f):
    signature = [tj.TensorSpec(()), *OPEN]
    with pytest.raises(TracedValueError) as caught:
        tj.function(f, input_signature=signature, strict=True)(tj.constant(2.0), batch(3))
    text = str(caught.value)
    assert "size that input_signature leaves open: axis 0 of argument 'x'" in text
    assert text.splitlines()[1].endswith("# asks") and f" in {f.__name__}:" in text.splitlines()[1]
    assert "remedy: give that size a number there" in text
    example = [tj.TensorSpec(()), *OPEN]
    with pytest.raises(TracedValueError, match=r"get_concrete_function leaves open: axis 0 of argument 'x'"):
        tj.function(f, strict=True).get_concrete_function(*example)


def test_what_asks_runs_as_plain_python_where_the_function_is_not_strict():
    g = tj.function(listed, input_signature=[tj.TensorSpec(()), *OPEN])
    with pytest.warns(ConversionWarning, match="axis 0 of argument 'x'"):
        first = g(tj.constant(2.0), batch(3))
    np.testing.assert_allclose(first, listed(tj.constant(2.0), batch(3)))
    np.testing.assert_allclose(g(tj.constant(2.0), batch(5)), listed(tj.constant(2.0), batch(5)))


class Settings:
    by_rows = False


def test_a_size_that_a_new_trace_asks_for_is_known_in_it():
    def f(x):
        return tj.unstack(x)[-1] if Settings.by_rows else x * 2.0

    g = tj.function(f, strict=True)
    try:
        for Settings.by_rows in (False, True):
            for n in SIZES:
                np.testing.assert_allclose(g(batch(n)), f(batch(n)))
    finally:
        Settings.by_rows = False


# --- texts ------------------------------------------------------------------------------------------------------------
def printed(x):
    print(x.shape)
    print(x.shape[0], [x.shape[0] * 2], {"n": x.shape})
    tj.print(x.shape, x.shape[0])
    return x


def formatted(x):
    print(f"{x.shape} {x.shape[0]:>4} {x.shape!r}")
    print("%s %d" % (x.shape, x.shape[0]), "{} {}".format(x.shape, x.shape[0]))  # noqa: UP031, UP032
    print(str(x.shape), repr(x.shape[0]))
    return x


@pytest.mark.parametrize("signature", [None, OPEN])
@pytest.mark.parametrize("f", [printed, formatted])
def test_sizes_are_shown_as_numbers(f, signature, capsys):
    g = tj.function(f, input_signature=signature, strict=True)
    for n in SIZES:
        f(batch(n))
        wanted = capsys.readouterr()
        g(batch(n))
        assert capsys.readouterr() == wanted
    if signature is not None:
        assert g.experimental_get_tracing_count() == 1
    elif f is printed:
        assert g.experimental_get_tracing_count() == 2


@pytest.mark.parametrize("signature", [None, OPEN])
def test_errors_of_the_users_tell_open_sizes(signature):
    def f(x):
        if x.shape[0] > 3:
            raise ValueError(f"{x.shape[0]} rows")
        return x

    g = tj.function(f, input_signature=signature, strict=True)
    np.testing.assert_allclose(g(batch(2)), batch(2))
    np.testing.assert_allclose(g(batch(3)), batch(3))
    for n in (5, 4):
        with pytest.raises(ValueError, match=f"^{n} rows$"):
            g(batch(n))


def test_a_text_of_an_open_size_is_no_number():
    g = tj.function(lambda x: x * float(f"{x.shape[0]}"), input_signature=OPEN)
    with pytest.warns(ConversionWarning, match="known only when the function runs"):
        np.testing.assert_allclose(g(batch(3)), batch(3) * 3)


def test_printed_variables_look_as_they_do_eagerly(capsys):
    v, k = tj.Variable([1.0, 1.0], name="weights"), tj.Variable(1.5)

    def f(x):
        v.assign_add(x)
        print(v, [v], {"k": k}, f"{v} {v!r} {k} {k!r:>80}", str(v))
        k.assign(2.5)
        print(k, "%s %r" % (v, k))  # noqa: UP031
        tj.print(v, [k])
        return x

    f(tj.ones(2))
    wanted = capsys.readouterr()
    v.assign([1.0, 1.0])
    k.assign(1.5)
    tj.function(f, strict=True)(tj.ones(2))
    assert capsys.readouterr() == wanted
