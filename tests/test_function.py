"""What a decorated function can be, what it takes, and what it gives back."""

import collections
import copy
import dataclasses
import functools
import gc
import weakref

import numpy as np
import pytest

import tracejit as tj

Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Batch:
    x: object
    label: object = None


def vector(*values, dtype=np.float32):
    return np.array(values, dtype)


def traces(f):
    return f.experimental_get_tracing_count()


X = vector(1, 2, 3)


# --- what can be decorated --------------------------------------------------------------------------------------------
def test_functions_keep_their_name_and_text():
    @tj.function
    def double(x):
        """Twice x."""
        return x * 2

    assert double(X).numpy().tolist() == [2, 4, 6]
    assert (double.__name__, double.__doc__) == ("double", "Twice x.")
    assert "double" in repr(double)
    assert double.python_function(X).tolist() == [2, 4, 6]


def test_decorator_with_arguments():
    @tj.function(jit_compile=True, autograph=False, reduce_retracing=True, name="other")
    def f(x):
        return x + 1

    assert f(X).numpy().tolist() == [2, 3, 4]
    assert f.__name__ == "other"


def test_lambdas_and_closures():
    def scaled(k):
        return tj.function(lambda x: x * k)

    two, three = scaled(2), scaled(3)
    assert two(X).numpy().tolist() == [2, 4, 6]
    assert three(X).numpy().tolist() == [3, 6, 9]


class Scaled:
    def __init__(self, w):
        self.w = tj.Variable(w)

    @tj.function
    def f(self, x):
        return self.w * x


def test_methods_of_two_instances_keep_apart():
    class Model(Scaled):
        @tj.function
        def __call__(self, x):
            return self.w * x

        @tj.function
        def grow(self, by=1.0):
            self.w.assign_add(by)
            return self.w.read_value()

    a, b = Model(2.0), Model(10.0)
    assert a(X).numpy().tolist() == [2, 4, 6]
    assert b(X).numpy().tolist() == [10, 20, 30]
    assert float(a.grow()) == 3.0
    assert float(a.grow(2.0)) == 5.0
    assert float(b.grow()) == 11.0
    assert Model.grow(b, 0.5).numpy() == 11.5
    assert a(X).numpy().tolist() == [5, 10, 15]


def test_instances_are_collected_with_their_traces():
    m = Scaled(np.ones(10))
    m.f(np.ones(10))
    assert m.f == m.f
    assert traces(m.f) == 1
    refs = weakref.ref(m), weakref.ref(m.w)
    f = m.f
    del m
    gc.collect()
    assert f(np.ones(10)).shape == (10,)
    del f
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_copies_of_an_instance_have_traces_of_their_own():
    a = Scaled(2.0)
    a.f(X)
    b, c = copy.copy(a), copy.deepcopy(a)
    b.w = tj.Variable(5.0)
    c.w.assign(7.0)
    assert [float(m.f(1.0)) for m in (a, b, c, a, b)] == [2, 5, 7, 2, 5]
    assert [traces(m.f) for m in (a, b, c)] == [2, 1, 1]


def test_methods_with_a_signature_and_without_a_dict():
    class Model:
        __slots__ = ("w",)

        @tj.function
        def f(self, x):
            return self.w * x

    class Other:
        @tj.function(input_signature=[tj.TensorSpec((None,), tj.float32)])
        def f(self, x):
            return tj.reduce_sum(x)

    m, n = Model(), Model()
    m.w, n.w = 2.0, 3.0
    assert m.f(X).numpy().tolist() == [2, 4, 6]
    assert n.f(X).numpy().tolist() == [3, 6, 9]
    other = Other()
    assert [float(other.f(np.ones(k, np.float32))) for k in (3, 4, 5)] == [3, 4, 5]
    assert traces(other.f) == 1


def test_static_methods_and_callables():
    class Twice:
        @staticmethod
        @tj.function
        def of(x):
            return x * 2

        def __call__(self, x):
            return x * 3

    assert Twice.of(X).numpy().tolist() == [2, 4, 6]
    assert tj.function(Twice())(X).numpy().tolist() == [3, 6, 9]
    assert tj.function(abs)(tj.constant(-X)).numpy().tolist() == [1, 2, 3]
    assert tj.function(functools.partial(lambda k, x: x * k, 2.0))(X).numpy().tolist() == [2, 4, 6]
    np.testing.assert_allclose(tj.function(np.tanh)(tj.constant(X)), np.tanh(X), rtol=1e-6)


