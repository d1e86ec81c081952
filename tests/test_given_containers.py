"""What a call does to containers among its arguments reaches the caller, and a container that is given twice is one."""

import collections
import dataclasses
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, ConversionWarning, DTypeError, UnsupportedError


@dataclasses.dataclass
class Pair:
    a: object
    b: object = None


class Plain:
    def __init__(self, a):
        self.a, self.log = a, []


def one():
    return tj.constant([1.0, 2.0])


def shown(x, seen):
    """A nest as plain data, in which a container that stands in several places is told by its number."""
    if isinstance(x, (tj.Tensor, tj.Variable, np.ndarray, np.generic)):
        return type(x).__name__, np.asarray(x).tolist()
    if not isinstance(x, (list, tuple, dict, collections.deque, Pair, Plain)):
        return x
    if id(x) in seen:
        return "again", seen[id(x)]
    if not isinstance(x, tuple):
        seen[id(x)] = len(seen)
    if isinstance(x, dict):
        return type(x).__name__, [(k, shown(v, seen)) for k, v in x.items()]
    if isinstance(x, (Pair, Plain)):
        return type(x).__name__, [(k, shown(v, seen)) for k, v in vars(x).items()]
    return type(x).__name__, [shown(v, seen) for v in x]


def twice(make):
    x = make()
    return x, x


def append(a, b):
    a.append(one() * 2.0)
    return tj.constant(len(b)), a[-1] is b[-1]


def put(a, b):
    a["k"] = a["a"] + 1.0
    return b.get("k", 0.0)


def set_item(a, b):
    a[0] = a[0] + 1.0
    return b[0]


def set_field(a, b):
    a.a = a.a + 1.0
    return b.a


def are_one(a, b):
    return tj.constant(1.0 if a is b else 2.0)


def deep(n):
    n["p"].append(one())
    return tj.constant(len(n["q"]["r"]))


def deep_twice():
    x = [one()]
    return ({"p": x, "q": {"r": x}},)


def read_missing(d):
    return d["a"] + d["q"], "q" in d, len(d)


def append_to_missing(d):
    d["q"].append(one())
    d["q"].append(d["a"][0] * 2.0)
    return one()


def count_up(d):
    for k in ("a", "b", "a"):
        d[k] += 1.5
    return one() * len(d)


def deep_missing(d):
    d["x"]["y"].append(one())
    d["x"][2] = [one()]
    return one()


def branch_on_missing(d):
    if tj.reduce_sum(d["a"]) > 0:
        y = d["z"] * 2.0
    else:
        y = d["a"] * 3.0
    return y


def factory():
    return one() * 3.0


PROGRAMS = [
    (append, lambda: twice(lambda: [one()])), (append, lambda: ([one()], [one()])),
    (put, lambda: twice(lambda: {"a": one()})), (put, lambda: ({"a": one()}, {"a": one()})),
    (set_item, lambda: twice(lambda: [one()])), (set_field, lambda: twice(lambda: Pair(one()))),
    (set_field, lambda: twice(lambda: Plain(one()))),
    (are_one, lambda: twice(lambda: [one()])), (are_one, lambda: ([one()], [one()])),
    (are_one, lambda: twice(lambda: Pair(one()))), (are_one, lambda: twice(lambda: {"a": one()})),
    (deep, deep_twice), (deep, lambda: ({"p": [one()], "q": {"r": [one()]}},)),
    (read_missing, lambda: (collections.defaultdict(factory, a=one()),)),
    (read_missing, lambda: (collections.defaultdict(factory, a=one(), q=one()),)),
    (append_to_missing, lambda: (collections.defaultdict(list, a=[one()]),)),
    (count_up, lambda: (collections.defaultdict(float),)),
    (deep_missing, lambda: (collections.defaultdict(lambda: collections.defaultdict(list)),)),
]  # fmt: skip


@pytest.mark.parametrize(("python", "arguments"), PROGRAMS, ids=[p[0].__name__ for p in PROGRAMS])
def test_arguments_and_results_are_as_without_tracing(python, arguments):
    def runs(f):
        found = []
        for _ in range(3):
            given = arguments()
            found.append((shown(f(*given), {}), shown(given, {})))
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runs(tj.function(python)) == runs(python)


def test_one_or_two_containers_are_two_traces():
    f = tj.function(are_one)
    a, b = [one()], [one()]
    assert [float(f(*p)) for p in ((a, b), (a, a), (b, b), (b, a))] == [2.0, 1.0, 1.0, 2.0]
    assert f.experimental_get_tracing_count() == 2
    g = tj.function(lambda p, q: p[0] + q[0])
    c = g.get_concrete_function(a, b)
    assert c(a, a).numpy().tolist() == [2.0, 4.0] and g(a, a).numpy().tolist() == [2.0, 4.0]


