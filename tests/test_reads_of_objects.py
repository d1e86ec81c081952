"""What traced functions read of objects of any class, of their classes and in code that is not converted."""

import bisect
import collections
import configparser
import copy
import ctypes
import dataclasses
import decimal
import functools
import gc
import inspect
import itertools
import json
import logging
import pickle
import random
import threading
import types
import unittest.mock

import numpy as np
import pytest

import tracejit as tj

X = tj.constant(2.0)


def check(f, *changes, traces=None):
    """After each change the traced function does what the plain one does, and is traced once for each."""
    g = tj.function(lambda x: f(x))
    for change in [lambda: None, *changes]:
        change()
        want = f(X)
        for _ in range(3):
            np.testing.assert_array_equal(g(X), want)
    assert g.experimental_get_tracing_count() == (1 + len(changes) if traces is None else traces)
    return g


@dataclasses.dataclass(order=True, unsafe_hash=True)
class Point:
    a: float = 1.0
    rows: list = dataclasses.field(default_factory=list, hash=False)


class Plain:
    def __init__(self):
        self.a, self.rows, self.array = 1.0, [1.0], np.ones(2, np.float32)
        self.part = types.SimpleNamespace(v=1.0)


# --- objects of libraries' classes ------------------------------------------------------------------------------------
OBJECTS = {
    "Module": tj.Module, "Variable": lambda: tj.Variable(1.0), "SGD": tj.optimizers.SGD,
    "Generator": lambda: tj.random.Generator.from_seed(1), "Event": threading.Event, "Random": lambda: random.Random(1),
    "Thread": threading.Thread, "Polynomial": lambda: np.polynomial.Polynomial([1.0]), "Mock": unittest.mock.Mock,
    "Logger": lambda: logging.getLogger("tracejit.test_reads_of_objects"), "Parser": configparser.ConfigParser,
    "SimpleNamespace": types.SimpleNamespace, "partial": lambda: functools.partial(len),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_attributes_of_objects_of_any_class(name):
    x = OBJECTS[name]()
    x.k = 1.0
    check(lambda y: y * x.k, lambda: setattr(x, "k", 3.0), lambda: setattr(x, "k", True))
    x.items = [1.0]
    check(lambda y: y * sum(x.items), lambda: x.items.append(3.0), lambda: setattr(x, "items", [7.0]))
    if name == "Mock":  # which has all attributes
        return
    check(lambda y: y * getattr(x, "late", 1.0), lambda: setattr(x, "late", 5.0), lambda: delattr(x, "late"), traces=2)


def test_variables_are_looked_up_anew():
    m = tj.Module()
    m.v, m.table = tj.Variable(1.0), {"v": tj.Variable(1.0)}

    @tj.function
    def step(x):
        m.v.assign_add(x)
        m.table["v"].assign_add(x)
        return m.v + m.table["v"]

    np.testing.assert_array_equal(step(X), 6.0)
    old, m.v = m.v, tj.Variable(100.0)
    np.testing.assert_array_equal(step(X), 107.0)
    m.table["v"] = tj.Variable(1000.0)
    np.testing.assert_array_equal(step(X), 1106.0)
    np.testing.assert_array_equal(old, 3.0)


def test_the_reason_names_what_has_changed():
    m, p = tj.Module(), Point()
    m.k = 1.0
    f, g = tj.function(lambda x: x * m.k), tj.function(lambda x: x * copy.copy(p).a)
    f(X), g(X)
    m.k, p.a = 2.0, 3.0
    assert "traced because: attribute Module.k: 1.0 -> 2.0" in f.explain(X)
    assert "traced because: attribute Point.a: 1.0 -> 3.0" in g.explain(X)


def test_methods_and_properties_of_libraries_read_what_the_object_holds():
    event, thread = threading.Event(), threading.Thread(name="a")
    log = logging.getLogger("tracejit.test_reads_of_objects.methods")
    log.setLevel(30)
    check(lambda x: x * 2 if event.is_set() else x, event.set, event.clear, traces=2)
    check(lambda x: x * 2 if log.isEnabledFor(20) else x, lambda: log.setLevel(10))
    check(lambda x: x * log.level, lambda: log.setLevel(20))
    check(lambda x: x * len(thread.name), lambda: setattr(thread, "name", "abc"))
    p = np.polynomial.Polynomial([1.0, 2.0])
    check(lambda x: x * p.degree(), lambda: setattr(p, "coef", np.array([3.0, 2.0, 1.0])))
    parser = configparser.ConfigParser()
    parser.read_dict({"a": {"b": "1.5"}})
    check(lambda x: x * parser.getfloat("a", "b"), lambda: parser.set("a", "b", "2.5"))


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_double)]


