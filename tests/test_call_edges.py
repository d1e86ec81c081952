"""Which calls go native, how many traces a function keeps, and what slices of Variables take."""

import collections
import dataclasses
import gc
import sys
import warnings
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import RetracingWarning
from tracejit.function import Function
from tracejit.runtime.entry import NativeCallable
from tracejit.traces import MANY_TRACES, TRACES

Pair = collections.namedtuple("Pair", "a b")
Other = collections.namedtuple("Other", "a b")


@pytest.fixture
def slow(monkeypatch):
    """How many calls did not go native."""
    calls = []
    before = Function._slow
    monkeypatch.setattr(Function, "_slow", lambda self, *a, **k: calls.append(1) or before(self, *a, **k))
    return calls


def test_named_tuples_go_native(slow):
    f = tj.function(lambda p, q=1.0: p.a - p.b * q)
    x, y = tj.ones(3), tj.ones(3) * 2.0
    f(Pair(x, y))
    slow.clear()
    assert f(Pair(x, y)).numpy()[0] == -1 and f(Pair(y, x)).numpy()[0] == 1
    assert not slow
    assert f(Other(y, x)).numpy()[0] == 1 and slow
    g = tj.function(lambda p: p.b.a + p.a["x"])
    nest = Pair({"x": x}, Other(y, None))
    g(nest)
    slow.clear()
    assert g(nest).numpy()[0] == 3 and not slow
    with pytest.raises(AttributeError):
        f((x, y))


@dataclasses.dataclass
class Model:
    w: object
    b: object
    scale: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    w: object
    b: object
    scale: float = 1.0


class Derived(Model):
    pass


@pytest.mark.parametrize("cls", [Model, Slotted, Derived])
def test_dataclasses_go_native(slow, cls):
    f = tj.function(lambda m, x: x * m.w["w"] * m.scale + m.b)
    x = tj.ones(3)
    f(cls({"w": x * 2.0}, x), x)
    slow.clear()
    assert f(cls({"w": x * 3.0}, x * 4.0, 2.0), x).numpy()[0] == 10
    assert f(x=x, m=cls({"w": x * 3.0}, x)).numpy()[0] == 4 or slow
    slow.clear()
    assert f(m=cls({"w": x * 3.0}, x), x=x).numpy()[0] == 4
    other = Model if cls is Slotted else Slotted
    assert f(other({"w": x * 5.0}, x), x).numpy()[0] == 6 and slow
    assert f(cls({"w": x * 3.0}, cls(x, x).b, 2.0), x).numpy()[0] == 7
    kept = cls({"w": x}, x)
    references = sys.getrefcount(kept), sys.getrefcount(kept.b)
    for _ in range(50):
        f(kept, x)
    assert (sys.getrefcount(kept), sys.getrefcount(kept.b)) == references


def test_dataclasses_that_lack_a_field_or_whose_class_changes(slow):
    @dataclasses.dataclass
    class Mine:
        w: object
        b: object

    f = tj.function(lambda m: m.w - m.b)
    x = tj.ones(3)
    m = Mine(x, x)
    f(m)
    slow.clear()
    assert f(m).numpy()[0] == 0 and not slow
    bare = Mine(x, x)
    del bare.b
    with pytest.raises(AttributeError):
        f(bare)
    Mine.w = property(lambda self: self.b * 5.0, lambda self, value: None)
    assert f(m).numpy()[0] == 4
    del Mine.w
    m.w = x * 2.0
    assert f(m).numpy()[0] == 1 and f(m).numpy()[0] == 1
    slow.clear()
    assert f(m).numpy()[0] == 1 and not slow
    Mine.__getattribute__ = lambda self, name: x * 7.0 if name == "w" else object.__getattribute__(self, name)
    assert f(m).numpy()[0] == 6 and f(m).numpy()[0] == 6


def test_dataclasses_where_calls_go_through_python(slow):
    f = tj.function(lambda m, x: m.w * m.b + x)
    x = tj.ones(3)
    f(Model(x, x), x)
    slow.clear()
    call = NativeCallable.__call__  # what is called where native code cannot read Python's objects
    assert call(f, Model(x * 3.0, x), x).numpy()[0] == 4 and not slow
    assert call(f, Slotted(x * 3.0, x), x).numpy()[0] == 4 and slow


def test_tensors_by_default_go_native(slow):
    d = tj.ones(3) * 5.0
    f = tj.function(lambda x, d=d, *, e=d: x + d + e)
    x = tj.ones(3)
    f(x)
    slow.clear()
    assert f(x).numpy()[0] == 11 and not slow
    assert f(x, x, e=x).numpy()[0] == 3
    with tj.GradientTape() as tape:
        tape.watch(d)
        y = f(x)
    assert tape.gradient(y, d).numpy().tolist() == [2, 2, 2]
    assert f(x).numpy()[0] == 11


def test_many_sizes_go_native(slow):
    f = tj.function(lambda x: x * 2.0)
    xs = [tj.ones(n) for n in range(2, 22)]
    for x in xs:
        f(x)
    slow.clear()
    for x in xs:
        assert f(x).shape == x.shape
    assert not slow


def test_traces_of_objects_made_anew_are_forgotten_after_a_warning():
    f = tj.function(lambda x, o: x * 2.0)
    first = type("Mine", (), {})()
    gone, x = weakref.ref(first), tj.ones(3)
    f(x, first)
    del first
    with pytest.warns(RetracingWarning, match="args.*Mine|Mine") as found:
        for _ in range(TRACES + 40):
            f(x, type("Mine", (), {})())
    assert len(found) == 1 and found[0].filename == __file__
    assert len(f.concrete_functions) == 1  # a trace ends with the objects among its arguments
    gc.collect()
    assert gone() is None


def test_traces_in_use_are_kept():
    f = tj.function(lambda x, o: x * 2.0)
    o, x = object(), tj.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(TRACES + 10):
            f(x, object())
            f.get_concrete_function(x, o)
    assert f.experimental_get_tracing_count() == TRACES + 11
    assert MANY_TRACES < TRACES


SLICES = {
    "column": lambda w: w[:, 0], "row": lambda w: w[0], "element": lambda w: w[0, 0], "rows": lambda w: w[:2],
    "picked": lambda w: w[[0, 1]], "tensor": lambda w: w[tj.constant(1)],
}  # fmt: skip


@pytest.mark.parametrize("key", SLICES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (3, 1), (1, 1), (1, 1, 1), (2, 3), (1, 2, 3)])
def test_slices_take_the_same_shapes_eagerly_and_traced(key, shape):
    def outcome(assign):
        w = tj.Variable(np.zeros((3, 3), np.float32))
        try:
            assign(w, tj.ones(shape))
        except ValueError:
            return None
        return w.numpy().tolist()

    def eager(w, x):
        SLICES[key](w).assign(x)

    assert outcome(eager) == outcome(lambda w, x: tj.function(lambda x: eager(w, x))(x))


def test_slices_take_what_tensorflow_takes():
    w = tj.Variable(np.zeros((3, 3), np.float32))
    w[:, 0].assign(tj.ones((1, 3)))
    w[1, 1].assign(tj.ones((1, 1)))
    assert w.numpy().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]
    with pytest.raises(ValueError):
        w[:, 0].assign(tj.ones((3, 1)))