def test_results_that_are_one_are_one():
    @tj.function
    def f(x):
        a = [x * 2.0]
        return a, {"b": a}, Pair(a)

    for _ in range(2):
        a, b, c = f(one())
        assert a is b["b"] is c.a and a[0].numpy().tolist() == [2.0, 4.0]

    @tj.function
    def circular(x):
        a = [x]
        a.append(a)
        return a

    with pytest.raises(UnsupportedError, match="circular returns a list that holds itself"):
        circular(one())


def test_containers_that_hold_themselves_are_refused_by_name():
    a, d, p = [one()], {"x": one()}, Pair(one())
    a.append(a)
    d["d"] = {"e": d}
    p.b = p
    f = tj.function(lambda x, *rest, **named: x)
    for args, named, name in (((a,), {}, "x"), ((1.0, d), {}, r"rest\[0\]"), ((1.0,), {"k": p}, "k")):
        with pytest.raises(ArgumentError, match=f"argument {name} of <lambda> is a .* that holds itself"):
            f(*args, **named)


# --- functions that run as plain Python -------------------------------------------------------------------------------
def append_number(a, b, t):
    a.append(float(t.numpy().sum()))
    return t * b[0]


def fill_dict(d, t):
    d["q"].append(t.numpy().sum())
    d["n"] = t
    return t + d["a"]


def fill_object(o, t):
    o.b = t.numpy().sum()
    return t + o.a


@pytest.mark.parametrize(
    ("python", "arguments"),
    [
        (append_number, lambda: (*twice(lambda: [np.ones(2, np.float32)]), one())),
        (append_number, lambda: ([], [one()], one())),
        (fill_dict, lambda: (collections.defaultdict(list, a=np.ones(2, np.float32)), one())),
        (fill_dict, lambda: ({"a": one(), "q": []}, one())),
        (fill_object, lambda: (Pair(np.ones(2, np.float32)), one())),
        (fill_object, lambda: (Plain(one()), one())),
    ],
)
def test_plain_python_changes_the_containers_of_the_caller(python, arguments):
    f = tj.function(python)
    for i in range(2):
        given, wanted = arguments(), arguments()
        if i:
            y = f(*given)
        else:
            with pytest.warns(ConversionWarning):
                y = f(*given)
        assert shown((y, given), {}) == shown((python(*wanted), wanted), {})
        assert [type(x) for x in given] == [type(x) for x in wanted]


# --- arrays that are no tensors ---------------------------------------------------------------------------------------
def test_arrays_of_strings_and_times_count_by_value():
    @tj.function
    def f(x, names):
        return x * (2.0 if names[0] == "a" else 3.0) + len(names)

    x, names = one(), np.array(["a", "b"])
    for _ in range(2):
        assert f(x, names).numpy().tolist() == [4.0, 6.0] == f(x, np.array(["a", "b"])).numpy().tolist()
        assert f(x, np.array(["b"])).numpy().tolist() == [4.0, 7.0]
    assert f.experimental_get_tracing_count() == 2
    names[0] = "c"
    assert f(x, names).numpy().tolist() == [5.0, 8.0]
    names[0] = "a"
    assert f(x, names).numpy().tolist() == [4.0, 6.0] and f.experimental_get_tracing_count() == 3

    g = tj.function(lambda x, k: x * (2.0 if k == k.dtype.type(1) else 3.0) if k.dtype.kind != "U" else x * len(str(k)))
    for k, y in ((np.timedelta64(1), 2.0), (np.timedelta64(2), 3.0), (np.str_("four"), 4.0), (np.str_("a"), 1.0)):
        assert float(g(tj.constant(1.0), k)) == y == float(g(1.0, k))
    records = np.array([(2.0, 3)], [("w", "f4"), ("n", "i4")])
    h = tj.function(lambda x, r: x * float(r["w"][0]) + int(r["n"][0]))
    assert h(x, records).numpy().tolist() == [5.0, 7.0]
    records["n"] = 4
    assert h(x, records).numpy().tolist() == [6.0, 8.0] == h.get_concrete_function(x, records)(x).numpy().tolist()


def test_arrays_of_objects_are_refused_by_name():
    f = tj.function(lambda x, d: x)
    with pytest.raises(DTypeError, match=r"argument \"d\['k'\]\" of <lambda> is an array of Python objects"):
        f(1.0, {"k": np.array([None, "a"])})
    with pytest.raises(DTypeError, match=r"argument 'x' of <lambda>: dtype.*is not an element type"):
        f(np.ones(2, np.longdouble), 1.0)