def test_a_subclass_calls_the_method_of_its_base():
    class Base:
        @tj.function
        def f(self, x):
            return self.g(x) + 1

        def g(self, x):
            return x

    class Derived(Base):
        def g(self, x):
            return x * 10

        @tj.function
        def f(self, x):
            return super().f(x) * 2

    assert Base().f(X).numpy().tolist() == [2, 3, 4]
    assert Derived().f(X).numpy().tolist() == [22, 42, 62]


# --- arguments --------------------------------------------------------------------------------------------------------
def test_defaults_and_keywords():
    @tj.function
    def f(x, y=2.0, *rest, scale=1.0, **more):
        out = (x + y) * scale
        for r in rest:
            out = out + r
        return out + more.get("z", 0.0)

    assert f(X).numpy().tolist() == [3, 4, 5]
    assert f(X, 3.0).numpy().tolist() == [4, 5, 6]
    assert f(X, y=3.0).numpy().tolist() == [4, 5, 6]
    assert f(y=X, x=1.0).numpy().tolist() == [2, 3, 4]
    assert f(X, 0.0, X, X, scale=10.0, z=0.5).numpy().tolist() == [12.5, 24.5, 36.5]
    with pytest.raises(TypeError):
        f()
    with pytest.raises(TypeError):
        f(X, y=1.0, x=X)


def test_a_default_that_is_a_tensor_or_an_array():
    offset = tj.constant([1.0, 1.0, 1.0])

    @tj.function
    def f(x, a=offset, b=X):
        return x + a + b

    for _ in range(3):
        assert f(X).numpy().tolist() == [3, 5, 7]
    assert f(X, X).numpy().tolist() == [3, 6, 9]


def test_nested_arguments():
    @tj.function
    def f(batch, config):
        x = batch["x"][0] + batch["x"][1][1]
        return {"out": Pair(x * config.left, [x, config.right.x]), "label": config.right.label}

    batch = {"x": [X, (None, X * 2)], "unused": "text"}
    out = f(batch, Pair(2.0, Batch(X, label="cats")))
    assert out["out"].left.numpy().tolist() == [6, 12, 18]
    assert isinstance(out["out"], Pair)
    assert out["out"].right[1].numpy().tolist() == [1, 2, 3]
    assert out["label"] == "cats"
    f(batch, Pair(3.0, Batch(X, label="cats")))
    assert traces(f) == 1
    f(batch, Pair(3.0, Batch(X, label="dogs")))
    assert traces(f) == 2


def test_keys_in_any_order():
    """What iterates over the dict sees the order, so each order is a trace."""
    f = tj.function(lambda d: d["a"] - d["b"])
    for _ in range(2):
        assert float(f({"a": 3.0, "b": 1.0})) == 2.0
        assert float(f({"b": 1.0, "a": 3.0})) == 2.0
    assert traces(f) == 2


def test_variables_as_arguments():
    @tj.function
    def step(v, by):
        v.assign_add(by)
        return v * 1.0

    a, b = tj.Variable([1.0, 2.0]), tj.Variable([10.0, 20.0])
    assert step(a, 1.0).numpy().tolist() == [2, 3]
    assert step(b, 1.0).numpy().tolist() == [11, 21]
    assert step(a, 2.0).numpy().tolist() == [4, 5]
    assert a.numpy().tolist() == [4, 5]
    assert traces(step) == 2


def test_the_same_variable_twice():
    @tj.function
    def f(v, w):
        v.assign_add(1.0)
        return w * 1.0

    v, w = tj.Variable(1.0), tj.Variable(5.0)
    assert float(f(v, v)) == 2.0
    assert float(f(v, w)) == 5.0
    assert float(v) == 3.0


@pytest.mark.parametrize(
    "x",
    [X, tj.constant(X), np.float32(2), np.array(2.0, np.float32), tj.constant(2.0), X[::-1],
    np.asfortranarray(np.ones((2, 3))),
     np.arange(12.0).reshape(3, 4)[:, ::2], np.ma.masked_array([1.0, 2.0]), X.astype(">f4"), np.zeros((0, 3)),
     np.bool_(True)],
    ids=lambda x: f"{type(x).__name__}{getattr(x, 'shape', '')}",
)  # fmt: skip
def test_arrays_and_numpy_scalars(x):
    f = tj.function(lambda x: (x + x, x))
    for _ in range(3):
        twice, same = f(x)
        a = np.asarray(x)
        assert np.array_equal(twice.numpy(), a + a)
        assert same.dtype == a.dtype.newbyteorder("=")
        assert same.shape == a.shape
    assert traces(f) == 1


