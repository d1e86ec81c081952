"""Dicts whose items are attributes too, and dicts that have attributes beside their items."""

import numpy as np
import pytest

import tracejit as tj


class ByItem(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__


class ByGet(dict):
    __getattr__ = dict.get
    __setattr__ = dict.__setitem__


class Itself(dict):
    def __init__(self, **items):
        super().__init__(**items)
        self.__dict__ = self


class Beside(dict):
    def __init__(self, **items):
        super().__init__(first=1.0)
        self.__dict__.update(items)


def scene(kind, wrap):
    c, out = kind(lr=0.5, w=tj.constant([1.0, 2.0]), sub=kind(k=3.0)), []

    @wrap
    def read(x):
        return (x * c.lr + c.w) * c.sub.k

    @wrap
    def given(x, c):
        return (x * c.lr + c.w) * c.sub.k

    @wrap
    def write(x):
        c.last = x * 2
        c["n"] = x
        if kind is ByItem:
            del c.n
        if tj.reduce_sum(x) > 2:
            c.lr = c.lr * 2
        return x

    @wrap
    def write_given(x, c):
        c.last = x * 3
        return c

    x = tj.constant([1.0, 2.0])
    for change in (None, {"lr": 4.0}, {"w": tj.constant(7.0)}, {"lr": 5.0}):
        for k, v in (change or {}).items():
            setattr(c, k, v)
        out += [read(x), given(x, c)]
    for y in (x, x - 2):
        write(y)
        out += [c.last, c.lr, len(c)]
    out += [write_given(x, c) is c, c.last, len(c)]
    return [np.asarray(v).tolist() for v in out]


@pytest.mark.parametrize("kind", [ByItem, ByGet, Itself, Beside], ids=lambda k: k.__name__)
def test_dicts_with_attributes(kind):
    assert scene(kind, lambda f: tj.function(f, strict=True)) == scene(kind, lambda f: f)
