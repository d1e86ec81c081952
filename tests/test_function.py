"""What a decorated function takes and gives back: arguments, numbers that steer Python, results, traces."""

import collections
import dataclasses
import gc
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError, ShapeError, TracedValueError
from tracejit.lower import compiler

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


def test_methods_of_two_instances_keep_apart():
    class Model:
        def __init__(self, w):
            self.w = tj.Variable(w)

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


def test_the_order_of_keys_does_not_matter():
    f = tj.function(lambda d: d["a"] - d["b"])
    assert float(f({"a": 3.0, "b": 1.0})) == 2.0
    assert float(f({"b": 1.0, "a": 3.0})) == 2.0
    assert traces(f) == 1


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
    [X, tj.constant(X), np.float32(2), np.array(2.0, np.float32), tj.constant(2.0), X[::-1], np.asfortranarray(np.ones((2, 3))),
     np.arange(12.0).reshape(3, 4)[:, ::2], np.ma.masked_array([1.0, 2.0]), X.astype(">f4"), np.zeros((0, 3)), np.bool_(True)],
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


@pytest.mark.parametrize("x", ["text", np.array(["a"]), np.array([None]), object()], ids=["str", "strings", "objects", "object"])
def test_what_is_no_tensor(x):
    f = tj.function(lambda x: tj.constant(1.0) + x)
    with pytest.raises((TypeError, ValueError)):
        f(x)


# --- Python numbers ---------------------------------------------------------------------------------------------------
def test_numbers_are_inputs():
    f = tj.function(lambda x, k, n: x * k + n)
    for i in range(5):
        assert f(X, i / 2, i).numpy().tolist() == (X * (i / 2) + i).tolist()
    assert traces(f) == 1
    assert f(tj.constant(X), 1, 2.5).dtype == tj.float32
    assert traces(f) == 2


def test_numbers_do_not_decide_the_dtype():
    f = tj.function(lambda x, k: x * k)
    for dtype in (np.float64, np.float32, np.float16, np.int64, np.int32):
        a = np.arange(3).astype(dtype)
        assert f(a, 2).dtype == dtype
        assert f(a, 2).numpy().tolist() == [0, 2, 4]
    assert f(np.arange(3, dtype=np.float16), 0.5).dtype == tj.float16
    assert f(np.arange(3, dtype=np.int32), 0.5).dtype == tj.float64


