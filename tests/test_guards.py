"""What a traced function reads of globals, cells, attributes and items: changes are seen, nothing else costs Python."""

import collections
import functools
import gc
import types
import weakref

import numpy as np
import pytest
from helpers import in_threads
from hypothesis import given, settings
from hypothesis import strategies as st

import tracejit as tj
from tracejit.function import Function
from tracejit.runtime import layout

X = np.array([1.0, -2.0, 3.0])
GAIN, OFFSET = 1.0, 0.0
NAMED = None


def helper(x):
    return x + OFFSET


def traces(f):
    return f.experimental_get_tracing_count()


class Calls:
    """Counts the calls that native code does not take."""

    def __init__(self, monkeypatch):
        self.n = 0
        slow = Function._slow

        def counted(function, *args, **kwargs):
            self.n += 1
            return slow(function, *args, **kwargs)

        monkeypatch.setattr(Function, "_slow", counted)

    def of(self, f, *args):
        before = self.n
        f(*args)
        return self.n - before


@pytest.fixture
def slow(monkeypatch):
    assert layout.unsupported() is None
    return Calls(monkeypatch)


class Model:
    rate = 0.5
    __slots__ = ("k", "__dict__", "__weakref__")

    def __init__(self, **values):
        self.k = 1.0
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def twice(self):
        return self.k * 2.0

    def __getattr__(self, name):
        if name == "missing":
            return self.__dict__.get("fallback", 9.0)
        raise AttributeError(name)


