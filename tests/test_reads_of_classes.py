"""What traced functions ask of classes, functions, modules and views of the user's; changes are seen."""

import abc
import collections
import ctypes
import enum
import functools
import gc
import inspect
import io
import operator
import sys
import types
import typing

import numpy as np
import pytest
from changing import X, check, scenes_of

import tracejit as tj

CASES = {}
scene = scenes_of(CASES)
S = setattr


@pytest.mark.parametrize("name", CASES)
def test_changes_are_seen(name):
    make, options = CASES[name]
    check(make, **options)


# --- which class an object is of --------------------------------------------------------------------------------------
def registered(use):
    def make():
        class Abstract(abc.ABC): ...

        class C: ...

        c = C()
        return lambda x: x * 10 if use(c, Abstract) else x, lambda: Abstract.register(C)

    return make


for _name, _use in {
    "isinstance": lambda c, a: isinstance(c, a),
    "isinstance of a tuple": lambda c, a: isinstance(c, (int, (str, a))),
    "isinstance of a union": lambda c, a: isinstance(c, int | a),
    "issubclass": lambda c, a: issubclass(type(c), a),
}.items():
    CASES[f"registered: {_name}"] = registered(_use), {}


def test_a_class_is_registered_with_one_of_pythons_own():
    class C: ...

    c = C()
    f = tj.function(lambda x: x * 10 if isinstance(c, collections.abc.Sequence) else x)
    assert float(f(X)) == 2.0
    collections.abc.Sequence.register(C)
    assert float(f(X)) == 20.0


def test_others_that_are_registered_do_not_retrace():
    class C: ...

    c = C()
    f = tj.function(lambda x: x * 10 if isinstance(c, collections.abc.Sequence) else x)
    for _ in range(3):
        f(X), f(X)
        abc.ABCMeta("Other", (), {}).register(int)
    f(X)
    assert f.experimental_get_tracing_count() == 1
    assert f.concrete_functions[0].reads.native


@scene()
def generic_functions_for_what_is_registered():
    class Abstract(abc.ABC): ...

    class C: ...

    @functools.singledispatch
    def generic(k, x):
        return x

    generic.register(Abstract)(lambda k, x: x * 7)
    c = C()
    return lambda x: generic(c, x), lambda: Abstract.register(C)


@scene()
def classes_that_say_what_is_theirs():
    said = [False]

    class Meta(type):
        def __instancecheck__(cls, x):
            return said[0]

        def __subclasscheck__(cls, x):
            return said[0]

    class A(metaclass=Meta): ...

    class C: ...

    c = C()
    return (
        lambda x: x * 10 if isinstance(c, (int, A)) and issubclass(C, A) else x, lambda: said.__setitem__(0, True),
        lambda: said.__setitem__(0, False), lambda: S(Meta, "__instancecheck__", lambda cls, x: True),
    )  # fmt: skip


@scene()
def bases():
    class A:
        k = 1.0

    class B:
        k = 2.0

    class C(A): ...

    c = C()
    return (
        lambda x: x * c.k * (10 if isinstance(c, B) else 1) * (7 if issubclass(C, B) else 1) * len(C.__bases__),
        lambda: S(C, "__bases__", (B,)), lambda: S(C, "__bases__", (A, B)), lambda: S(C, "__bases__", (A,)),
    )  # fmt: skip


@scene()
def protocols():
    @typing.runtime_checkable
    class P(typing.Protocol):
        def method(self): ...

    class C: ...

    c = C()
    return lambda x: x * 2 if isinstance(c, P) else x, lambda: S(c, "method", len), lambda: delattr(c, "method")


@scene()
def names_of_a_class():
    class C:
        """Text."""

    return (
        lambda x: x * len(C.__name__) * len(type(C()).__qualname__) * len(C.__mro__) * len(C.__doc__),
        lambda: S(C, "__name__", "Long"), lambda: S(C, "__qualname__", "a.b"), lambda: S(C, "__doc__", "Other text."),
        lambda: S(C, "__name__", "C"),
    )  # fmt: skip


@scene(native=False)
def classes_below_another():
    class C: ...

    kept = []

    def end():
        kept.clear()
        gc.collect()  # classes are in cycles

    return lambda x: x * (1 + len(C.__subclasses__())), lambda: kept.append(type("D", (C,), {})), end


@scene()
def descriptors_of_a_class():
    class D:
        def __init__(self, k):
            self.k = k

        def __get__(self, x, cls):
            return self.k

    class C:
        d = D(2.0)

    return lambda x: x * C.d, lambda: S(C.__dict__["d"], "k", 5.0), lambda: S(C, "d", 7.0)


