"""What traced functions seldom read from outside: a change of it is seen by the next call too."""

import array
import collections
import contextvars
import functools
import operator
import os
import sys
import threading
import types

import numpy as np
import pytest

import tracejit as tj

X = tj.constant(2.0)
LEVEL = contextvars.ContextVar("LEVEL", default=1.0)
LOCAL = threading.local()
G = 1.0


class Rows(list):
    pass


class Table(dict):
    pass


class Object:
    def __init__(self):
        self.a, self.rows, self.table = 1.0, [1.0, 2.0], {"k": 1.0}
        self.part = types.SimpleNamespace(v=1.0)

    def __len__(self):
        return len(self.rows)

    def __contains__(self, k):
        return k in self.table

    def __iter__(self):
        return iter(self.rows)

    def scaled(self, x):
        return x * self.a


def scene():
    """What the functions below read, made anew for each test."""

    def listed(x, k=[1.0]):
        return x * k[0]

    def named(x, *, k=1.0):
        return x * k

    def counted(x):
        return x * counted.n

    counted.n = 1.0
    LOCAL.v = 1.0
    LEVEL.set(1.0)
    base = {"k": 1.0}
    return types.SimpleNamespace(
        c=Object(), listed=listed, named=named, counted=counted, partial=functools.partial(lambda x, k: x * k, k=1.0),
        deque=collections.deque([1.0, 2.0]), counter=collections.Counter("aab"), chain=collections.ChainMap(base),
        rows=Rows([1.0, 2.0]), table=Table(k=1.0), data=bytearray(b"abc"), cells=array.array("d", [1.0, 2.0]),
        base=base, view=types.MappingProxyType(base),
    )  # fmt: skip


READS = {
    "vars": (lambda s, x: x * vars(s.c)["a"], lambda s: setattr(s.c, "a", 5.0)),
    "len of an object": (lambda s, x: x * len(s.c), lambda s: s.c.rows.append(1.0)),
    "in an object": (lambda s, x: x * (2 if "z" in s.c else 1), lambda s: s.c.table.update(z=1.0)),
    "iteration over an object": (lambda s, x: sum(x * v for v in s.c), lambda s: s.c.rows.append(1.0)),
    "attrgetter": (lambda s, x: x * operator.attrgetter("c.part.v")(s), lambda s: setattr(s.c.part, "v", 6.0)),
    "attrgetter of two": (lambda s, x: x * operator.attrgetter("a", "rows")(s.c)[0], lambda s: setattr(s.c, "a", 6.0)),
    "methodcaller": (lambda s, x: operator.methodcaller("scaled", x)(s.c), lambda s: setattr(s.c, "a", 6.0)),
    "mutable default": (lambda s, x: s.listed(x), lambda s: s.listed.__defaults__[0].__setitem__(0, 8.0)),
    "defaults": (lambda s, x: s.listed(x), lambda s: setattr(s.listed, "__defaults__", ([11.0],))),
    "defaults by name": (lambda s, x: s.named(x), lambda s: s.named.__kwdefaults__.update(k=5.0)),
    "all defaults by name": (lambda s, x: s.named(x), lambda s: setattr(s.named, "__kwdefaults__", {"k": 4.0})),
    "attribute of a function": (lambda s, x: s.counted(x), lambda s: setattr(s.counted, "n", 5.0)),
    "words of a partial": (lambda s, x: s.partial(x), lambda s: s.partial.keywords.update(k=4.0)),
    "environment": (lambda s, x: x * int(os.environ.get("TJ_TEST", "1")), lambda s: os.environ.update(TJ_TEST="4")),
    "in the environment": (lambda s, x: x * ("TJ_TEST" in os.environ), lambda s: os.environ.update(TJ_TEST="4")),
    "getenv": (lambda s, x: x * int(os.getenv("TJ_TEST", "1")), lambda s: os.environ.update(TJ_TEST="4")),
    "sys": (lambda s, x: x * len(sys.argv), lambda s: sys.argv.append("-")),
    "context variable": (lambda s, x: x * LEVEL.get(), lambda s: LEVEL.set(5.0)),
    "object of a thread": (lambda s, x: x * LOCAL.v, lambda s: setattr(LOCAL, "v", 5.0)),
    "globals()": (lambda s, x: x * globals()["G"], lambda s: globals().update(G=6.0)),
    "deque": (lambda s, x: x * s.deque[0], lambda s: s.deque.appendleft(7.0)),
    "sum of a deque": (lambda s, x: x * sum(s.deque), lambda s: s.deque.append(7.0)),
    "length of a deque": (lambda s, x: x * len(s.deque), lambda s: s.deque.append(7.0)),
    "Counter": (lambda s, x: x * s.counter["a"], lambda s: s.counter.update("aaa")),
    "ChainMap": (lambda s, x: x * s.chain["k"], lambda s: s.base.update(k=8.0)),
    "mapping proxy": (lambda s, x: x * s.view["k"], lambda s: s.base.update(k=8.0)),
    "class made from list": (lambda s, x: x * s.rows[0], lambda s: s.rows.__setitem__(0, 9.0)),
    "all of a class made from list": (lambda s, x: x * sum(s.rows), lambda s: s.rows.append(9.0)),
    "class made from dict": (lambda s, x: x * s.table["k"], lambda s: s.table.update(k=9.0)),
    "in a class made from dict": (lambda s, x: x * (2 if "z" in s.table else 1), lambda s: s.table.update(z=9.0)),
    "bytearray": (lambda s, x: x * s.data[0], lambda s: s.data.__setitem__(0, 5)),
    "array": (lambda s, x: x * s.cells[1], lambda s: s.cells.__setitem__(1, 5.0)),
}


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.delenv("TJ_TEST", raising=False)
    monkeypatch.setattr(sys, "argv", ["-"])
    monkeypatch.setitem(globals(), "G", 1.0)
    return scene()


