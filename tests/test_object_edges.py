"""Objects at the edges: dtypes by other objects, pickles and copies, NumPy writing into tensors, subclasses."""

import copy
import inspect
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tracejit as tj


@pytest.fixture(autouse=True)
def no_interpreter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pickled(x):
    return pickle.loads(pickle.dumps(x))


# --- dtypes by other objects ----------------------------------------------------------------------------------------
def test_unpickled_variables_and_tensors_are_taken_natively():
    v = pickled(tj.Variable([1.0, 2.0]))
    assert tj.function(lambda x: x * v)(tj.ones(2)).numpy().tolist() == [1, 2]
    w, t = tj.Variable([1.0, 2.0]), pickled(tj.constant([3.0, 4.0]))
    assert t._a.dtype is v._a.dtype is np.dtype(np.float32)
    w.assign(t)
    assert tj.function(lambda x: w.assign_add(x) + 0.0)(tj.ones(2)).numpy().tolist() == [4, 5]


@pytest.mark.parametrize("dtype", ["q", "Q", ">f4", ">f8", ">i4", ">c8"])
def test_arrays_of_other_dtype_objects(dtype):
    a = np.arange(40).astype(dtype)
    own = tj.as_dtype(a.dtype).np
    assert tj.constant(a)._a.dtype is own and tj.Variable(a)._a.dtype is own
    ones, v = tj.ones(40, own), tj.Variable(a)
    for f in (lambda x: x * a, lambda x: a * x, lambda x: tj.constant(a) * x, lambda x: x * v):
        np.testing.assert_array_equal(tj.function(f)(ones), a)
    np.testing.assert_array_equal(tj.function(lambda x: x * 1)(a), a)


def test_captured_arrays_of_the_other_byte_order_are_read_at_each_call():
    a = np.ones(40, ">f4")
    f = tj.function(lambda x: a * x)
    assert f(tj.ones(40)).numpy()[0] == 1
    a[:] = 3
    assert f(tj.ones(40)).numpy()[0] == 3
    with tj.GradientTape() as tape:
        tape.watch(x := tj.ones(40))
        y = f(x)
    assert tape.gradient(y, x).numpy()[0] == 3


# --- NumPy writing --------------------------------------------------------------------------------------------------
WRITES = {
    "copyto": lambda z: np.copyto(z, 5.0),
    "at": lambda z: np.add.at(z, (0, 0), 1),
    "put": lambda z: np.put(z, [0], 9),
    "putmask": lambda z: np.putmask(z, np.ones((2, 2), bool), 9),
    "place": lambda z: np.place(z, np.ones((2, 2), bool), 9.0),
    "fill_diagonal": lambda z: np.fill_diagonal(z, 9),
    "ufunc": lambda z: np.add(z, 1, out=z),
    "ufunc of arrays": lambda z: np.add(np.ones((2, 2)), 1, out=(z,)),
    "sum": lambda z: np.sum(np.ones((2, 2, 2)), axis=0, out=z),
    "clip": lambda z: np.clip(z, 0, 1, z),
}