def test_attributes_of_classes_of_c():
    pair, context = Pair(1.0), decimal.Context(prec=5)
    check(lambda x: x * pair.a, lambda: setattr(pair, "a", 3.0))
    check(lambda x: x * context.prec, lambda: setattr(context, "prec", 7))


def test_what_a_call_changes_by_itself_is_no_guard():
    log = logging.Logger("a", 30)  # which remembers what it was asked
    f = tj.function(lambda x: x * 2 if log.isEnabledFor(20) else x)
    for _ in range(4):
        f(X)
    assert f.experimental_get_tracing_count() == 1


def test_unrelated_attributes_do_not_retrace():
    p, q = Plain(), Plain()

    def handed_on(x):
        rows = list(map(id, [p, q])) + list(zip([p], [q], strict=True))
        known = p in [q, p] and [p, q] == [p, q] and p in {p: q} and p == p and isinstance(p, Plain)
        return x * len(rows) if known and len({p, q, p}) == 2 and sorted([q, p], key=id) else x

    f = tj.function(handed_on)
    for k in range(4):
        p.a = float(k)
        f(X)
    assert f.experimental_get_tracing_count() == 1


# --- objects that the function makes ----------------------------------------------------------------------------------
def test_classes_of_objects_that_the_function_makes():
    class Base:
        rate = 2.0

        def __init__(self, a):
            self.a = a

        def value(self):
            return self.a * self.rate

        @property
        def twice(self):
            return self.a * 2

    class Derived(Base):
        pass

    def made(x):
        d = Derived(x)
        return d.value() + d.twice

    check(
        made, lambda: setattr(Base, "rate", 3.0), lambda: setattr(Derived, "rate", 4.0),
        lambda: setattr(Derived, "value", lambda self: self.a * 9), lambda: setattr(Base, "twice", 7.0),
        lambda: setattr(Derived, "__init__", lambda self, a: setattr(self, "a", a * 10)),
    )  # fmt: skip


def test_the_classes_of_objects_that_are_gone_are_checked_natively():
    class P:
        rate = 2.0

        def __init__(self, a):
            self.a = a

    g = check(lambda x: P(x).a * P(x).rate, lambda: setattr(P, "rate", 5.0))
    assert all(c.reads.native for c in g.concrete_functions if c.still_holds())


def test_what_a_default_factory_reads():
    k = 1.0

    @dataclasses.dataclass
    class Q:
        a: float
        rows: list = dataclasses.field(default_factory=lambda: [k])

    def change():
        nonlocal k
        k = 5.0

    check(lambda x: Q(x).rows[0] + x, change)


# --- special methods --------------------------------------------------------------------------------------------------
SPECIAL = {
    "__call__": (lambda s, x: x * 2, lambda s, x: x * 3, lambda c, x: c(x)),
    "__getitem__": (lambda s, k: 2.0, lambda s, k: 3.0, lambda c, x: x * c[0]),
    "__len__": (lambda s: 2, lambda s: 3, lambda c, x: x * len(c)),
    "__bool__": (lambda s: True, lambda s: False, lambda c, x: x * 2 if c else x * 3),
    "bool()": (lambda s: True, lambda s: False, lambda c, x: x * 2 if bool(c) is True else x * 3),
    "__iter__": (lambda s: iter([2.0]), lambda s: iter([3.0]), lambda c, x: x * sum(list(c))),
    "__contains__": (lambda s, k: True, lambda s, k: False, lambda c, x: x * 2 if 1 in c else x),
    "__eq__": (lambda s, o: True, lambda s, o: False, lambda c, x: x * 2 if c == 1 else x),
    "__ne__": (lambda s, o: True, lambda s, o: False, lambda c, x: x * 2 if c != 1 else x),
    "__lt__": (lambda s, o: True, lambda s, o: False, lambda c, x: x * 2 if c < 1 else x),
    "__add__": (lambda s, x: x * 2, lambda s, x: x * 3, lambda c, x: c + x),
    "__radd__": (lambda s, x: 2.0, lambda s, x: 3.0, lambda c, x: x * (1.0 + c)),
    "__matmul__": (lambda s, x: x * 2, lambda s, x: x * 3, lambda c, x: c @ x),
    "__neg__": (lambda s: 2.0, lambda s: 3.0, lambda c, x: x * -c),
    "__abs__": (lambda s: 2.0, lambda s: 3.0, lambda c, x: x * abs(c)),
    "__float__": (lambda s: 2.0, lambda s: 3.0, lambda c, x: x * float(c)),
    "__int__": (lambda s: 2, lambda s: 3, lambda c, x: x * int(c)),
    "__index__": (lambda s: 1, lambda s: 2, lambda c, x: x * [1.0, 2.0, 3.0][c]),
    "__str__": (lambda s: "a", lambda s: "abc", lambda c, x: x * len(str(c))),
    "__repr__": (lambda s: "a", lambda s: "abc", lambda c, x: x * len(repr(c))),
    "__format__": (lambda s, k: "a", lambda s, k: "abc", lambda c, x: x * len(f"{c}")),
    "__getattr__": (lambda s, n: 2.0, lambda s, n: 3.0, lambda c, x: x * c.zz),
    "__enter__": (lambda s: 2.0, lambda s: 3.0, lambda c, x: _with(c, x)),
    "__hash__": (lambda s: 2, lambda s: 3, lambda c, x: x * hash(c)),
}  # fmt: skip