def test_an_argument_is_never_written_to():
    a = np.ones((5, 7), np.float32)
    t = tj.constant(a)
    f = tj.function(lambda x: tj.exp(x * 2.0) - x)
    for x in (a, t, a):
        f(x)
    assert np.all(a == 1)
    assert np.all(t.numpy() == 1)


@pytest.mark.parametrize(
    "x", ["text", np.array(["a"]), np.array([None]), object()], ids=["str", "strings", "objects", "object"]
)
def test_what_is_no_tensor(x):
    f = tj.function(lambda x: tj.constant(1.0) + x)
    with pytest.raises((TypeError, ValueError)):
        f(x)


# --- results ----------------------------------------------------------------------------------------------------------
def test_structures_of_results():
    v = tj.Variable([1.0, 2.0])
    cases = {
        "single": (lambda x: x + 1, lambda r: r.numpy().tolist() == [2, 3, 4]),
        "tuple": (lambda x: (x, x * 2), lambda r: type(r) is tuple and len(r) == 2),
        "list": (lambda x: [x, x * 2], lambda r: type(r) is list and r[1].numpy().tolist() == [2, 4, 6]),
        "one in a tuple": (lambda x: (x + 1,), lambda r: type(r) is tuple and len(r) == 1),
        "dict": (lambda x: {"b": x, "a": x * 2}, lambda r: r["a"].numpy().tolist() == [2, 4, 6]),
        "nothing": (lambda x: None, lambda r: r is None),
        "empty": (lambda x: ((), [], {}), lambda r: r == ((), [], {})),
        "constants": (lambda x: (1, "a", None, x, True), lambda r: r[:3] == (1, "a", None) and r[4] is True),
        "named": (lambda x: Pair(x, Pair(1, x)), lambda r: isinstance(r.right, Pair) and r.right.left == 1),
        "dataclass": (lambda x: Batch(x, "y"), lambda r: isinstance(r, Batch) and r.label == "y"),
        "variable": (lambda x: v, lambda r: not isinstance(r, tj.Variable) and r.numpy().tolist() == [1, 2]),
        "a constant tensor": (lambda x: tj.constant([1, 2]), lambda r: r.numpy().tolist() == [1, 2]),
        "an array": (lambda x: np.float64(2.0) * x, lambda r: r.dtype == tj.float64),
    }
    for name, (python, holds) in cases.items():
        f = tj.function(python)
        for _ in range(3):
            assert holds(f(X)), name


def test_one_tensor_returned_twice_and_an_argument_returned():
    @tj.function
    def f(x):
        y = x * 2
        return y, y, x, x[0:2], tj.reshape(y, (3, 1))

    y1, y2, x, part, column = f(X)
    assert y1.numpy().tolist() == y2.numpy().tolist() == [2, 4, 6]
    assert x.numpy().tolist() == [1, 2, 3]
    assert part.numpy().tolist() == [1, 2]
    assert column.numpy().tolist() == [[2], [4], [6]]


def test_results_do_not_change_with_later_calls():
    f = tj.function(lambda x: x * 2)
    first = f(X)
    a = X.copy()
    kept = tj.function(lambda x: x)(a)
    a[0] = 100
    f(X * 5)
    assert first.numpy().tolist() == [2, 4, 6]
    assert kept.numpy().tolist() == [1, 2, 3]


def test_names_of_arguments_are_free():
    """No name is taken for the function itself, natively, in traces and where the graph is asked for."""
    f = tj.function(lambda self, *, func, args=1.0, **kwargs: self * func + args * kwargs["name"])
    x = tj.ones(2)
    for _ in range(3):
        assert f(self=x, func=x, name=x).numpy().tolist() == [2.0, 2.0] == f(x, func=x, args=1, name=x).numpy().tolist()
    assert tj.function(lambda y: f(self=y, func=y, name=y))(x).numpy().tolist() == [2.0, 2.0]
    c = f.get_concrete_function(self=x, func=x, name=x)
    assert c(self=x, func=x, name=x).numpy().tolist() == [2.0, 2.0] and "add" in str(f.graph(self=x, func=x, name=x))


def test_what_waits_runs_as_plain_python():
    async def waits(x):
        return x * 2.0

    with pytest.warns(tj.errors.ConversionWarning, match="a coroutine that holds(.|\n)*compile the functions that it"):
        made = tj.function(waits)(tj.ones(2))
    with pytest.raises(StopIteration) as caught:
        made.send(None)
    assert caught.value.value.numpy().tolist() == [2.0, 2.0]