@pytest.mark.parametrize("make", [tj.constant, tj.Variable])
@pytest.mark.parametrize("write", WRITES)
def test_numpy_writes_to_no_tensor(write, make):
    z = make([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="would write to a tensor"):
        WRITES[write](z)
    assert z.numpy().tolist() == [[1, 2], [3, 4]]


def test_out_is_returned_as_numpy_does():
    x, out, row = tj.constant([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    assert np.add(x, 1, out=out) is out and out[1, 1] == 5
    for r in (np.sum(x, axis=0, out=row), np.sum(x, 0, None, row), np.max(x, 0, row), np.mean(x, 0, None, row)):
        assert r is row
    assert row.tolist() == [2, 3]
    fixed = np.zeros((2, 2))
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        np.copyto(fixed, x)


def test_results_of_numpy_share_no_memory_with_variables():
    v = tj.Variable([[1.0, 2.0], [3.0, 4.0]])
    d = np.diagonal(v)
    tj.function(lambda: v.assign_add(tj.ones((2, 2))))()
    assert d.numpy().tolist() == [1, 4]


# --- subclasses of Variable -----------------------------------------------------------------------------------------
class Tagged(tj.Variable):
    __slots__ = ("extra",)

    def __init__(self, value, *, tag):
        super().__init__(value, name="w")
        self.tag, self.extra = tag, 3


def test_gradients_of_variable_subclasses():
    v = Tagged([1.0, 2.0], tag="t")
    f = tj.function(lambda x: tj.reduce_sum(v * v * x))
    for g in (lambda: tj.reduce_sum(v * v), lambda: f(tj.ones(2))):
        with tj.GradientTape() as tape:
            y = g()
        assert tape.gradient(y, v).numpy().tolist() == [2, 4]

    @tj.function
    def inside(x):
        with tj.GradientTape() as tape:
            y = tj.reduce_sum(v * v * x)
        return tape.gradient(y, v)

    assert inside(tj.ones(2)).numpy().tolist() == [2, 4]


@pytest.mark.parametrize("again", [copy.deepcopy, pickled, lambda v: pickle.loads(pickle.dumps(v, 0))])
def test_copies_of_variable_subclasses_keep_class_and_attributes(again):
    v = Tagged([1.0, 2.0], tag="t")
    w = again(v)
    assert (type(w), w.tag, w.extra, w.name, w.trainable) == (Tagged, "t", 3, "w:0", True)
    w.assign([5.0, 6.0])
    assert v.numpy().tolist() == [1, 2]
    both = again([v, v])
    assert both[0] is both[1]


def test_variables_are_not_copied_in_a_trace():
    v = tj.Variable(1.0)
    with pytest.raises(tj.errors.TracedValueError, match="cannot be made"):
        tj.function(lambda: copy.deepcopy(v).assign_add(1.0))()


# --- copies of traced functions -------------------------------------------------------------------------------------
@tj.function
def doubled(x):
    return x * 2.0


def _tripled(x):
    return x * 3.0


tripled = tj.function(_tripled, numerics="exact")


class Model:
    def __init__(self, by):
        self.by = tj.Variable(by)
        self.step = tj.function(self._step)

    def _step(self, x):
        return x * self.by

    @tj.function
    def method(self, x):
        return x * self.by


def test_traced_functions_are_pickled_by_name():
    assert pickled(doubled) is doubled and pickled(Model.method) is Model.method
    again = pickled(tripled)
    assert again(tj.ones(1)).numpy()[0] == 3 and again.numerics == "exact"
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(tj.function(lambda x: x))


MAIN = """
import pickle, sys
import tracejit as tj
try:
    from joblib.externals import cloudpickle
except ImportError:
    import cloudpickle

w = tj.Variable([1.0, 2.0])

@tj.function(numerics="exact")
def f(x, k=2.0, *, m=3.0):
    \"\"\"What it does.\"\"\"
    return g(x) * k + m + w

@tj.function
def g(x):
    return f(x[:2]) if x.shape[0] > 2 else x * 2.0

class Model:
    def __init__(self):
        self.w = tj.Variable(5.0)

    @tj.function
    def step(self, x):
        return x * self.w

def made(c):
    @tj.function
    def inner(x, k=1.0):
        return inner(x[:2]) if x.shape[0] > 2 else x * c * k
    return inner

if __name__ == "__main__":
    m = Model()
    assert pickle.loads(pickle.dumps([f, Model.step, f])) == [f, Model.step, f]  # by name
    sys.stdout.buffer.write(cloudpickle.dumps([f, g, m, m.step, made(3.0), Model.step]))
"""
OTHER = """
import pickle, sys
import tracejit as tj

f, g, m, step, made, method = pickle.load(sys.stdin.buffer)
x = tj.ones(2)
print(f(x).numpy().tolist(), f(x, 1.0, m=0.0).numpy().tolist(), g(tj.ones(3)).numpy().tolist(), f.numerics)
print(f.__doc__, f.__qualname__, method.__qualname__, [h(x).numpy().tolist() for h in (m.step, step, made)])
assert type(m).step is method and f.experimental_get_tracing_count() == 2
"""


def test_functions_of_scripts_go_to_other_processes_by_value(tmp_path):
    pytest.importorskip("joblib")
    script, env = tmp_path / "script.py", {**os.environ, "PYTHONPATH": str(Path(tj.__file__).parents[1])}
    script.write_text(MAIN)
    made = subprocess.run([sys.executable, str(script)], capture_output=True, env=env, timeout=120)
    assert not made.returncode, made.stderr.decode()
    seen = subprocess.run([sys.executable, "-c", OTHER], input=made.stdout, capture_output=True, env=env, timeout=120)
    assert seen.stdout.decode().splitlines() == [
        "[8.0, 9.0] [3.0, 4.0] [8.0, 9.0] exact",
        "What it does. f Model.step [[5.0, 5.0], [5.0, 5.0], [3.0, 3.0]]",
    ], seen.stderr.decode()


def test_copies_of_traced_functions():
    assert copy.copy(doubled) is doubled and copy.deepcopy(doubled) is doubled
    f = tj.function(lambda x: x)
    assert copy.deepcopy([f])[0] is f


@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_copies_of_models_call_their_own_functions(again):
    m = Model(2.0)
    for f in (m.step, m.method):
        assert f(tj.ones(1)).numpy()[0] == 2
    n = again(m)
    n.by.assign(5.0)
    for f in (n.step, n.method):
        assert f(tj.ones(1)).numpy()[0] == 5
    for f in (m.step, m.method):
        assert f(tj.ones(1)).numpy()[0] == 2
    assert n.step.python_function.__self__ is n
    other = again(m.method)
    assert inspect.isfunction(other.python_function.__func__) and other(tj.ones(1)).numpy()[0] == 2


def test_traced_functions_in_worker_processes():
    doubled(tj.ones(2))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        out = pool.map(doubled, [tj.ones(2), tj.ones(3)])
    assert [x.numpy().tolist() for x in out] == [[2, 2], [2, 2, 2]]