def test_numbers_among_themselves_are_as_precise_as_pythons():
    f = tj.function(lambda x, n, k: x * ((n * n + n // 3 - n % 7) * (1 - k**n)))
    for n in (3, 40_000, 3_000_000):
        want = (n * n + n // 3 - n % 7) * (1 - 0.9999**n)
        np.testing.assert_allclose(float(f(tj.constant(1.0, tj.float64), n, 0.9999)), want, rtol=1e-14)
        assert f(X, n, 0.9999).dtype == tj.float32
    assert traces(f) == 2


def test_integers_that_do_not_fit_are_refused_as_eagerly():
    f = tj.function(lambda x, n: x * n)
    small, wide = np.arange(3, dtype=np.int8), np.arange(3, dtype=np.int64)
    assert f(small, 3).numpy().tolist() == [0, 3, 6]
    with pytest.raises(DTypeError, match="300 does not fit int8"):
        f(small, 300)
    with pytest.raises(DTypeError, match="does not fit int32"):
        f(np.arange(3, dtype=np.int32), 2**40)
    assert f(wide, 2**40).numpy().tolist() == [0, 2**40, 2**41]
    with pytest.raises(DTypeError):
        f(wide, 2**70)
    assert f(X, 2**70).numpy()[0] == np.float32(2**70)


def test_returned_numbers_are_tensors():
    a, b, c, d = tj.function(lambda n, k: (n, k, n * 2, n / 2))(3, 2.5)
    assert [float(t) for t in (a, b, c, d)] == [3, 2.5, 6, 1.5]
    assert [t.dtype for t in (a, b, c, d)] == [tj.int32, tj.float32, tj.int32, tj.float32]


def test_numbers_that_steer_python_become_constants():
    def repeat(x, n):
        for _ in range(n):
            x = x * 2
        return x

    f = tj.function(repeat)
    for n in (1, 3, 2, 3, 1):
        assert f(X, n).numpy().tolist() == (X * 2**n).tolist()
    assert traces(f) == 3


def test_comparing_and_indexing_with_numbers():
    @tj.function
    def f(x, n, threshold):
        return x[: n + 1] if threshold > 0.5 else x[n]

    assert f(X, 1, 0.75).numpy().tolist() == [1, 2]
    assert f(X, 2, 0.75).numpy().tolist() == [1, 2, 3]
    assert f(X, 2, 0.25).numpy() == 3
    before = traces(f)
    assert f(X, 2, 0.25).numpy() == 3
    assert traces(f) == before


def test_other_numbers_stay_inputs_beside_one_that_steers():
    @tj.function
    def f(x, n, k):
        return tj.zeros((n,)) + x * k

    for k in (0.5, 1.5, 2.5):
        assert f(1.0, 3, k).numpy().tolist() == [k] * 3
    assert traces(f) == 1


def test_an_index_that_is_a_number_is_an_input():
    f = tj.function(lambda x, i: x[i])
    assert [float(f(X, i)) for i in (0, 2, -1, 1)] == [1, 3, 3, 2]
    assert traces(f) == 1
    with pytest.raises(IndexError, match="5"):
        f(X, 5)


@pytest.mark.parametrize("values", [(True, False), ("a", "b"), (None, 1.0), (tj.float32, tj.float64), (slice(0, 1), slice(0, 2))])
def test_other_python_values_are_part_of_the_key(values):
    seen = []

    @tj.function
    def f(x, what):
        seen.append(what)
        return x + 1

    for v in (*values, *values, values[0]):
        assert f(X, v).numpy().tolist() == [2, 3, 4]
    assert traces(f) == 2
    assert seen[0] == values[0]


def test_objects_are_compared_by_identity_unless_they_are_equal_by_value():
    class Config:
        k = 2.0

    @tj.function
    def f(x, c):
        return x * c.k

    a, b = Config(), Config()
    b.k = 3.0
    assert f(X, a).numpy().tolist() == [2, 4, 6]
    assert f(X, b).numpy().tolist() == [3, 6, 9]
    assert f(X, a).numpy().tolist() == [2, 4, 6]
    assert traces(f) == 2


def test_equal_keys_of_different_types_keep_apart():
    f = tj.function(lambda x, k: x * 1 if k is True else x * 2)
    assert f(X, True).numpy().tolist() == [1, 2, 3]
    assert f(X, 1).numpy().tolist() == [2, 4, 6]
    assert f(X, 1.0).numpy().tolist() == [2, 4, 6]


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


# --- what is captured -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [3, 50])
def test_captured_arrays_are_read_at_each_call(n):
    a = np.ones(n, np.float32)
    f = tj.function(lambda k: tj.reduce_sum(a) * k)
    assert float(f(2.0)) == 2 * n
    a[:] = 3
    assert float(f(2.0)) == 6 * n
    assert traces(f) == 1


def test_captured_tensors():
    large, small = tj.constant(np.arange(100.0)), tj.constant(2.0, tj.float64)
    f = tj.function(lambda x: x + tj.reduce_sum(large) * small)
    assert f(1.0).numpy() == 9901.0
    assert f(2.0).numpy() == 9902.0


def test_two_captures_of_one_array():
    a = np.arange(40.0)
    view = a[:20]
    f = tj.function(lambda: tj.reduce_sum(a) + tj.reduce_sum(view))
    assert float(f()) == 780 + 190
    a[0] = 10
    assert float(f()) == 790 + 200


# --- traces -----------------------------------------------------------------------------------------------------------
def test_kinds_of_arguments_have_traces_of_their_own():
    f = tj.function(lambda x: x + x)
    for x in (X, X.astype(np.float64), X.astype(np.int32), X.reshape(1, 3), X.reshape(3, 1), (X, X)):
        f(x)
        f(x)
    assert traces(f) == 6
    assert len(f.concrete_functions) == 6


def test_batch_sizes_share_one_compiled_program(monkeypatch):
    compiled = []
    real = compiler.compile_all
    monkeypatch.setattr(compiler, "compile_all", lambda s: compiled.append(len(s)) or real(s))
    w = tj.Variable(np.arange(12, dtype=np.float32).reshape(4, 3))

    @tj.function
    def f(x):
        h = tj.nn.relu(x @ w)
        return tj.reduce_mean(h, axis=0), tj.nn.softmax(h)

    for n in [5, 7, 2, 3, *range(2, 65)]:
        x = np.arange(n * 4, dtype=np.float32).reshape(n, 4) / (4 * n)
        mean, p = f(x)
        h = np.maximum(x @ w.numpy(), 0)
        np.testing.assert_allclose(mean, h.mean(0), rtol=1e-5)
        assert p.shape == (n, 3)
    assert traces(f) == 2
    assert sum(n > 0 for n in compiled) == 2


@pytest.mark.parametrize("sizes", [(0, 1, 2, 3), (1, 0, 5, 6), (3, 1, 2, 0), (2, 1, 4, 1, 0, 3)])
def test_no_elements_and_one(sizes):
    f = tj.function(lambda x: (tj.reduce_sum(x * 2, axis=0), x - tj.reduce_sum(x), tj.concat([x, x], 0)))
    for n in (*sizes, *sizes):
        x = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        a, b, c = f(x)
        assert a.numpy().tolist() == (2 * x).sum(0).tolist()
        assert b.numpy().tolist() == (x - x.sum()).tolist()
        assert c.shape == (2 * n, 3)
    assert traces(f) <= 4


def test_two_sizes_vary_independently():
    f = tj.function(lambda x, y: tj.reduce_sum(x) + tj.reduce_sum(y))
    for n, m in [(2, 2), (3, 3), (3, 4), (5, 2), (7, 6), (6, 6), (4, 9)]:
        assert float(f(np.ones(n), np.ones(m))) == n + m
    assert traces(f) <= 3


def test_sizes_that_must_be_equal_are_checked():
    f = tj.function(lambda x, y: x + y)
    for n in (2, 3, 4):
        assert f(np.ones(n), np.ones(n)).shape == (n,)
    with pytest.raises(ShapeError):
        f(np.ones(5), np.ones(6))
    assert f(np.ones(5), np.ones(1)).shape == (5,)


def test_sizes_as_numbers():
    @tj.function
    def f(x):
        n = x.shape[0]
        mean = tj.reduce_sum(x) / tj.cast(tj.shape(x)[0], tj.float32)
        return mean, n * 2, tj.zeros((n, 2)), tj.range(n), x[: n // 2]

    for n in (4, 6, 9, 2):
        mean, twice, zeros, line, half = f(np.arange(n, dtype=np.float32))
        assert float(mean) == (n - 1) / 2
        assert int(twice) == 2 * n
        assert zeros.shape == (n, 2)
        assert line.numpy().tolist() == list(range(n))
        assert half.shape == (n // 2,)
    assert traces(f) <= 3


def test_a_size_that_steers_python_is_traced_anew():
    @tj.function
    def f(x):
        total = x[0]
        for i in range(1, x.shape[0]):
            total = total + x[i]
        return total

    for n in (2, 3, 4, 3, 2):
        assert float(f(np.ones(n, np.float32))) == n
    assert traces(f) == 3


def test_a_comparison_of_sizes_is_a_guard():
    f = tj.function(lambda x: x * 2 if x.shape[0] > 4 else x * 3)
    for n in (2, 3, 4, 5, 6, 3, 7):
        assert f(np.ones(n, np.float32)).numpy()[0] == (2 if n > 4 else 3)
    assert traces(f) <= 4


def test_equality_of_sizes_is_a_guard():
    @tj.function
    def f(x, y):
        return 10.0 if x.shape[0] == 6 else 20.0 if x.shape == (4,) else 30.0 if x.shape[0] == y.shape[0] else tj.reduce_sum(x)

    for n, m in [(2, 3), (3, 2), (5, 4), (6, 3), (7, 8), (4, 3), (9, 9), (6, 7), (8, 9), (4, 4)]:
        want = 10 if n == 6 else 20 if n == 4 else 30 if n == m else n
        assert float(f(np.ones(n, np.float32), np.ones(m, np.float32))) == want


def test_no_elements_are_refused_where_they_are_eagerly():
    f = tj.function(lambda x: tj.reduce_max(x, axis=0))
    for n in (3, 4, 5):
        assert f(np.ones((n, 2))).shape == (2,)
    with pytest.raises(ShapeError, match="no elements"):
        f(np.ones((0, 2)))


# --- signatures and concrete functions ----------------------------------------------------------------------------------
def test_input_signature():
    @tj.function(input_signature=[tj.TensorSpec((None, 3), tj.float32), tj.TensorSpec((), tj.float32)])
    def f(x, k):
        return x * k

    for n in (2, 5, 3):
        assert f(np.ones((n, 3), np.float32), 2.0).shape == (n, 3)
    assert f(tj.ones((4, 3)), tj.constant(3.0)).numpy()[0, 0] == 3
    assert traces(f) == 1
    with pytest.raises(ArgumentError, match="signature"):
        f(np.ones((2, 4), np.float32), 1.0)
    with pytest.raises(ArgumentError, match="signature"):
        f(np.ones((2, 3), np.float64), 1.0)
    with pytest.raises((ArgumentError, TypeError)):
        f(np.ones((2, 3), np.float32))


def test_named_sizes_in_a_signature():
    spec = tj.TensorSpec(("n", "n"), tj.float64)
    f = tj.function(lambda a, b: a @ b, input_signature=[spec, tj.TensorSpec(("n",), tj.float64)])
    assert f(np.eye(3), np.arange(3.0)).numpy().tolist() == [0, 1, 2]
    assert f(np.eye(4), np.arange(4.0)).numpy().tolist() == [0, 1, 2, 3]
    assert traces(f) == 1
    with pytest.raises(ShapeError, match="'n'"):
        f(np.eye(3), np.arange(4.0))
    with pytest.raises(ShapeError, match="'n'"):
        f(np.ones((3, 4)), np.arange(4.0))


def test_a_size_that_the_signature_leaves_open_cannot_steer_python():
    @tj.function(input_signature=[tj.TensorSpec((None,), tj.float32)])
    def f(x):
        return sum(x[i] for i in range(x.shape[0]))

    with pytest.raises(TracedValueError, match="input_signature"):
        f(np.ones(3, np.float32))


def test_nested_signature():
    specs = {"x": tj.TensorSpec((None,), tj.float32), "y": [tj.TensorSpec((2,), tj.int32)]}
    f = tj.function(lambda d: tj.reduce_sum(d["x"]) + tj.cast(d["y"][0], tj.float32), input_signature=[specs])
    assert f({"x": X, "y": [np.array([1, 2], np.int32)]}).numpy().tolist() == [7, 8]
    with pytest.raises(ArgumentError, match="structure"):
        f({"x": X, "y": []})


def test_concrete_functions():
    f = tj.function(lambda x, k=2.0: {"out": x * k})
    c = f.get_concrete_function(tj.TensorSpec((None, 3), tj.float32))
    assert traces(f) == 1
    assert c(np.ones((4, 3), np.float32))["out"].numpy()[0, 0] == 2
    v = tj.Variable(1.0, trainable=False)
    w = tj.Variable(2.0)
    d = tj.function(lambda x: x * v * w).get_concrete_function(X)
    assert d.variables == (v, w)
    assert d.trainable_variables == (w,)
    assert "mul" in str(d.graph)
    assert "ConcreteFunction" in repr(d)


# --- switches and nesting -----------------------------------------------------------------------------------------------
def test_run_eagerly():
    seen = []

    @tj.function
    def f(x):
        seen.append(type(x))
        return x + 1

    tj.config.run_functions_eagerly(True)
    try:
        f(X)
        f(tj.constant(X))
        assert seen == [np.ndarray, tj.Tensor]
        assert traces(f) == 0
    finally:
        tj.config.run_functions_eagerly(False)
    f(X)
    f(X)
    assert traces(f) == 1


def test_nested_functions_are_inlined():
    v = tj.Variable(1.0)

    @tj.function
    def inner(x, k):
        v.assign_add(1.0)
        return {"y": x * k}

    @tj.function
    def outer(x):
        return inner(x, 2.0)["y"] + inner(x, 3)["y"] * v

    assert outer(X).numpy().tolist() == (X * 2 + X * 3 * 3).tolist()
    assert float(v) == 3.0
    assert traces(inner) == 0
    assert outer.stats()["kernels"] <= 2


def test_recursion_through_python():
    @tj.function
    def power(x, n):
        return x * 1 if n == 0 else x * power(x, n - 1)

    assert power(X, 3).numpy().tolist() == (X**4).tolist()
    assert power(X, 1).numpy().tolist() == (X**2).tolist()


def test_a_function_that_calls_itself_by_another_kind():
    @tj.function
    def f(x):
        return f(tj.cast(x, tj.float32)) if x.dtype == tj.float64 else x + 1

    assert f(X.astype(np.float64)).dtype == tj.float32


# --- what it says of itself ---------------------------------------------------------------------------------------------
def test_graphs_of_each_stage():
    @tj.function
    def f(a, b, c):
        return a * b + a * b * c + 0.0

    traced, optimized, prepared = (str(f.graph(X, X, X, stage=s)) for s in ("traced", "optimized", "prepared"))
    assert traced.startswith("graph f(%0: f32[3]")
    assert traced.count("mul(%0, %1)") == 1
    assert len(optimized.splitlines()) <= len(traced.splitlines())
    assert prepared.count("return") == 1
    with pytest.raises(ArgumentError, match="stage"):
        f.graph(X, X, X, stage="machine")


def test_explain_and_stats():
    @tj.function
    def f(x):
        return tj.reduce_sum(tj.exp(x - tj.reduce_max(x)) * 1.0)

    f(X)
    text = f.explain(X)
    for part in ("traced because", "graph f(", "rewritten", "kernels", "plan"):
        assert part in text, part
    stats = f.stats()
    assert stats["traces"] == 1
    assert stats["kernels"] == 1
    assert stats["kernels_unfused"] >= 4
    assert stats["nodes_optimized"] <= stats["nodes"]
    assert all(stats[k] >= 0 for k in ("trace_ms", "optimize_ms", "lower_ms", "compile_ms"))
    assert tj.function(lambda: 1.0).stats() == {"traces": 0}


def test_explain_says_why_it_was_traced_again():
    f = tj.function(lambda x, k: x * 2)
    f(X, "a")
    assert "k" in f.explain(X, "b") or "args" in f.explain(X, "b")
    assert "float64" in f.explain(X.astype(np.float64), "a")
    assert "sizes changed" in f.explain(np.ones(4, np.float32), "a")


# --- memory ---------------------------------------------------------------------------------------------------------------
def test_functions_and_what_they_hold_can_be_collected():
    class Big:
        pass

    def make():
        big, v = Big(), tj.Variable(np.ones(100, np.float32))
        f = tj.function(lambda x: (x + v, big)[0] * float(len(vars(big)) + 3))
        f(np.ones(100, np.float32))
        f(np.ones(100, np.float32))
        return weakref.ref(f), weakref.ref(big), weakref.ref(v)

    refs = make()
    gc.collect()
    assert [r() for r in refs] == [None, None, None]


def test_kernels_are_given_back():
    gc.collect()
    f = tj.function(lambda x: tj.exp(x * 1.2345) - tj.sin(x) * 17.25)
    before = set(compiler._known)
    f(X)
    mine = set(compiler._known) - before
    assert len(mine) == 1
    g = tj.function(lambda x: tj.exp(x * 1.2345) - tj.sin(x) * 17.25)
    g(X)
    assert set(compiler._known) - before == mine
    del f
    gc.collect()
    assert g(X).shape == (3,)
    assert mine <= set(compiler._known)
    del g
    gc.collect()
    assert not mine & set(compiler._known)
