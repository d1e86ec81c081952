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


# --- an error that is on its way ends with the exit -------------------------------------------------------------------
def error_and_break(x):
    for i in range(3):
        try:
            x = x + 1 / i
        finally:
            break
    return x + i


def error_and_continue(x):
    for i in range(4):
        try:
            if i == 2:
                raise ValueError(i)
            x = x + 1
        finally:
            if i == 2:
                continue
            x = x * 2
    return x


def error_and_return(x):
    try:
        raise KeyError("missing")
    finally:
        return x * 4


def error_within_another_try(x):
    try:
        try:
            raise KeyError("missing")
        finally:
            return x
    except KeyError:
        return -x


def error_that_a_tensor_decides(x):
    try:
        if x > 1:
            raise ValueError("large")
        return x
    finally:
        if x > 2:
            return x * 10


def exit_that_a_tensor_decides(x):
    while True:
        try:
            raise KeyError("missing")
        except KeyError:
            x = x + 1
        finally:
            if x > 3:
                break
    return x


ERRORS = [error_and_break, error_and_continue, error_and_return, error_within_another_try, exit_that_a_tensor_decides]


@pytest.mark.parametrize("f", ERRORS, ids=lambda f: f.__name__)
def test_errors_end_with_the_exit(f):
    traced = tj.function(f, strict=True)
    for x in (-1.0, 0.5, 2.5):
        assert float(traced(tj.constant(x))) == float(f(tj.constant(x)))


def test_errors_that_tensors_decide_run_as_plain_python():
    traced, got, want = tj.function(error_that_a_tensor_decides), [], []
    with pytest.warns(tj.errors.ConversionWarning):
        traced(tj.constant(0.5))
    for x in (0.5, 1.5, 2.5):
        for f, out in ((traced, got), (error_that_a_tensor_decides, want)):
            try:
                out.append(float(f(tj.constant(x))))
            except ValueError as e:
                out.append(str(e))
    assert got == want == [0.5, "large", 25.0]