def scenes():
    """Pairs of what reads a place, and changes of it: after each change the function has to agree with Python."""
    m, ns = Model(a=1.0, layers=[1.0, 2.0], pair=(1.0, [2.0])), types.SimpleNamespace(k=1.0)
    module = types.ModuleType("settings_of_a_test")
    module.k = 1.0
    cfg = {"gain": 1.0, "deep": {"x": [1.0, {"y": 2.0}]}, 3: 4.0}
    names, queue = {"a", "b"}, [3.0, 4.0, 5.0]
    order = collections.OrderedDict(a=1.0, b=2.0)
    holder = [lambda x: x + 1.0]
    grid, small = np.arange(6.0).reshape(2, 3), np.arange(5, dtype=np.int8)
    k = 1.0

    def setk(value):
        nonlocal k
        k = value

    def set_global(name, value):
        globals()[name] = value

    def total(values):
        out = 0.0
        for v in values:
            out = out * 2.0 + v
        return out

    yield "global", lambda x: x * GAIN, [lambda: set_global("GAIN", 2.0), lambda: set_global("GAIN", -0.0)]
    yield "global of a helper", lambda x: helper(x), [lambda: set_global("OFFSET", 2.0)]
    yield "helper", lambda x: holder[0](x), [lambda: holder.__setitem__(0, lambda x: x * 3.0)]
    yield "closure", lambda x: x * k, [lambda: setk(2.0), lambda: setk(2), lambda: setk(True), lambda: setk(X)]
    yield "attribute", lambda x: x * m.a, [lambda: setattr(m, "a", 2.0), lambda: setattr(m, "a", np.float32(0.1))]
    yield "slot", lambda x: x * m.k, [lambda: setattr(m, "k", 4.0)]
    yield "property", lambda x: x * m.twice, [lambda: setattr(m, "k", 5.0)]
    yield "class attribute", lambda x: x * m.rate, [
        lambda: setattr(Model, "rate", 0.25), lambda: setattr(m, "rate", 2.0), lambda: delattr(m, "rate"),
    ]  # fmt: skip
    yield "attribute of a class", lambda x: x * Model.rate, [lambda: setattr(Model, "rate", 0.75)]
    yield "fallback", lambda x: x * m.missing, [
        lambda: setattr(m, "fallback", 2.0), lambda: setattr(m, "missing", 3.0), lambda: delattr(m, "missing"),
    ]  # fmt: skip
    yield "getattr", lambda x: x * getattr(m, "b", 7.0), [lambda: setattr(m, "b", 2.0), lambda: delattr(m, "b")]
    yield "hasattr", lambda x: x if hasattr(m, "c") else -x, [lambda: setattr(m, "c", 2.0), lambda: delattr(m, "c")]
    yield "namespace", lambda x: x * ns.k, [lambda: setattr(ns, "k", 2.0)]
    yield "module", lambda x: x * module.k, [lambda: setattr(module, "k", 2.0)]
    yield "vars", lambda x: x * m.__dict__["a"], [lambda: setattr(m, "a", 3.0)]
    yield "dict item", lambda x: x * cfg["gain"] + cfg[3], [
        lambda: cfg.update(gain=2.0), lambda: cfg.__setitem__(3, 5.0),
    ]  # fmt: skip
    yield "deep item", lambda x: x * cfg["deep"]["x"][1]["y"], [
        lambda: cfg["deep"]["x"][1].update(y=3.0), lambda: cfg["deep"].update(x=[0.0, {"y": 4.0}]),
    ]  # fmt: skip
    yield "get", lambda x: x * cfg.get("other", 1.0), [lambda: cfg.update(other=2.0), lambda: cfg.pop("other")]
    yield "in a dict", lambda x: x if "new" in cfg else -x, [lambda: cfg.update(new=1), lambda: cfg.pop("new")]
    yield "in a set", lambda x: x if "c" in names else -x, [lambda: names.add("c"), lambda: names.discard("c")]
    yield "in a list", lambda x: x if 9.0 in queue else -x, [lambda: queue.append(9.0), queue.pop]
    yield "length", lambda x: x * len(queue), [lambda: queue.append(1.0), queue.pop]
    yield "last item", lambda x: x * queue[-1], [lambda: queue.append(1.0), queue.pop]
    yield "truth", lambda x: x if m.layers else -x, [m.layers.clear, lambda: m.layers.extend([1.0, 2.0])]
    yield "iteration", lambda x: x * total(m.layers), [
        lambda: m.layers.append(5.0), lambda: m.layers.reverse(), lambda: setattr(m, "layers", [1.0]),
    ]  # fmt: skip
    yield "slice", lambda x: x * total(queue[1:]), [lambda: queue.__setitem__(2, 0.5)]
    yield "comprehension", lambda x: x * total([q * 2.0 for q in queue]), [lambda: queue.__setitem__(0, 0.5)]
    yield "unpacking", lambda x: x * total([*queue]), [lambda: queue.__setitem__(0, 1.5)]
    yield "assignment to several", lambda x: unpacked(x, m), [lambda: m.pair[1].__setitem__(0, 7.0)]
    yield "added in place", lambda x: x * total(extended(queue)), [lambda: queue.__setitem__(0, 1.25)]
    yield "library call", lambda x: x * sum(queue), [lambda: queue.__setitem__(1, -1.0)]
    yield "stacked", lambda x: x * tj.stack(queue)[0], [lambda: queue.__setitem__(0, -1.0)]
    yield "operand", lambda x: x * queue, [lambda: queue.__setitem__(0, 8.0)]
    yield "sum of lists", lambda x: x * total(queue + [1.0]), [lambda: queue.__setitem__(0, 18.0)]
    yield "in a tuple", lambda x: x * total(m.pair[1]), [lambda: m.pair[1].append(2.0)]
    yield "items", lambda x: x * total(v for _, v in order.items()), [
        lambda: order.move_to_end("a"), lambda: order.update(b=5.0),
    ]  # fmt: skip
    yield "enumerate", lambda x: x * total(i * v for i, v in enumerate(queue)), [lambda: queue.__setitem__(1, 3.5)]
    yield "argument of a helper", lambda x: x * looked_up(cfg), [lambda: cfg.update(gain=5.0)]
    yield "array item", lambda x: x * grid[1, 2], [lambda: grid.__setitem__((1, 2), 9.0)]
    yield "array item from the end", lambda x: x * float(small[-1]), [lambda: small.__setitem__(4, 3)]
    yield "numbers of an array", lambda x: x * total(small), [lambda: small.__setitem__(1, 7)]
    yield "NumPy's sum", lambda x: x * np.sum(grid), [lambda: grid.__setitem__((0, 0), 9.0)]
    yield "method of an array", lambda x: x if grid.any() else -x, [lambda: grid.fill(0.0), lambda: grid.fill(1.0)]
    yield "partial", lambda x: functools.partial(scaled, k=m.a)(x), [lambda: setattr(m, "a", 13.0)]


def unpacked(x, m):
    a, (b,) = m.pair
    return x * a + b


def extended(queue):
    out = [1.0]
    out += queue
    return out