@scene()
def hasattr_where_a_function_answers():
    class C:
        def __getattr__(self, name):
            if name not in self.known:
                raise AttributeError(name)
            return 1.0

    c = C()
    c.known = ["a"]
    return lambda x: x * 2 if hasattr(c, "b") else x, lambda: c.known.append("b"), c.known.pop


@scene()
def properties_that_there_may_be():
    class C:
        on = False

        @property
        def k(self):
            if not self.on:
                raise AttributeError("k")
            return 1.0

    class D(C):
        def __getattr__(self, name):
            return self.other

    c, d = C(), D()
    d.other = 9.0
    return (
        lambda x: x * (2 if hasattr(c, "k") else 3) * getattr(c, "k", 5.0) * d.k, lambda: S(C, "on", True),
        lambda: S(c, "on", False), lambda: S(C, "on", False), lambda: S(d, "other", 7.0),
    )  # fmt: skip


# --- functions --------------------------------------------------------------------------------------------------------
@scene()
def defaults_of_the_function_itself():
    def f(x, k=1.0, *, m=1.0):
        return x * k * m

    return (
        f, lambda: S(f, "__defaults__", (2.0,)), lambda: S(f, "__defaults__", (1.0,)),
        lambda: f.__kwdefaults__.update(m=5.0), lambda: S(f, "__kwdefaults__", {"m": 7.0}),
    )  # fmt: skip


@scene()
def parts_of_a_function():
    def f(x: int):
        return x

    f.k = 1.0
    return (
        lambda x: x * f.__dict__["k"] * len(f.__annotations__) * len(f.__module__), lambda: S(f, "k", 2.0),
        lambda: f.__annotations__.update(z=int), lambda: S(f, "__module__", "a"),
    )  # fmt: skip


@scene()
def names_in_a_text():
    around = {"a": 1.0}
    return (
        lambda x: x * eval("EVALUATED * 2") + eval("a", around), lambda: globals().update(EVALUATED=3.0),
        lambda: around.update(a=5.0), lambda: globals().update(EVALUATED=1.0),
    )  # fmt: skip


EVALUATED = 1.0


@scene()
def whether_there_is_a_global():
    return (
        lambda x: x * 2 if "TJ_TEST_LATE" in globals() else x, lambda: globals().update(TJ_TEST_LATE=1),
        lambda: globals().pop("TJ_TEST_LATE"),
    )  # fmt: skip


# --- modules ----------------------------------------------------------------------------------------------------------
MODULE = """
VALUE = 1.0


def __getattr__(name):
    if name == "LAZY":
        return VALUE * 3
    raise AttributeError(name)
"""


def users_module():
    module = types.ModuleType("tj_test_users")
    exec(MODULE, vars(module))
    sys.modules["tj_test_users"] = module
    return module


@scene()
def name_that_a_module_makes():
    m = users_module()
    m.__getattr__ = lambda name: m.VALUE * 3
    return (
        lambda x: x * m.LAZY, lambda: S(m, "VALUE", 3.0), lambda: S(m, "LAZY", 1.0), lambda: delattr(m, "LAZY"),
        lambda: S(m, "VALUE", 1.0),
    )  # fmt: skip


@scene()
def imported_in_the_function():
    m, other = users_module(), types.ModuleType("tj_test_users")
    other.VALUE = 8.0

    def f(x):
        import tj_test_users as u
        from tj_test_users import VALUE

        return x * VALUE + u.VALUE

    return (
        f, lambda: S(m, "VALUE", 3.0), lambda: sys.modules.update(tj_test_users=other),
        lambda: sys.modules.update(tj_test_users=m),
    )  # fmt: skip


@scene(native=False)
def names_of_a_module_and_of_an_object():
    m, c = users_module(), types.SimpleNamespace(a=1.0)
    return (
        lambda x: x * (2 if "LATE" in dir(m) else 1) * (3 if "b" in dir(c) else 1), lambda: S(m, "LATE", 1),
        lambda: S(c, "b", 1), lambda: delattr(m, "LATE"), lambda: delattr(c, "b"),
    )  # fmt: skip


# --- what shows another -----------------------------------------------------------------------------------------------
@scene()
def views_of_a_dict():
    d = {"a": 1.0}
    values, keys, items = d.values(), d.keys(), d.items()
    return (
        lambda x: x * sum(values) * len(keys) * len(list(items)) * (2 if "b" in keys else 1), lambda: d.update(b=3.0),
        lambda: d.pop("b"),
    )  # fmt: skip


@scene(native=False)
def memory():
    b = bytearray(b"abc")
    m = memoryview(b)
    return lambda x: x * m[0], lambda: b.__setitem__(0, 1), lambda: b.__setitem__(0, 97)


Pair = collections.namedtuple("Pair", "a b")


