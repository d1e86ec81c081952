"""Functions that hold tensors of a call and are kept outside of it: such functions run as plain Python, said once."""

import functools
import warnings

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


class Adder:
    def __init__(self, x):
        self.x = x

    def __call__(self, q):
        return q + self.x

    def added(self, q):
        return self(q)


def _add(a, b):
    return a + b


def _lambda(kept, x):
    kept.append(lambda q: q + x)


def _function(kept, x):
    y = x * 2.0

    def add(q):
        return q + y

    kept.append(add)


def _in_a_branch(kept, x):
    if x > 1.0:
        kept.append(functools.partial(_add, x))
    else:
        kept.append(lambda q: q)


def _in_a_list(kept, x):
    held = [x, 3.0]
    kept.append(lambda q: q + held[0])


HOLDING = {
    "a lambda": _lambda, "a function": _function, "in a branch": _in_a_branch, "in a list": _in_a_list,
    "a default": lambda kept, x: kept.append(lambda q, x=x: q + x),
    "a partial": lambda kept, x: kept.append(functools.partial(_add, x)),
    "a callable object": lambda kept, x: kept.append(Adder(x)),
    "a method": lambda kept, x: kept.append(Adder(x).added),
}  # fmt: skip
FREE = {
    "a lambda": lambda kept, x: kept.append(lambda q: q + 1.0),
    "a method": lambda kept, x: kept.append(Adder(3.0).added),
    "of an argument": lambda kept, x: kept.append(kept[0] if kept else lambda q: q),
    "a partial": lambda kept, x: kept.append(functools.partial(_add, 2.0)),
}


def _scene(wrap, keep):
    kept = []

    @wrap
    def f(x):
        keep(kept, x)
        return x * 2.0

    out = [float(f(tj.constant(x))) for x in (1.0, 2.0, 3.0)]
    return out, [float(g(tj.constant(10.0))) for g in kept]


@pytest.mark.parametrize("name", HOLDING)
def test_what_holds_tensors(name):
    with pytest.warns(ConversionWarning) as told:
        got = _scene(tj.function, HOLDING[name])
    assert got == _scene(lambda f: f, HOLDING[name])
    assert len(told) == 1
    assert "kept" in str(told[0].message)


@pytest.mark.parametrize("name", FREE)
def test_what_holds_none(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _scene(tj.function, FREE[name]) == _scene(lambda f: f, FREE[name])