def looked_up(cfg):
    return cfg["gain"]


def scaled(x, k):
    return x * k


SCENES = {name: k for k, (name, _, _) in enumerate(scenes())}


@pytest.mark.parametrize("name", SCENES)
def test_changes_are_seen(name, monkeypatch):
    for k in ("GAIN", "OFFSET"):
        monkeypatch.setitem(globals(), k, 1.0)
    monkeypatch.setattr(Model, "rate", 0.5)
    _, f, changes = list(scenes())[SCENES[name]]
    traced = tj.function(f)
    for change in [lambda: None, *changes]:
        change()
        for _ in range(3):
            want = f(X)
            np.testing.assert_array_equal(traced(X), want)
            np.testing.assert_array_equal(np.signbit(traced(X)), np.signbit(want))
    assert traces(traced) <= 1 + len(changes)


IN_PYTHON = {"in a set", "items"}  # sets, and dicts with an order of their own, are compared in Python


@pytest.mark.parametrize("name", [n for n in SCENES if n not in IN_PYTHON])
def test_guards_are_checked_natively(name, monkeypatch, slow):
    monkeypatch.setitem(globals(), "GAIN", 1.0)
    _, f, changes = list(scenes())[SCENES[name]]
    traced = tj.function(f)
    for change in [lambda: None, *changes]:
        change()
        traced(X)
        assert slow.of(traced, X) == 0
        assert all(c.reads is None or c.reads.native for c in traced.concrete_functions if c.still_holds())


def _of_classes():
    class Base:
        rate = 2.0

        def step(self, x):
            return x * self.rate + type(self).shift

    class Derived(Base):
        shift = 1.0

    class Other:
        rate, shift = 5.0, 2.0

        def step(self, x):
            return x - self.rate

    changes = [
        lambda: setattr(Base, "rate", 3.0), lambda: setattr(Derived, "rate", 4.0), lambda: delattr(Derived, "rate"),
        lambda: setattr(Derived, "shift", 7.0), lambda: setattr(Derived, "step", lambda self, x: x * 10.0),
        lambda: delattr(Derived, "step"), lambda: setattr(Derived, "__bases__", (Other,)),
    ]  # fmt: skip
    return Derived(), Derived, changes


@pytest.mark.parametrize("worn", [False, True], ids=["told so", "changed often"])
def test_classes_without_versions(worn, monkeypatch, slow):
    m, cls, changes = _of_classes()
    if worn:  # which leaves no versions from Python 3.13 on
        for k in range(1100):
            cls.other = k
            assert m.other == k
    else:
        known = types.SimpleNamespace(**vars(layout) | {"version": lambda cls: 0})
        monkeypatch.setattr("tracejit.runtime.guards.layout", known)
    f = tj.function(lambda x: m.step(x))
    for i, change in enumerate([lambda: None, *changes]):
        change()
        np.testing.assert_array_equal(f(X), m.step(X))
        assert slow.of(f, X) == 0, i
        np.testing.assert_array_equal(f(X), m.step(X))


def test_values_that_come_back_find_their_trace(slow):
    m = Model(training=True)
    f = tj.function(lambda x: x * 0.5 if m.training else x)
    for _ in range(4):
        for m.training in (True, False):
            np.testing.assert_array_equal(f(X), X * 0.5 if m.training else X)
    assert traces(f) == 2
    m.training = True
    assert slow.of(f, X) == 0
    m.training = False
    assert slow.of(f, X) == 0


@pytest.mark.parametrize("value", [1.5, 10**6, "some text " * 2, (1.0, "two"), np.float64(2.0), float("nan"), 1 + 2j])
def test_an_equal_value_does_not_retrace(value, slow):
    import copy
    import pickle

    m = Model(a=value)
    f = tj.function(lambda x: (x, m.a)[0])
    f(X)
    m.a = pickle.loads(pickle.dumps(copy.copy(value)))
    f(X)
    assert slow.of(f, X) == 0
    assert traces(f) == 1


@pytest.mark.parametrize("a,b", [(1, True), (1, 1.0), (0.0, -0.0), (1.0, np.float64(1.0)), ((1,), (1.0,)), ("1", 1)])
def test_values_that_only_compare_equal_do(a, b):
    m = Model(a=a)
    f = tj.function(lambda x: (x, m.a)[0])
    f(X)
    m.a = b
    f(X)
    assert traces(f) == 2