@scene()
def containers_in_named_tuples():
    c = types.SimpleNamespace(p=Pair(1.0, [1.0]))
    rows = c.p.b
    return (
        lambda x: x * c.p.a * c.p.b[0], lambda: rows.__setitem__(0, 2.0), lambda: S(c, "p", c.p._replace(a=4.0)),
        lambda: rows.__setitem__(0, 1.0),
    )  # fmt: skip


@scene(native=False)
def containers_in_arrays():
    a = np.array([{"k": 1.0}], dtype=object)
    return lambda x: x * a[0]["k"], lambda: a[0].update(k=3.0), lambda: a.__setitem__(0, {"k": 5.0})


@scene()
def getters():
    d, c = {"k": 1.0, "j": 2.0}, types.SimpleNamespace(k=1.0)
    one, two = operator.itemgetter("k"), operator.itemgetter("k", "j")
    return (
        lambda x: x * one(d) * two(d)[1] * inspect.getattr_static(c, "k"), lambda: d.update(k=4.0),
        lambda: d.update(j=3.0), lambda: S(c, "k", 5.0),
    )  # fmt: skip


def test_itemgetter_of_tensors():
    f = tj.function(lambda x: sum(operator.itemgetter(0, -1)(x)), strict=True)
    assert float(f(tj.constant([1.0, 2.0, 4.0]))) == 5.0


@scene()
def methods_of_containers():
    d, rows = {"k": 1.0}, [1.0]
    get, item, size, count = d.get, d.__getitem__, rows.__len__, rows.count
    return (
        lambda x: x * get("k") * item("k") * size() * (1 + count(1.0)), lambda: d.update(k=3.0),
        lambda: rows.append(2.0), lambda: rows.append(1.0),
    )  # fmt: skip


@scene()
def patterns():
    c = {"k": 1, "z": [1, 2]}

    def f(x):
        match c:
            case {"k": 1, "z": [a, *_]}:
                return x * a
            case _:
                return x * 5

    return f, lambda: c["z"].__setitem__(0, 3), lambda: c.update(k=2), lambda: c.update(k=1)


@scene()
def items_of_a_class():
    class C:
        table: typing.ClassVar = {"a": 1.0}

        def __class_getitem__(cls, key):
            return cls.table[key]

    return lambda x: x * C["a"], lambda: C.table.update(a=5.0), lambda: S(C, "table", {"a": 7.0})


@scene(native=False)
def dict_of_a_class():
    class C:
        k, rows = 1.0, [1.0]

    return (
        lambda x: x * C.__dict__["k"] * vars(C)["rows"][0], lambda: S(C, "k", 3.0),
        lambda: C.rows.__setitem__(0, 5.0), lambda: S(C, "k", 1.0),
    )  # fmt: skip


def test_attributes_that_are_given_to_an_enumeration():
    class E(enum.Enum):
        A = 1.0

    E.scale = 3.0
    f = lambda x: x * E.A.value * E.scale * E["A"].value  # noqa: E731
    check(lambda: (f, lambda: S(E, "scale", 5.0), lambda: S(E, "scale", 3.0)))


@scene()
def properties_above():
    class A:
        def __init__(self):
            self.a = 1.0

        @property
        def k(self):
            return self.a

    class B(A):
        @property
        def k(self):
            return super().k * 2

    b = B()
    return (
        lambda x: x * b.k, lambda: S(b, "a", 3.0), lambda: S(A, "k", property(lambda self: 9.0)),
        lambda: delattr(B, "k"),
    )  # fmt: skip


@scene()
def cell():
    def make():
        k = 1.0
        return lambda: k

    f = make()
    return lambda x: x * f.__closure__[0].cell_contents, lambda: S(f.__closure__[0], "cell_contents", 5.0)


class Inner(ctypes.Structure):
    _fields_ = (("v", ctypes.c_double),)


class Outer(ctypes.Structure):
    _fields_ = (("a", Inner), ("rows", ctypes.c_double * 2))


@scene(native=False)
def memory_of_c():
    s, rows = Outer(Inner(1.0)), (ctypes.c_double * 2)(1.0, 2.0)
    return lambda x: x * s.a.v * rows[0], lambda: S(s.a, "v", 5.0), lambda: rows.__setitem__(0, 3.0)


@scene(native=False)
def record_in_an_array():
    a = np.ones(1, [("a", "f8")])
    row = a[0]
    return lambda x: x * float(row["a"]), lambda: a["a"].fill(5.0), lambda: a["a"].fill(1.0)


@pytest.mark.parametrize("use", [
    lambda made: (lambda x: x * len(made.getvalue()), lambda: made.write("abc")),
    lambda made: (lambda x: x * (1 + made.tell()), lambda: made.write("abc")),
])  # fmt: skip
def test_files_in_memory_are_asked_by_plain_python(use):
    check(lambda: use(io.StringIO("a")), falls_back=True)
