"""Functions that NumPy has no ufunc for: native ufuncs of ours give what the steps of NumPy's gave."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import tracejit as tj
from tracejit.ops import frequent
from tracejit.runtime import eager, formulas

pytestmark = pytest.mark.skipif(eager.unsupported() is not None, reason="Python's own here")

OPS = list(frequent.REPLACE)
EXACT = {"random_normal64", "random_quantile64"}


def kernel_before(op):
    """The kernel that counts its calls goes on to this one."""
    cells = dict(zip(op.numpy.__code__.co_freevars, op.numpy.__closure__, strict=True))
    return cells["kernel"].cell_contents


def operands(op, dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    unit = op.name.startswith("betainc") or op.name in EXACT
    low, high = (0.3, 0.7) if unit else (1.5, 3.0) if op.arity > 1 else op.domain
    xs = [rng.uniform(low, high, shape).astype(dtype) for _ in range(op.arity)]
    if op.name == "polygamma":
        xs[0] = np.round(xs[0])
    return xs


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_what_the_steps_gave(op):
    steps = kernel_before(op)
    assert formulas.activate(op)
    types = [t for t in ("float32", "float64") if op.result in ("same", t)]
    for dtype in types:
        for shape in ((), (1,), (7,), (8,), (3, 7), (100,)):
            xs = operands(op, dtype, shape)
            y, want = op.numpy(*xs), steps(*xs)
            assert type(y) is np.ndarray and y.dtype == want.dtype == dtype and y.shape == shape
            if op.name in EXACT:
                np.testing.assert_array_equal(y, want)
            else:
                np.testing.assert_allclose(y, want, rtol=1e-12 if dtype == "float64" else 1.2e-7, atol=1e-13)
                if dtype == "float32" and np.size(want):
                    assert np.mean(y == want) > 0.95
        xs = operands(op, dtype, (60,))
        whole = op.numpy(*xs)
        np.testing.assert_array_equal(op.numpy(*[x[::-3] for x in xs]), whole[::-3])  # wherever they lie
        np.testing.assert_array_equal(op.numpy(*[x[:5] for x in xs]), whole[:5])


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "erf", "erfinv", "lgamma", "digamma", "bessel_i0"])
def test_special_values(name):
    op = next(o for o in OPS if o.name == name)
    assert formulas.activate(op)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40, 1.0, -1.0])
    with np.errstate(all="ignore"):
        for dtype in ("float32", "float64"):
            a = x.astype(dtype)
            np.testing.assert_allclose(op.numpy(a), kernel_before(op)(a), rtol=1e-6 if dtype == "float32" else 1e-13)


def test_public_functions_use_the_loops():
    eager.activate()
    op = next(o for o in OPS if o.name == "erfinv")
    assert formulas.activate(op)
    x = tj.constant([0.1, 0.5, -0.25])
    native = op.native
    assert native is not None and type(native(x)) is tj.Tensor
    np.testing.assert_array_equal(native(x), tj.math.erfinv(x))
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.math.erfinv(x)
    np.testing.assert_array_equal(y, native(x))
    assert tape.gradient(y, x) is not None
    for d in ("int32", "float16", "bfloat16"):
        one = tj.math.erfinv(tj.cast(tj.constant([0, 0]), d))
        assert one.dtype.name == ("float64" if d == "int32" else d)
    rows = tj.constant([1.0, 2.0])[:, None]
    np.testing.assert_allclose(tj.math.igamma(rows, x[:2]), tj.math.igamma([[1.0], [2.0]], x[:2]))


def test_errors_are_those_of_the_row():
    op = next(o for o in OPS if o.name == "erf")
    assert formulas.activate(op)
    with pytest.raises(tj.errors.DTypeError):
        tj.math.erf(tj.constant([1j]))


def test_frequent_calls_ask_for_the_ufunc(monkeypatch):
    asked = []
    op = next(o for o in OPS if o.name == "dawsn")
    cells = dict(zip(op.numpy.__code__.co_freevars, op.numpy.__closure__, strict=True))
    monkeypatch.setattr(cells["left"], "cell_contents", 3)
    monkeypatch.setattr(cells["native"], "cell_contents", None)
    monkeypatch.setattr(frequent, "WHEN_FREQUENT", [asked.append])
    for _ in range(5):
        op.numpy(np.ones(3))
    assert asked == [op]


def test_the_thread_loads_it():
    code = (
        "import threading, tracejit as tj\n"
        "from tracejit.runtime import ufuncs\n"
        "x = tj.constant([0.5])\n"
        "for _ in range(100): tj.math.erfc(x)\n"
        "for t in threading.enumerate():\n"
        "    if t.name == 'tracejit formulas': t.join()\n"
        "print(sorted(ufuncs.MADE), abs(float(tj.math.erfc(x)[0]) - 0.4795001) < 1e-6)\n"
    )
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert r.stdout.strip() == "['erfc'] True", r.stderr
    assert threading.main_thread().is_alive()


@pytest.mark.parametrize("dtype", [tj.float16, tj.float32, tj.float64], ids=str)
def test_the_next_float_of_zero_towards_zero(dtype):
    """The second operand, also once native loops run: NumPy's for 16 bits give the first."""
    zero, zeros = tj.constant(0.0, dtype), tj.constant([-0.0, 0.0], dtype)
    for _ in range(600):
        assert np.signbit(tj.math.nextafter(zero, zeros).numpy()).tolist() == [True, False]
