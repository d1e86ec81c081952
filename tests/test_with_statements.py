"""Context managers around traced code: they swallow the user's errors, as in Python, and never the end of a trace."""

import contextlib
import warnings

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning, TracedValueError

STATE = {"n": 0.0}


class Swallows:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return True


class Counts:
    def __init__(self):
        self.left = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, tb):
        self.left += 1


@contextlib.contextmanager
def swallowing():
    try:
        yield 2.0
    except Exception:
        STATE["n"] += 10.0


@tj.autograph.do_not_convert
def swallowed(f, x):
    try:
        return f(x)
    except Exception:
        return None


def read_in_suppress(x):
    with contextlib.suppress(Exception):
        STATE["n"] = STATE["n"] + 1.0
        return x * x.numpy()
    return x * 0


def branches_in_suppress(x):
    with contextlib.suppress(Exception):
        STATE["n"] = STATE["n"] + 1.0
        if x > STATE["n"]:
            return x * 2
        while x < 10:
            x = x * 3 + 1
    return x


def division_in_suppress(x):
    with contextlib.suppress(ZeroDivisionError):
        return 5 // int(x)
    return -1


def index_in_suppress(x):
    with contextlib.suppress(IndexError):
        return [x, x * 2][int(x)]
    return -x


def raised_in_suppress(x):
    with contextlib.suppress(ValueError):
        if x > 0:
            raise ValueError("no")
        return x
    return x * 0


def known_error_in_suppress(x):
    with contextlib.suppress(ValueError):
        x = x + 1
        float("no")
    return x * 2


def read_in_own_class(x):
    with Swallows():
        return x * x.numpy()
    return x * 0


def check_in_own_class(x):
    with Swallows():
        return [x, x * 2][int(x)]
    return x * 0


def nothing_swallowed(x):
    with Counts() as c:
        y = [x, x * 2, x * 3, x * 4][int(x)]
    return y * c.left


def in_a_generator(x):
    with swallowing() as k:
        return x * k * x.numpy()
    return x * 0


def in_a_stack(x):
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(Exception))
        return x * x.numpy()
    return x * 0


def bare_except(x):
    try:
        STATE["n"] = STATE["n"] + 1.0
        y = x.numpy()
    except:  # noqa: E722
        y = 0.0
    return x + y


FUNCTIONS = [
    read_in_suppress, branches_in_suppress, division_in_suppress, index_in_suppress, raised_in_suppress,
    known_error_in_suppress, read_in_own_class, check_in_own_class, nothing_swallowed, in_a_generator, in_a_stack,
    bare_except,
]  # fmt: skip


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("x", [0.0, 1.0, 3.0])
def test_as_plain_python(f, x):
    def seen(g):
        STATE["n"] = 0.0
        return [[repr(g(tj.constant(x))), STATE["n"]] for _ in range(3)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        assert seen(tj.function(f)) == seen(f)


@pytest.mark.parametrize("f", [branches_in_suppress, known_error_in_suppress, nothing_swallowed])
def test_compiled(f):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        tj.function(f)(tj.constant(1.0))


def test_code_that_is_not_converted_cannot_swallow_it():
    def f(x):
        r = swallowed(lambda v: v.numpy(), x)
        return x * 0 if r is None else x * r

    with pytest.raises(TracedValueError, match="numpy"):
        tj.function(f)(tj.constant(2.0))
