"""Recursion in traced functions: where a tensor's value ends it it runs as plain Python; errors show users' frames."""

import traceback

import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning


def factorial(n):
    if n <= 1:
        return tj.ones(())
    return factorial(n - 1) * tj.cast(n, tj.float32)


@tj.function
def decorated(n):
    if n <= 1:
        return tj.ones(())
    return decorated(n - 1) * tj.cast(n, tj.float32)


def endless(x):
    return endless(x - 1.0) + 1.0


@tj.function
def endless_decorated(x):
    return endless_decorated(x - 1.0)


def shown(f, *args):
    with pytest.warns(ConversionWarning, match="too deep"), pytest.raises(RecursionError) as e:
        f(*args)
    return "".join(traceback.format_exception(e.value))


@pytest.mark.parametrize("f", [tj.function(factorial), decorated])
def test_ends_at_a_tensors_value(f):
    with pytest.warns(ConversionWarning, match="ends at a tensor's value") as said:
        assert float(f(tj.constant(5))) == 120.0
        assert float(f(tj.constant(4))) == 24.0
    assert len(said) == 1
    assert float(tj.function(factorial)(5)) == 120.0


def test_strict_functions_raise():
    with pytest.raises(ConversionError, match="ends at a tensor's value") as e:
        tj.function(factorial, strict=True)(tj.constant(5))
    text = "".join(traceback.format_exception(e.value))
    assert "contextlib" not in text and "During handling" not in text


@pytest.mark.parametrize("f", [tj.function(endless), endless_decorated])
def test_endless_recursion_shows_users_frames(f):
    text = shown(f, tj.ones((3,)))
    files = {line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")}
    assert files == {__file__} and len(text.splitlines()) < 40
    assert "During handling" not in text and "direct cause" not in text