def _with(c, x):
    with c as k:
        return x * k


@pytest.mark.parametrize("name", SPECIAL)
def test_special_methods(name):
    before, after, use = SPECIAL[name]
    name = "__bool__" if name == "bool()" else name
    leave = {"__exit__": lambda self, *error: False} if name == "__enter__" else {}
    base = type("Base", (), {name: before, **leave})
    cls = type("Derived", (base,), {})
    c = cls()
    check(lambda x: use(c, x), lambda: setattr(cls, name, after), lambda: delattr(cls, name), traces=2)
    check(lambda x: use(c, x), lambda: setattr(base, name, after))


def test_whether_an_object_can_be_called():
    class C:
        pass

    c = C()
    check(lambda x: x * 2 if callable(c) else x, lambda: setattr(C, "__call__", lambda self: 1))


def test_a_metaclass():
    class Meta(type):
        rate = 2.0

        @property
        def twice(cls):
            return cls.rate * 2

    class C(metaclass=Meta):
        pass

    check(lambda x: x * C.twice, lambda: setattr(Meta, "rate", 7.0), lambda: setattr(Meta, "twice", 1.0))


def test_a_getattribute_of_the_users():
    k = 2.0

    class C:
        a = 1.0

        def __getattribute__(self, name):
            if name == "a":
                return object.__getattribute__(self, name) * k
            return super().__getattribute__(name)

        def __getattr__(self, name):
            return self.a + 1.0

        def method(self, x):
            return x * self.a + self.b

    c = C()
    c.b = 3.0

    def change():
        nonlocal k
        k = 5.0

    check(lambda x: c.method(x) + c.other, change, lambda: setattr(c, "b", 4.0), lambda: setattr(C, "a", 4.0))


