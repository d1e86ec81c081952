"""Dicts to which branches and steps of loops add keys: there in the runs in which plain Python has them."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

OUTSIDE: dict = {}


def plain(x):
    if isinstance(x, tj.Tensor):
        return "tensor", str(x.dtype), x.numpy().tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [type(x).__name__, *map(plain, x)] if isinstance(x, (list, tuple)) else (type(x).__name__, x)


def told(x):
    d = {"a": x}
    if x > 0:
        d["b"] = x * 2
    return "b" in d, "b" not in d, len(d), d.get("b"), d.get("b", x), bool(d), d["a"], d.get("z"), "z" in d


def returned(x):
    d = {}
    if x > 0:
        d["b"] = x * 2
    else:
        d["c"] = x
        d["e"] = {"n": x}
    return d, {"in": d, "list": [d]}


def missing(x):
    d = {}
    if x > 0:
        d["b"] = x * 2
    return d["b"]


def set_again(x):
    d = {}
    if x > 0:
        d["b"] = x * 2
    d["b"] = x
    d.update({"n": 1})
    return d, len(d)


def deleted(x):
    d = {}
    if x > 0:
        d["b"] = x * 2
    del d["b"]
    return d


def asked_before(x):
    d = {}
    if x > 0:
        d["b"] = x * 2
    if "b" in d:
        return d["b"] + 1
    return x - 1


def steps_of_a_range(x):
    d = {}
    for i in range(4):
        if x > i:
            d[i] = x * i
    return d, len(d), 2 in d


def steps_of_a_loop(x):
    d = {"n": 0}
    while x < 6:
        if x > 2:
            d["last"] = x
            d["n"] = d["n"] + 1
        x = x + 1
    return d, d["last"] if "last" in d else x


def first_step(x):
    d = {}
    while x < 2:
        d["x"] = x
        x = x + 1
    return d, d.get("x", x * 10)


def within(x):
    d = {"u": {}}
    if x > 0:
        d["u"]["b"] = x * 2
    return d


def two_dicts(x):
    d = {"a": x} if x > 1 else {"a": x * 2, "b": x}
    return d, "b" in d


def outside(x):
    if x > 0:
        OUTSIDE["b"] = x * 2
    return x


FUNCTIONS = [
    told, returned, missing, set_again, deleted, asked_before, steps_of_a_range, steps_of_a_loop, first_step, within,
    two_dicts, outside,
]  # fmt: skip


def seen(f, x):
    OUTSIDE.clear()
    try:
        return plain([f(tj.constant(x)), dict(OUTSIDE)])
    except KeyError as e:
        return repr(e)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_as_plain_python(f):
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for x in (1.0, -1.0, 3.0, 9.0):
            assert seen(traced, x) == seen(f, x)


def looked_through(x):
    d = {}
    if x > 0:
        d["b"] = x
    for k in d:
        x = x + len(k)
    return x


def popped(x):
    d = {}
    if x > 0:
        d["b"] = x
    return d.pop("b", x)


def none_or_absent(x):
    d = {}
    if x > 0:
        d["b"] = None
    return d


@pytest.mark.parametrize("f", [looked_through, popped, none_or_absent], ids=lambda f: f.__name__)
def test_falling_back(f):
    traced = tj.function(f)
    with pytest.warns(ConversionWarning, match="plain Python"):
        assert seen(traced, 1.0) == seen(f, 1.0)
    assert seen(traced, -1.0) == seen(f, -1.0)


def test_gradient():
    def f(x):
        d = {}
        for r in x:
            if r > 1:
                d["m"] = r * r
        return d.get("m", x[0])

    def slope(g, a):
        x = tj.constant(a)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = g(x)
        return tape.gradient(y, x).numpy()

    traced = tj.function(f)
    for a in ([1.0, 2, 3], [0.5, 0.2, 0.1]):
        np.testing.assert_array_equal(slope(traced, a), slope(f, a))
