"""A `break` or `continue` in `finally` takes back the exit with which the `try` was left, as in Python."""

import pytest

import tracejit as tj


def continue_after_return(x):
    for i in range(3):
        try:
            if x > i:
                return x * 10
            x = x + 0.25
        finally:
            x = x + 1
            if x < 2.5:
                continue
            x = x * 2
    return x


def continue_after_break(x):
    while x < 9.0:
        x = x + 1
        try:
            if x > 3.0:
                break
        finally:
            if x < 5.0:
                continue
        x = x + 0.5
    return x


def break_after_continue(x):
    y = x
    for _ in range(4):
        try:
            if x > 0:
                continue
            y = y + 1
        finally:
            if y > 1.5:
                break
        y = y * 2
    return y


def a_loop_within(x):
    for _ in tj.range(3):
        try:
            if x > 1.0:
                return x
        finally:
            for j in range(2):
                if x > j:
                    break
            x = x + 1
    return -x


@pytest.mark.parametrize("f", [continue_after_return, continue_after_break, break_after_continue, a_loop_within])
def test_as_in_python(f):
    traced = tj.function(f)
    for x in (-1.0, 0.3, 0.9, 1.5, 2.0, 3.0):
        x = tj.constant(x)
        assert abs(float(traced(x)) - float(f(x))) < 1e-6