def test_nothing_is_asked_of_what_stays_the_same(slow):
    """Libraries, builtins, functions: no retracing, no Python."""
    f = tj.function(lambda x: tj.reduce_sum(helper(x)) + np.pi + float(len("abc")))
    f(X)
    assert slow.of(f, X) == 0
    assert [g.label for g in f.concrete_functions[0].reads.guards if "tracejit." in g.label] == []


def test_what_the_trace_makes_is_no_guard():
    class Point:
        def __init__(self, x):
            self.x = x

    def norm(p):
        parts = {"x": [p.x], "y": [1.0, 2.0]}
        out = p.x * len(parts)
        for q in parts["y"]:
            out = out + q
        return out + parts["x"][0]

    f = tj.function(lambda x: norm(Point(x)))
    for _ in range(3):
        np.testing.assert_allclose(f(X), 3 * X + 3)
    assert traces(f) == 1
    kinds = {type(g).__name__ for g in f.concrete_functions[0].reads.guards}
    assert kinds <= {"Global", "Cell", "ClassAttribute", "Defaults"}


@pytest.mark.parametrize(
    "name,text",
    [
        ("global", "global GAIN: 1.0 -> 2.0"), ("closure", "closure variable k: 1.0 -> 2.0"),
        ("attribute", "attribute Model.a: 1.0 -> 2.0"), ("class attribute", "attribute Model.rate: 0.5 -> 0.25"),
        ("module", "attribute settings_of_a_test.k: 1.0 -> 2.0"), ("dict item", "item cfg['gain']: 1.0 -> 2.0"),
        ("deep item", "item cfg['deep']['x'][1]['y']: 2.0 -> 3.0"), ("in a set", "'c' in names: False -> True"),
        ("iteration", "items of list Model.layers changed"), ("length", "len(queue): 3 -> 4"),
    ],
)  # fmt: skip
def test_reasons_are_told(name, text, monkeypatch):
    monkeypatch.setitem(globals(), "GAIN", 1.0)
    monkeypatch.setattr(Model, "rate", 0.5)
    _, f, changes = list(scenes())[SCENES[name]]
    traced = tj.function(f)
    traced(X)
    changes[0]()
    assert f"traced because: {text}" in traced.explain(X)


def test_a_new_shape_after_a_change_opens_the_size():
    m = Model(a=1.0)
    f = tj.function(lambda x: x * m.a)
    for m.a in (1.0, 2.0):
        for n in (3, 4, 5, 6):
            np.testing.assert_array_equal(f(np.ones(n)), np.full(n, m.a))
    assert traces(f) <= 4


# --- objects ----------------------------------------------------------------------------------------------------------
def test_objects_as_arguments(slow):
    f = tj.function(lambda m, x: x * m.a + m.twice)
    first, second = Model(a=1.0), Model(a=2.0)
    for m in (first, second, first):
        np.testing.assert_array_equal(f(m, X), X * m.a + m.twice)
    assert traces(f) == 2
    assert slow.of(f, first, X) == 0
    first.a = 5.0
    np.testing.assert_array_equal(f(first, X), X * 5.0 + 2.0)
    assert slow.of(f, second, X) == 0


def test_objects_as_arguments_are_not_kept():
    f = tj.function(lambda m, x: x * m.a)
    refs = []
    for k in range(5):
        m = Model(a=float(k))
        for _ in range(2):
            np.testing.assert_array_equal(f(m, X), X * k)
        refs.append(weakref.ref(m))
        del m
        gc.collect()
        assert refs[-1]() is None
    assert len(f.traces) == 1


@pytest.mark.filterwarnings("ignore::tracejit.errors.RetracingWarning")
def test_an_object_at_the_address_of_one_that_is_gone(slow):
    f = tj.function(lambda m, x: x * m.a)
    for k in range(40):
        m = Model(a=float(k))
        np.testing.assert_array_equal(f(m, X), X * k)
        assert slow.of(f, m, X) == 0


def test_captured_objects_are_not_kept():
    box = [Model(a=1.0)]
    f = tj.function(lambda x: x * box[0].a)
    f(X)
    f(X)
    gone = weakref.ref(box[0])
    box[0] = Model(a=2.0)
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(f(X), X * 2)


