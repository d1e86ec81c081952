"""What traced functions read of libraries: their modules, settings, objects and the process; changes are seen."""

import collections
import configparser
import contextlib
import dataclasses
import functools
import heapq
import importlib
import logging
import math
import operator
import os
import re
import sys
import textwrap
import threading
import types
import unittest.mock
import weakref

import numpy as np
import pytest
from changing import X, check, scenes_of

import tracejit as tj
from tracejit.autograph import source

LIBRARY = {
    "__init__": "from tj_test_library import config, core",
    "config": """
        import enum

        VALUE, NAME, PAIR, TABLE, DEBUG = 1.0, "a", (1.0, 2.0), {"lr": 1.0, "deep": {"x": 1.0}}, False

        class Mode(enum.Enum):
            A = 1
            B = 2

        MODE = Mode.A

        class Config:
            rate = 2.0

            def __init__(self, **values):
                self.__dict__.update(values)

        CONFIG = Config(lr=1.0)
        """,
    "core": """
        import dataclasses
        import functools
        import typing

        from tj_test_library import config

        FACTOR, OPTIONS = 1.0, {"scale": 1.0}

        def inner():
            return FACTOR

        def scaled():
            return config.VALUE * config.CONFIG.lr * OPTIONS["scale"] * inner()

        def use(c):
            return c.lr

        def deep(c):
            return c.inner.k

        class Node:
            def __init__(self, values):
                object.__setattr__(self, "_values", values)

            def __getattr__(self, name):
                if name not in self._values:
                    raise AttributeError(name)
                return self._values[name]

            def __setattr__(self, name, value):
                self._values[name] = value

            def __getitem__(self, name):
                return self._values[name]

            def __setitem__(self, name, value):
                self._values[name] = value

            def __delitem__(self, name):
                del self._values[name]

            def get(self, name, default):
                return self._values.get(name, default)

            def __contains__(self, name):
                return name in self._values

            def __len__(self):
                return len(self._values)

            def __iter__(self):
                return iter(self._values)

            def __bool__(self):
                return self._values.get("on", True)

            def __float__(self):
                return float(self._values["lr"])

            def __eq__(self, other):
                return self._values == getattr(other, "_values", other)

            def __add__(self, other):
                return self._values["lr"] + other

        ENABLED = True

        def decorated(f):
            @functools.wraps(f)
            def g(*args):
                return f(*args) if ENABLED else args[0] * 0.5

            return g

        class Decorated:
            def __init__(self, f):
                self.f, self.scale = f, 1.0

            def __call__(self, *args):
                return self.f(*args) * self.scale

        class Base:
            gain = 1.0

            def __call__(self, x):
                return self.forward(x) * self.gain

        class Lazy:
            def __init__(self, f):
                self.f = f

            def __get__(self, x, cls):
                return self.f(cls if x is None else x)

        class Field:
            def __set_name__(self, cls, name):
                self.name = "_" + name

            def __get__(self, x, cls):
                return x.__dict__.get(self.name, 1.0)

            def __set__(self, x, value):
                x.__dict__[self.name] = value

        class Registry:
            def __init__(self):
                self.functions = {}

            def build(self, name, *args):
                return self.functions[name](*args)

        class Counter:
            def __init__(self):
                self.n, self.rows = 0, []

            def add(self):
                self.n += 1
                self.rows.append(self.n)
                return len(self.rows)

            @property
            def next(self):
                self.n += 1
                return self.n

        class Key:
            def __init__(self):
                self.v = 1

            def __hash__(self):
                return self.v

            def __eq__(self, other):
                return self.v == other.v

        class Slots:
            __slots__ = ("a", "b")

            def __init__(self):
                self.a, self.b = 1.0, None

            @property
            def twice(self):
                return self.a * 2.0

            def method(self):
                return self.a * 3.0

        class Made:
            rate = 1.0

            def __init__(self):
                self.factor = FACTOR

        class Parent:
            def __init__(self, child=None):
                self.k, self.child = 1.0, child

            @property
            def of_child(self):
                return self.child.k

            def method(self):
                return self.child.k * 3.0

        @dataclasses.dataclass
        class Settings:
            lr: float = 1.0
            inner: typing.Any = None
        """,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """An installed package."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "tj_test_library").mkdir()
    for name, text in LIBRARY.items():
        (folder / "tj_test_library" / f"{name}.py").write_text(textwrap.dedent(text))
    before = source._LIBRARIES
    source._LIBRARIES = (*before, os.path.realpath(folder) + os.sep)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("tj_test_library")
    sys.path.remove(str(folder))
    source._LIBRARIES = before
    for name in [n for n in sys.modules if n.partition(".")[0] == "tj_test_library"]:
        del sys.modules[name]


CASES, LIB = {}, {}
scene, of_library = scenes_of(CASES), scenes_of(LIB)
S = setattr


@pytest.mark.parametrize("name", CASES)
def test_changes_are_seen(name):
    make, options = CASES[name]
    check(make, **options)


@pytest.mark.parametrize("name", LIB)
def test_changes_of_a_library_are_seen(name, library):
    make, options = LIB[name]
    check(lambda: make(library), **options)


# --- modules ----------------------------------------------------------------------------------------------------------
def patched(name, value):
    p = unittest.mock.patch(name, value)
    return p.start, p.stop


@scene()
def constant_of_math():
    return lambda x: x * math.pi, *patched("math.pi", 3.0)


@scene()
def constant_of_numpy():
    return lambda x: x * np.e, *patched("numpy.e", 3.0)


@scene()
def function_of_numpy():
    return lambda x: np.square(x) + np.square(3.0), *patched("numpy.square", lambda a: a * 5)


@scene()
def function_of_math():
    return lambda x: x * math.sqrt(4.0), *patched("math.sqrt", lambda a: a * 5)


@scene()
def constant_of_os():
    return lambda x: x * len(os.sep), *patched("os.sep", "//")


@scene()
def constant_of_sys():
    return lambda x: x * (sys.maxsize % 1000), *patched("sys.maxsize", 77)


def set_and_back(owner, name, value):
    """Sets an attribute, and puts it back."""
    before = getattr(owner, name)
    return lambda: S(owner, name, value), lambda: S(owner, name, before)


@of_library()
def number(lib):
    return lambda x: x * lib.config.VALUE, *set_and_back(lib.config, "VALUE", 3.0)


@of_library()
def flag(lib):
    return lambda x: x * 2 if lib.config.DEBUG else x, *set_and_back(lib.config, "DEBUG", True)


@of_library()
def string(lib):
    return lambda x: x * len(lib.config.NAME), *set_and_back(lib.config, "NAME", "abc")


@of_library()
def pair(lib):
    return lambda x: x * lib.config.PAIR[0], *set_and_back(lib.config, "PAIR", (5.0, 1.0))


@of_library()
def member(lib):
    c = lib.config
    return lambda x: x * 3 if c.MODE is c.Mode.A else x, *set_and_back(c, "MODE", c.Mode.B)


@of_library()
def table(lib):
    t = lib.config.TABLE
    return (
        lambda x: x * lib.config.TABLE["deep"]["x"], lambda: t["deep"].update(x=2.0), lambda: t["deep"].update(x=1.0),
        *set_and_back(lib.config, "TABLE", {"deep": {"x": 7.0}}),
    )  # fmt: skip


@of_library()
def object_of_a_module(lib):
    c = lib.config
    return lambda x: x * c.CONFIG.lr, *set_and_back(c, "CONFIG", c.Config(lr=5.0)), *set_and_back(c.CONFIG, "lr", 3.0)


@of_library()
def function_of_a_module(lib):
    return lambda x: x * lib.core.inner(), *patched("tj_test_library.core.inner", lambda: 5.0)


@of_library()
def name_that_is_missing(lib):
    c = lib.config
    return lambda x: x * getattr(c, "LATE", 1.0), lambda: S(c, "LATE", 2.0), lambda: delattr(c, "LATE")


@of_library()
def imported_in_the_function(lib):
    def f(x):
        from tj_test_library.config import VALUE

        return x * VALUE

    return f, *set_and_back(lib.config, "VALUE", 3.0)


@of_library()
def loaded_anew(lib):
    return lambda x: x * lib.config.VALUE, lambda: S(lib.config, "VALUE", 4.0), lambda: importlib.reload(lib.config)


@of_library()
def settings_that_a_function_reads(lib):
    c, core = lib.config, lib.core
    return (
        lambda x: x * core.scaled(), *set_and_back(c, "VALUE", 3.0), *set_and_back(c.CONFIG, "lr", 4.0),
        *set_and_back(core, "FACTOR", 5.0), lambda: core.OPTIONS.update(scale=6.0),
        lambda: core.OPTIONS.update(scale=1.0),
    )  # fmt: skip


def test_functions_of_this_package_have_no_guards_of_their_own():
    f = tj.function(lambda x: tj.exp(x) * tj.math.sin(x))
    f(X)
    labels = [g.label for g in f.concrete_functions[0].reads.guards]
    assert [x for x in labels if not x.startswith("__code__")] == ["global tj"]


def test_one_record_is_all_that_functions_of_numpy_need():
    f = tj.function(lambda x: np.square(x) + np.square(x) * np.pi - np.abs(x))
    f(X), f(X)
    reads = f.concrete_functions[0].reads
    assert reads.native and len(reads.guards) > 3
    assert len(reads._table) == 8 * (1 + 4 * 4)  # two for the global, one for the code, and NumPy's


# --- objects ----------------------------------------------------------------------------------------------------------
@of_library()
def object_given_to_a_function(lib):
    c = lib.config.Config(lr=1.0, inner=lib.config.Config(k=1.0))
    return lambda x: x * lib.core.use(c) * lib.core.deep(c), lambda: S(c, "lr", 2.0), lambda: S(c.inner, "k", 3.0)


@of_library()
def object_of_the_users_given_to_a_function(lib):
    class Own: ...

    c, c.inner = Own(), Own()
    c.lr, c.inner.k = 1.0, 1.0
    return lambda x: x * lib.core.use(c) * lib.core.deep(c), lambda: S(c, "lr", 2.0), lambda: S(c.inner, "k", 3.0)


def tuple_of(*items):
    return items


def of_node(use, *changes):
    def make(lib):
        n = lib.core.Node({"lr": 1.0, "inner": lib.core.Node({"k": 1.0})})
        return lambda x: use(n, x), *[lambda change=change: change(n) for change in changes]

    return make


for _name, _use, *_changes in (
    ("attribute", lambda n, x: x * n.lr, lambda n: S(n, "lr", 2.0), lambda n: S(n, "lr", 1.0)),
    ("attribute of another", lambda n, x: x * n.inner.k, lambda n: S(n.inner, "k", 2.0)),
    ("item", lambda n, x: x * n["inner"]["k"], lambda n: S(n.inner, "k", 2.0)),
    ("itemgetter", lambda n, x: x * operator.itemgetter("lr")(n), lambda n: S(n, "lr", 2.0)),
    ("in", lambda n, x: x * 5 if "zz" in n else x, lambda n: S(n, "zz", 2.0)),
    ("len", lambda n, x: x * len(n), lambda n: S(n, "zz", 2.0)),
    ("truth", lambda n, x: x * 3 if n else x, lambda n: S(n, "on", False), lambda n: S(n, "on", True)),
    ("iteration", lambda n, x: x * sum([len(k) for k in n]), lambda n: S(n, "long", 2.0)),
    ("list", lambda n, x: x * len(list(n)), lambda n: S(n, "zz", 2.0)),
    ("float", lambda n, x: x * float(n), lambda n: S(n, "lr", 2.0)),
    ("==", lambda n, x: x * 3 if n == {"lr": 1.0} else x, lambda n: n._values.pop("inner")),
    ("+", lambda n, x: x * (n + 1.0), lambda n: S(n, "lr", 2.0)),
    ("unpacking", lambda n, x: x * len([*n]) * len(tuple_of(*n)), lambda n: S(n, "zz", 2.0)),
    ("hasattr", lambda n, x: x * 3 if hasattr(n, "zz") else x, lambda n: S(n, "zz", 2)),
    ("getattr", lambda n, x: x * getattr(n, "zz", 5.0), lambda n: S(n, "zz", 2.0)),
):
    LIB[f"object that is asked: {_name}"] = of_node(_use, *_changes), {}


@of_library()
def slots(lib):
    s, s.b = lib.core.Slots(), lib.core.Slots()
    return (
        lambda x: x * s.a * s.b.a + s.twice + s.b.method(), lambda: S(s, "a", 2.0), lambda: S(s.b, "a", 3.0),
        lambda: S(s, "b", lib.core.Slots()),
    )  # fmt: skip


@of_library()
def objects_within_objects(lib):
    p = lib.core.Parent(lib.core.Parent())
    method = p.method
    return lambda x: x * p.of_child + p.method() + method(), lambda: S(p.child, "k", 2.0), lambda: S(p.child, "k", 1.0)


@of_library()
def dataclass_of_a_library(lib):
    c = lib.core.Settings(1.0, lib.core.Settings(2.0))
    return (
        lambda x: x * dataclasses.asdict(c)["inner"]["lr"] * (3 if c == lib.core.Settings(1.0) else 1),
        lambda: S(c.inner, "lr", 5.0), lambda: S(c, "inner", None) or S(c, "inner", lib.core.Settings(7.0)),
    )  # fmt: skip


@scene()
def namespaces_compared():
    a = types.SimpleNamespace(k=1.0)
    return lambda x: x * 2 if a == types.SimpleNamespace(k=1.0) else x, lambda: S(a, "k", 2.0), lambda: S(a, "k", 1.0)


@scene()
def section_of_a_parser():
    parser = configparser.ConfigParser()
    parser.read_dict({"a": {"b": "1.5"}})
    section = parser["a"]
    return lambda x: x * section.getfloat("b"), lambda: parser.set("a", "b", "2.5"), lambda: parser.set("a", "b", "1.5")


def test_what_methods_do_not_mention_is_no_guard(library):
    p, q = library.core.Parent(library.core.Parent()), library.core.Node({"lr": 1.0})
    f = tj.function(lambda x: x * p.method() * p.of_child * len(q))
    for k in range(4):
        p.step = p.child.step = q.__dict__["step"] = k
        np.testing.assert_array_equal(f(X), 6.0)
    assert f.experimental_get_tracing_count() == 1


class Held:
    k = 1.0

    def method(self):
        return self.k

    def __len__(self):
        return int(self.k)


@scene(native=False)
def weak_set():
    a, b = Held(), Held()
    held = weakref.WeakSet([a])
    return lambda x: x * len(held) * (3 if b in held else 1), lambda: held.add(b), lambda: held.discard(b)


@scene()
def weak_values():
    a = [Held()]
    held = weakref.WeakValueDictionary(a=a[0])
    return lambda x: x * 3 if "a" in held else x, a.clear


@scene()
def weak_proxy():
    a = Held()
    p = weakref.proxy(a)
    return lambda x: x * p.k * p.method() * len(p), lambda: S(a, "k", 2.0), lambda: S(a, "k", 1.0)


@scene(native=False)
def context_of_decimal():
    decimal = importlib.import_module("decimal")
    return lambda x: x * decimal.getcontext().prec, *set_and_back(decimal.getcontext(), "prec", 3)


# --- the process ------------------------------------------------------------------------------------------------------
def logger(name):
    log, above = logging.getLogger(f"tj_test.{name}.log"), logging.getLogger(f"tj_test.{name}")
    log.setLevel(0), above.setLevel(30)
    return log, above


@scene()
def level_of_a_logger():
    log, above = logger("level")
    return lambda x: x * log.getEffectiveLevel(), lambda: above.setLevel(10), lambda: log.setLevel(20)


@scene()
def logger_that_is_enabled():
    log, above = logger("enabled")
    return (
        lambda x: x * 3 if log.isEnabledFor(20) else x, lambda: above.setLevel(10), lambda: logging.disable(50),
        lambda: logging.disable(0), lambda: above.setLevel(30),
    )  # fmt: skip


def test_other_loggers_do_not_retrace():
    log, _ = logger("others")
    f = tj.function(lambda x: x * 3 if log.isEnabledFor(20) else x)
    for k in range(4):
        log.isEnabledFor(k), logging.getLogger(f"tj_test.others.{k}")
        f(X)
    assert f.experimental_get_tracing_count() == 1


@scene(native=False)
def state_of_numpy():
    return (
        lambda x: x * len(np.geterr()["over"]) * np.get_printoptions()["precision"], lambda: np.seterr(over="ignore"),
        lambda: np.set_printoptions(precision=3), lambda: np.set_printoptions(precision=8),
        lambda: np.seterr(over="warn"),
    )  # fmt: skip


@scene(native=False)
def limit_of_recursion():
    n = sys.getrecursionlimit()
    return (
        lambda x: x * (sys.getrecursionlimit() - n), lambda: sys.setrecursionlimit(n + 7),
        lambda: sys.setrecursionlimit(n),
    )  # fmt: skip


@scene(native=False)
def working_directory():
    here = os.getcwd()
    return lambda x: x * len(os.getcwd()), lambda: os.chdir("/"), lambda: os.chdir(here)


@scene()
def variable_in_a_path():
    os.environ["TJ_TEST_PATH"] = "a"
    return (
        lambda x: x * len(os.path.expandvars("$TJ_TEST_PATH")), lambda: os.environ.update(TJ_TEST_PATH="long"),
        lambda: os.environ.update(TJ_TEST_PATH="a"),
    )  # fmt: skip


def test_the_thread_that_calls():
    f = tj.function(lambda x: x * len(threading.current_thread().name))
    seen = []
    for name in ("a", "longer", "a"):
        t = threading.Thread(target=lambda: seen.append(float(f(X))), name=name)
        t.start()
        t.join()
    assert seen == [2.0, 12.0, 2.0]


@scene()
def builtins():
    b = importlib.import_module("builtins")
    b.tj_test_name = 1.0
    return (
        lambda x: x * tj_test_name, lambda: S(b, "tj_test_name", 3.0), lambda: S(b, "tj_test_name", 1.0),  # noqa: F821
    )  # fmt: skip


@scene()
def name_that_comes_to_builtins():
    b = importlib.import_module("builtins")

    def f(x):
        try:
            return x * tj_test_late
        except NameError:
            return x

    return f, lambda: S(b, "tj_test_late", 4.0), lambda: delattr(b, "tj_test_late")


@scene()
def containers_of_libraries():
    a, b = {"k": {"z": 1.0}}, {"j": 2.0}
    chain, held = collections.ChainMap(a, b), collections.UserDict(c=collections.UserDict(d=1.0))
    return (
        lambda x: x * chain["k"]["z"] * chain["j"] * held["c"]["d"], lambda: a["k"].update(z=3.0),
        lambda: b.update(j=3.0), lambda: a.update(j=5.0), lambda: held["c"].update(d=2.0),
    )  # fmt: skip


# --- the user's functions that libraries call -------------------------------------------------------------------------
def of_callback(use, *changes):
    """A function that a library calls, which reads what is around it in several ways."""

    def make():
        k = [1.0]
        settings = types.ModuleType("tj_test_settings")
        settings.value = 1.0

        class C:
            rate = 1.0

            def method(self):
                return k[0] * self.own

        c = C()
        c.own = 1.0

        def inner():
            return c.method() * settings.value * C.rate

        def f(*_):
            return inner()

        return (
            lambda x: x * use(f), lambda: k.__setitem__(0, 2.0), lambda: S(settings, "value", 3.0),
            lambda: S(C, "rate", 5.0), lambda: S(c, "own", 7.0), lambda: S(C, "method", lambda self: 11.0),
        )  # fmt: skip

    return make


def integrated(f):
    return round(importlib.import_module("scipy.integrate").quad(f, 0.0, 1.0)[0], 3)


CASES["function that scipy calls"] = of_callback(integrated), {}
CASES["function that numpy calls"] = of_callback(lambda f: float(np.vectorize(f)(np.ones(2)).sum())), {}
CASES["function that re calls"] = of_callback(lambda f: len(re.sub("z", lambda m: "y" * int(f()), "zz"))), {}
CASES["function that heapq calls"] = of_callback(lambda f: heapq.nlargest(1, [1.0, 2.0], key=f)[0] * f()), {}
CASES["function that is not converted"] = of_callback(lambda f: unconverted(f)), {}


@tj.autograph.experimental.do_not_convert
def unconverted(f):
    return f()


@of_library()
def property_that_a_library_asks_for(lib):
    k = [1.0]

    class Own:
        @property
        def lr(self):
            return k[0]

    c = Own()
    return lambda x: x * lib.core.use(c), lambda: k.__setitem__(0, 5.0), lambda: k.__setitem__(0, 1.0)


@of_library()
def functions_in_functions_of_libraries(lib):
    k = [1.0]

    @lib.core.decorated
    def f(x):
        return x * k[0]

    @lib.core.Decorated
    def g(x):
        return x * k[0]

    return (
        lambda x: f(x) + g(x), lambda: k.__setitem__(0, 3.0), lambda: S(g, "scale", 5.0),
        *set_and_back(lib.core, "ENABLED", False),
    )  # fmt: skip


@of_library()
def methods_that_a_base_calls(lib):
    class Own(lib.core.Base):
        def forward(self, x):
            return x * self.k

    c = Own()
    c.k = 1.0
    return (
        lambda x: c(x) + c(2.0), lambda: S(c, "k", 2.0), lambda: S(Own, "gain", 3.0),
        lambda: S(Own, "forward", lambda self, x: x * 11), *set_and_back(lib.core.Base, "gain", 5.0),
        lambda: delattr(Own, "gain"),
    )  # fmt: skip


@of_library()
def descriptors_of_libraries(lib):
    class Own:
        k = 1.0
        lazy = lib.core.Lazy(lambda c: c.k * 2)
        field = lib.core.Field()

    c = Own()
    return (
        lambda x: x * c.lazy * c.field * Own.lazy, lambda: S(Own, "k", 5.0), lambda: S(c, "field", 3.0),
        lambda: S(c, "k", 7.0),
    )  # fmt: skip


@of_library()
def functions_that_a_library_keeps(lib):
    r, k = lib.core.Registry(), [1.0]

    def act(n):
        return n * k[0]

    r.functions["act"] = act
    return (
        lambda x: x * r.build("act", 2.0), lambda: k.__setitem__(0, 3.0),
        lambda: r.functions.update(act=lambda n: n * 7),
    )  # fmt: skip


@scene()
def functions_that_this_package_calls():
    k = [1.0]

    def f(x):
        return x * k[0] if x > 0 else x

    return lambda x: tj.nest.map_structure(f, [x, x])[0], lambda: k.__setitem__(0, 3.0), lambda: k.__setitem__(0, 1.0)


@scene()
def manager_of_a_library():
    c, d = contextlib.nullcontext(1.0), contextlib.nullcontext(1.0)

    def f(x):
        with c as v, contextlib.ExitStack() as stack:
            return x * v * stack.enter_context(d)

    return f, lambda: S(c, "enter_result", 5.0), lambda: S(d, "enter_result", 3.0)


@scene()
def schedules_of_this_package():
    s = tj.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    o, v = tj.optimizers.SGD(s), tj.Variable(1.0)

    def f(x):
        o.apply([x], [v])
        return v + s(3)

    return f, lambda: S(s, "initial_learning_rate", 0.25), lambda: S(s, "decay_rate", 0.125)


@scene()
def settings_of_scipy():
    return lambda x: x * importlib.import_module("scipy.constants").g, *patched("scipy.constants.g", 1.0)


def test_partial_functions_of_libraries_are_checked_natively():
    p = functools.partial(np.power, 2.0)
    f = tj.function(lambda x: x * float(p(3.0)))
    f(X), f(X)
    assert f.concrete_functions[0].reads.native


@of_library()
def special_method_that_is_replaced(lib):
    n = lib.core.Node({"lr": 1.0})
    return lambda x: x * len(n), *set_and_back(lib.core.Node, "__len__", lambda self: 7)


@of_library()
def object_that_the_function_makes(lib):
    c = lib.core
    changes = *set_and_back(c, "FACTOR", 3.0), *set_and_back(c.Made, "rate", 5.0)
    return lambda x: x * c.Made().factor * c.Made().rate, *changes


@of_library()
def key_of_a_dict(lib):
    a, b = lib.core.Key(), lib.core.Key()
    return lambda x: x * {b: 5.0}.get(a, 1.0), *set_and_back(a, "v", 2)


# --- objects that libraries change ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["attribute", "item", "deleted item"])
def test_what_a_library_sets_is_set_by_plain_python(name, library):
    def make():
        n = library.core.Node({"lr": 1.0})

        def f(x):
            if name == "attribute":
                n.lr = n.lr + 1.0
            elif name == "item":
                n["lr"] += 1.0
            elif "lr" in n:
                del n["lr"]
            else:
                n["lr"] = 3.0
            return x * n.get("lr", 7.0)

        return f, lambda: S(n, "lr", 10.0)

    check(make, falls_back=True)


@pytest.mark.parametrize("name", ["add", "next"])
def test_what_counts_in_a_library_is_called_by_plain_python(name, library):
    def make():
        c = library.core.Counter()
        f = {"add": lambda x: x * c.add(), "next": lambda x: x * c.next}[name]
        return f, lambda: S(c, "n", 10), c.rows.clear

    check(make, falls_back=True)
    f = lambda x: x * library.core.Counter().add()  # noqa: E731
    np.testing.assert_array_equal(tj.function(f, strict=True)(X), X)


def test_objects_of_libraries_that_the_function_makes_are_set(library):
    def f(x):
        n, s = library.core.Node({"lr": 1.0}), library.core.Slots()
        n.lr, n["k"], s.a = 5.0, 2.0, 3.0
        return x * n.lr * n["k"] * s.twice

    np.testing.assert_array_equal(tj.function(f, strict=True)(X), f(X))


def test_a_proxy_of_what_is_gone():
    a = [Held()]
    p = weakref.proxy(a[0])

    def f(x):
        try:
            return x * p.k
        except ReferenceError:
            return x * 100

    g = tj.function(f)
    assert float(g(X)) == 2.0
    a.clear()
    assert float(g(X)) == 200.0