@pytest.mark.parametrize("name", READS)
def test_a_change_is_seen_by_the_next_call(name, outside, monkeypatch):
    f, change = READS[name]
    g = tj.function(lambda x: f(outside, x))
    before = f(outside, X).numpy()
    for _ in range(3):
        np.testing.assert_array_equal(g(X), before)
    assert g.experimental_get_tracing_count() == 1
    change(outside)
    now = f(outside, X).numpy()
    assert now != before
    np.testing.assert_array_equal(g(X), now)
    monkeypatch.delenv("TJ_TEST", raising=False)


def test_defaults_are_guarded_natively():
    def helper(x, k=2.0, *, m=(1.0, 2.0)):
        return x * k * m[0]

    f = tj.function(lambda x: helper(x))
    f(X), f(X)
    assert f.concrete_functions[0].reads.native
    assert any("__defaults__" in g.label for g in f.concrete_functions[0].reads.guards)


def test_containers_of_the_trace_are_no_guards():
    def f(x):
        last = collections.deque(maxlen=2)
        for _ in range(3):
            last.append(x)
            x = x * 2.0
        words = functools.partial(lambda x, k: x * k, k=x)
        return last[0] + words(x)

    g = tj.function(f)
    np.testing.assert_array_equal(g(X), f(X))
    reads = g.concrete_functions[0].reads
    assert reads is None or not [r for r in reads.guards if r.key[0] == "items"]


class Slotted:
    __slots__ = ("v",)


def test_slots_are_read_from_their_class_and_set_through_its_type():
    def f(r, x):
        type(r).v.__set__(r, x * 2.0)
        own = Slotted()
        Slotted.v.__set__(own, x)
        return r.v + own.v * len(Slotted.v.__name__) + Slotted.v.__get__(r)

    g = tj.function(f, strict=True)
    for _ in range(2):
        r = Slotted()
        np.testing.assert_array_equal(g(r, X), f(Slotted(), X))
    assert tj.function(lambda x: (x, Slotted.v.__name__, Slotted.v.__objclass__))(X)[1:] == ("v", Slotted)
