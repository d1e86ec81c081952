"""Errors of called functions show the lines of the calls that led there, each frame of plain Python once."""

import traceback

import pytest

import tracejit as tj


def positive(x):
    assert tj.reduce_sum(x) > 0, "negative"
    return x * 2


def raising(x):
    if tj.reduce_sum(x) < 0:
        raise OverflowError("too small")
    return x + 1


def picked(x, i):
    return x[i]


def nested(x):
    if tj.reduce_sum(x) < 100:
        y = positive(x)
    else:
        y = x
    return raising(y - 5)


def two_calls(x):
    a = positive(x)
    b = positive(-x)
    return a + b


def the_other_call(x):
    a = positive(-x)
    b = positive(x)
    return a + b


def two_raising(x):
    a = raising(x)
    return raising(a - 10)


def one_in_another(x):
    return nested(x + 1)


def in_a_loop(x):
    for i in tj.range(5):
        x = positive(x) - 3 * tj.cast(i, x.dtype)
    return x


def positions(x):
    i = tj.cast(tj.reduce_sum(x), tj.int32)
    a = picked(tj.stack([x, x, x, x]), i)
    return a + picked(x[None], i + 7)


def modes(x, mode="c"):
    if mode == "a":
        return x
    if mode == "b":
        return -x
    if x > 100:
        return x * 2
    raise ValueError("no such mode")


def wrong_shapes(x):
    if x > 0:
        if x > 1:
            return x
        y = tj.ones((2,)) + tj.ones((3,))
        return tj.reduce_sum(y)
    return -x


def seen(f, x):
    with pytest.raises(Exception) as caught:
        f(tj.constant(x))
    frames = traceback.extract_tb(caught.value.__traceback__)
    return [(s.name, s.lineno) for s in frames if s.filename == __file__ and s.name not in ("seen", "<lambda>")]


@pytest.mark.parametrize(
    "f",
    [
        two_calls, the_other_call, two_raising, one_in_another, in_a_loop, positions, modes, wrong_shapes,
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_frames_are_those_of_plain_python(f):
    assert seen(tj.function(f), 1.0) == seen(f, 1.0)