def test_methods_and_what_they_call(slow):
    class Base:
        scale = 2.0

        def inner(self, x):
            return x * self.scale

    class Layer(Base):
        def __init__(self):
            self.flag = True

        @tj.function
        def __call__(self, x):
            return super().inner(x) if self.flag else self.inner(x) + 1.0

        def inner(self, x):
            return x - self.scale

    layer = Layer()
    for change in (
        lambda: None, lambda: setattr(Base, "scale", 3.0), lambda: setattr(Base, "inner", lambda self, x: x + 10.0),
        lambda: setattr(layer, "flag", False), lambda: setattr(Layer, "inner", lambda self, x: x * 7.0),
        lambda: setattr(layer, "inner", lambda x: x / 2.0),
    ):  # fmt: skip
        change()
        want = Base.inner(layer, X) if layer.flag else layer.inner(X) + 1.0
        np.testing.assert_array_equal(layer(X), want)
        np.testing.assert_array_equal(layer(X), want)
    other = Layer()
    np.testing.assert_array_equal(other(X), Base.inner(other, X))


def test_instances_are_collected():
    class Layer:
        def __init__(self):
            self.w, self.layers = tj.Variable(2.0), [Model(a=1.0)]

        @tj.function
        def __call__(self, x):
            return x * self.w * self.layers[0].a

    layer = Layer()
    layer(X)
    refs = weakref.ref(layer), weakref.ref(layer.w), weakref.ref(layer.layers[0])
    del layer
    gc.collect()
    assert [r() for r in refs] == [None] * 3


def test_a_class_that_is_exchanged():
    class Loud(Model):
        rate = 100.0

    m = Model()
    f = tj.function(lambda x: x * m.rate)
    f(X)
    f(X)
    m.__class__ = Loud
    np.testing.assert_array_equal(f(X), X * 100)


def test_captured_arrays_stay_inputs(slow):
    m = Model(w=np.ones(3), t=tj.constant([1.0, 2.0, 3.0], tj.float64))
    f = tj.function(lambda x: x * m.w + m.t)
    f(X)
    m.w[:] = 5.0
    np.testing.assert_array_equal(f(X), X * 5 + [1, 2, 3])
    assert traces(f) == 1
    m.w, m.t = np.full(3, 2.0), tj.constant(1.0, tj.float64)
    np.testing.assert_array_equal(f(X), X * 2 + 1)
    assert slow.of(f, X) == 0


def test_without_conversion():
    k = 1.0
    f = tj.function(lambda x: x * k * GAIN, autograph=False)
    f(X)
    k = 4.0
    np.testing.assert_array_equal(f(X), X * 4 * GAIN)


def test_branches_that_are_not_taken_read_nothing(monkeypatch):
    monkeypatch.setitem(globals(), "GAIN", 1.0)
    m = Model(debug=False)

    @tj.function
    def f(x):
        if m.debug:
            return x * GAIN
        elif m.debug is None:
            x = x - OFFSET
        return x + 1.0

    for k in range(3):
        monkeypatch.setitem(globals(), "GAIN", float(k))
        np.testing.assert_array_equal(f(X), X + 1)
    assert traces(f) == 1
    m.debug = True
    for k in range(3):
        monkeypatch.setitem(globals(), "GAIN", float(k))
        np.testing.assert_array_equal(f(X), X * k)


def test_a_name_that_is_defined_later():
    f = tj.function(lambda x: x if NAMED is None else x * NAMED)
    names = globals()
    try:
        for value in (None, 2.0):
            names["NAMED"] = value
            np.testing.assert_array_equal(f(X), X if value is None else X * value)
        names["len"] = lambda x: 100
        g = tj.function(lambda x: x * len([1, 2]))
        np.testing.assert_array_equal(g(X), X * 100)
        del names["len"]
        np.testing.assert_array_equal(g(X), X * 2)
    finally:
        names["NAMED"] = None
        names.pop("len", None)


# --- many of them, threads, anything ----------------------------------------------------------------------------------
def test_many_guards(slow):
    m = Model(**{f"a{i}": float(i) for i in range(300)})
    f = tj.function(lambda x: x * sum([getattr(m, f"a{i}") for i in range(300)]))
    for change in (None, 17, 299):
        if change is not None:
            setattr(m, f"a{change}", -1.0)
        np.testing.assert_array_equal(f(X), X * sum(getattr(m, f"a{i}") for i in range(300)))
        assert slow.of(f, X) == 0
    assert len(f.concrete_functions[0].reads.guards) >= 300