# --- code that is not converted ---------------------------------------------------------------------------------------
LIBRARY = {
    "==": lambda p, x: x * 2 if p == Point() else x,
    "!=": lambda p, x: x * 2 if p != Point() else x,
    "<": lambda p, x: x * 2 if p < Point(2.0) else x,
    "== of lists": lambda p, x: x * 2 if [p] == [Point()] else x,
    "in a list": lambda p, x: x * 2 if p in [Point()] else x,
    "in a tuple": lambda p, x: x * 2 if Point() in (p,) else x,
    "in a set": lambda p, x: x * 2 if p in {Point()} else x,
    "key": lambda p, x: x * {Point(): 1.0}.get(p, 2.0),
    "hash": lambda p, x: x * 2 if hash(p) == hash(Point()) else x,
    "repr": lambda p, x: x * len(repr(p)),
    "str": lambda p, x: x * len(str(p)),
    "f-string": lambda p, x: x * len(f"{p}"),
    "repr in a list": lambda p, x: x * len(repr([p])),
    "max": lambda p, x: x * max(p, Point(0.5)).a,
    "sorted": lambda p, x: x * sorted([p, Point(3.0)])[0].a,
    "asdict": lambda p, x: x * dataclasses.asdict(p)["a"],
    "astuple": lambda p, x: x * dataclasses.astuple(p)[0],
    "replace": lambda p, x: x * dataclasses.replace(p, rows=[]).a,
    "copy": lambda p, x: x * copy.copy(p).a,
    "deepcopy": lambda p, x: x * copy.deepcopy(p).a,
    "deepcopy of a dict": lambda p, x: x * copy.deepcopy({"p": [p]})["p"][0].a,
    "pickle": lambda p, x: x * pickle.loads(pickle.dumps(p)).a,
    "count": lambda p, x: x * [Point()].count(p),
    "set": lambda p, x: x * len({p, Point()}),
    "dict": lambda p, x: x * len({p: 1, Point(): 2}),
    "deque": lambda p, x: x * (p in collections.deque([Point()])),
    "tuple <": lambda p, x: x * 2 if (Point(), 1) < (p, 1) else x,
    "hash of a tuple": lambda p, x: x * 2 if hash((p, 1)) == hash((Point(), 1)) else x,
    "frozenset": lambda p, x: x * 2 if frozenset([p]) == frozenset([Point()]) else x,
    "bisect": lambda p, x: x * bisect.bisect_left([Point()], p),
    "groupby": lambda p, x: x * len(list(itertools.groupby([p, Point()]))),
    "format": lambda p, x: x * len("{} {!r}".format(p, p)),  # noqa: UP032
    "format of an attribute": lambda p, x: x * len("{p.a}".format(p=p)),  # noqa: UP032
    "%": lambda p, x: x * len("%s" % p),  # noqa: UP031
    "getmembers": lambda p, x: x * dict(inspect.getmembers(p))["a"],
    "json": lambda p, x: x * len(json.dumps(p, default=lambda q: vars(q))),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_library_reads_an_object(name):
    p, use = Point(), LIBRARY[name]
    g = tj.function(lambda x: use(p, x))
    for a in (1.0, 1.0, 50.25, 1.0, 0.25):
        p.a = a
        np.testing.assert_array_equal(g(X), use(p, X))
    for k in range(3):
        p.rows.append(k)
        np.testing.assert_array_equal(g(X), use(p, X))


def test_a_library_reads_what_an_object_holds():
    p = Plain()
    check(
        lambda x: x * copy.deepcopy(p).part.v + sum(copy.deepcopy(p).rows) + float(copy.deepcopy(p).array[0]),
        lambda: setattr(p.part, "v", 3.0), lambda: p.rows.append(4.0), lambda: p.array.fill(5.0),
    )  # fmt: skip


def test_functions_that_are_not_converted():
    k, p = 1.0, Plain()

    @tj.autograph.experimental.do_not_convert
    def as_written(q):
        return q.a * k

    class Own:
        def __init__(self):
            self.a = 1.0

        def __array__(self, dtype=None, copy=None):
            return np.array([self.a])

    own = Own()
    check(lambda x: x * float(np.asarray(own)[0]), lambda: setattr(own, "a", 3.0))
    made = {}
    exec("def made(q): return q.a + len(q.rows)", made)

    def change():
        nonlocal k
        k = 4.0

    check(lambda x: x * as_written(p), lambda: setattr(p, "a", 3.0), change)
    held = [1.0]
    listed = tj.autograph.experimental.do_not_convert(lambda: held[0])
    check(lambda x: x * listed(), lambda: held.__setitem__(0, 3.0))
    check(lambda x: x * made["made"](p), lambda: setattr(p, "a", 5.0), lambda: p.rows.append(1.0))


# --- the rest ---------------------------------------------------------------------------------------------------------
def test_code_and_class_and_functions_of_a_generic_one():
    def g(x):
        return x * 2

    def other(x):
        return x * 100

    check(lambda x: g(x), lambda: setattr(g, "__code__", other.__code__))
    check(lambda x: x * len(g.__name__), lambda: setattr(g, "__name__", "longer"))

    class A:
        pass

    class B(A):
        pass

    b = B()
    check(lambda x: x * 10 if isinstance(b, B) else x, lambda: setattr(b, "__class__", A))
    b = B()
    check(lambda x: x * 10 if type(b) is B else x, lambda: setattr(b, "__class__", A))
    b = B()
    check(lambda x: x * 10 if b.__class__ is B else x, lambda: setattr(b, "__class__", A))

    @functools.singledispatch
    def generic(k, x):
        return x

    check(lambda x: generic(1, x), lambda: generic.register(int, lambda k, x: x * 50))


def test_the_code_of_the_function_itself():
    def f(x):
        return x * 2

    def other(x):
        return x * 3

    g = tj.function(f)
    np.testing.assert_array_equal(g(X), 4.0)
    f.__code__ = other.__code__
    np.testing.assert_array_equal(g(X), 6.0)


def test_a_global_that_hides_a_builtin(monkeypatch):
    f = lambda x: x + max(1.0, 2.0)  # noqa: E731
    check(f, lambda: monkeypatch.setitem(globals(), "max", lambda a, b: 100.0))
    monkeypatch.undo()
    check(f)


def test_the_shape_of_a_captured_array_in_place():
    a = np.arange(4, dtype=np.float32)

    def change(shape):
        return lambda: a.__setattr__("shape", shape)

    check(lambda x: x * a, change((2, 2)), change((4, 1)), change((1, 2, 2)))
    check(lambda x: x * a.shape[0] + a.ndim, change((2, 2)), change((4, 1)), change((4,)))


def test_what_the_function_makes_is_not_traced_anew():
    def local(x):
        class P:
            k = 2.0

            def __init__(self, a):
                self.a, self.me = a, self

        return P(x).a * P(x).k

    class Q:
        k = 2.0

        def __init__(self, a):
            self.a, self.me = a, self

    for f in (local, lambda x: Q(x).a * Q(x).k):
        g = tj.function(f)
        for _ in range(4):
            np.testing.assert_array_equal(g(X), 4.0)
            gc.collect()
        assert g.experimental_get_tracing_count() == 1