def test_a_bounded_number_of_traces():
    a = 0.0
    f = tj.function(lambda x: x * a)
    with pytest.warns(tj.errors.RetracingWarning, match=r"closure variable a: 22.0 -> 23.0"):
        for a in map(float, range(80)):
            np.testing.assert_array_equal(f(X), X * a)
    assert len(f.concrete_functions) <= 64


@pytest.mark.parametrize("python", [int, float])
def test_numbers_that_go_on_changing_become_inputs(python):
    """As when the rate of an optimizer falls with every step."""
    m, cfg = Model(a=python(0)), {"k": python(0), "list": [python(0)]}
    plain = lambda x: x * m.a + cfg["k"] * cfg["list"][0]  # noqa: E731
    f = tj.function(plain)
    for k in range(30):
        m.a, cfg["k"], cfg["list"][0] = python(k), python(k * 3), python(k // 2)
        want = plain(X)
        np.testing.assert_array_equal(f(X), want)
        np.testing.assert_array_equal(f(X), want)
    assert traces(f) <= 8
    m.a = 2.5
    np.testing.assert_array_equal(f(X), plain(X))
    m.a = "text"
    with pytest.raises(TypeError):
        f(X)
    m.a, cfg["k"] = python(7), X
    np.testing.assert_array_equal(f(X), plain(X))


def test_numbers_that_decide_stay_constants():
    m = Model(n=0)

    def plain(x):
        for _ in range(m.n):
            x = x + 1.0
        return x if m.n > 3 else -x

    f = tj.function(plain)
    for m.n in range(12):
        np.testing.assert_array_equal(f(X), plain(X))


def test_in_threads():
    m = Model(a=1.0)
    f = tj.function(lambda x: x * m.a)

    def work(k):
        for i in range(300):
            if i % 20 == 0:
                m.a = float(k)
            y = f(X)[0].numpy()
            assert y in (0.0, 1.0, 2.0, 3.0), y

    in_threads(4, work)
    assert traces(f) <= 4


@pytest.mark.filterwarnings("ignore::tracejit.errors.RetracingWarning")
def test_objects_that_end_while_others_call():
    box = [Model(a=1.0)]
    f, g = tj.function(lambda x: x * box[0].a), tj.function(lambda m, x: x * m.a)

    def work(k):
        for i in range(40):
            m = Model(a=float(i % 7))
            if k == 0:
                box[0] = m
            for _ in range(2):
                assert g(m, X)[0].numpy() == i % 7
            assert f(X)[0].numpy() in range(7)

    in_threads(4, work)
    del box[0]
    gc.collect()
    g(Model(a=1.0), X)
    assert len(g.concrete_functions) == 1


_values = st.one_of(
    st.floats(allow_nan=False, width=32), st.integers(-5, 5), st.booleans(),
    st.lists(st.floats(-2, 2), max_size=3), st.dictionaries(st.sampled_from("abc"), st.floats(-2, 2), max_size=3),
)  # fmt: skip


def weight(x):
    """A number that depends on all of a nest."""
    if isinstance(x, dict):
        out = 0.5
        for k in x:
            out = out * 3.0 + weight(x[k]) + (0.0 if k == "a" else 7.0)
        return out
    if isinstance(x, list):
        out = 0.25
        for y in x:
            out = out * 3.0 + weight(y)
        return out
    return x * 2.0 + (0.125 if x is True else 0.0)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_changes(data):
    names = ["p", "q", "r"]
    m = Model(**{n: data.draw(_values) for n in names})
    plain = lambda x: (x, weight(m.p), weight(m.q) if m.r else len(names))  # noqa: E731
    f = tj.function(plain)
    for _ in range(data.draw(st.integers(1, 6))):
        name = data.draw(st.sampled_from(names))
        old = getattr(m, name)
        if isinstance(old, list) and data.draw(st.booleans()):
            old.append(data.draw(st.floats(-2, 2)))
        elif isinstance(old, dict) and data.draw(st.booleans()):
            old[data.draw(st.sampled_from("abc"))] = data.draw(st.floats(-2, 2))
        else:
            setattr(m, name, data.draw(_values))
        for _ in range(2):
            assert f(X)[1:] == plain(X)[1:]
