"""Complex numbers in compiled programs: native code throughout, with the values that NumPy gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowerings import Lowered
from op_table import CASES
from test_complex import FUNCTIONS

import tracejit as tj
from tracejit import TensorSpec
from tracejit.ir.graph import Graph
from tracejit.ir.text import parse, verify
from tracejit.lower.control import ControlUnit
from tracejit.lower.hostunit import HostUnit
from tracejit.passes.complexparts import has_complex, split

DTYPES = (np.complex64, np.complex128)
REAL, IMAG = tj.math.real, tj.math.imag
BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "pow": np.power,
    "equal": np.equal, "not_equal": np.not_equal,
}  # fmt: skip
# where NumPy's own formula loses digits
ROUGH = {"log1p": 300, "pow": 300}


def numbers(*shape, dtype=np.complex128, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


def pairs(values, dtype):
    """All complex numbers with these parts."""
    z = np.empty((len(values), len(values)), dtype)
    z.real, z.imag = np.array(values)[:, None], values
    return z.reshape(-1)


def host_units(block):
    """The steps of a program that run on the host, those of its regions too."""
    found = [u for u in block.units if type(u) is HostUnit]
    inner = [b for u in block.units if isinstance(u, ControlUnit) for b in u.blocks]
    return found + [h for b in inner for h in host_units(b)]


def is_native(f, *args):
    program = f.get_concrete_function(*args).executable.program
    return program is not None and not host_units(program)


def close(got, want, factor=10.0, message=""):
    """Equal up to a few roundings of the number as a whole, NaN and infinite parts included."""
    assert got.dtype == want.dtype and got.shape == want.shape, message
    if want.dtype.kind == "b":
        np.testing.assert_array_equal(got, want, err_msg=message)
        return
    parts = [(got.real, want.real), (got.imag, want.imag)] if want.dtype.kind == "c" else [(got, want)]
    for a, b in parts:
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=message)
        np.testing.assert_array_equal(np.where(np.isinf(b), b, 0), np.where(np.isinf(a), a, 0), err_msg=message)
    finite = np.isfinite(want)
    a, b = got[finite] / 4, want[finite] / 4
    info = np.finfo(want.dtype)
    error = np.abs(a.astype(np.complex128) - b)
    worst = float((error / np.maximum(np.abs(b.astype(np.complex128)), info.tiny)).max(initial=0.0))
    assert worst <= factor * info.eps, (message, worst / info.eps)


def check(f, *arrays, rtol=2e-5, atol=1e-5, native=True, source=True):
    """Every way of running f gives what it gives eagerly; natively without the host's help."""
    lowered, args = Lowered(f), [tj.constant(a) for a in arrays]
    eager = f(*args)
    want = [np.asarray(x) for x in (eager if isinstance(eager, (tuple, list)) else (eager,))]
    for name, got in lowered.results(*args, source=source):
        for a, b in zip(got, want, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), name
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)
    assert is_native(lowered.function, *args) is native
    return lowered.function


# --- functions of one and two numbers ---------------------------------------------------------------------------------
ORDINARY = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 1e-3, -1e-3, 30.0, -30.0]
ENDS = [np.inf, -np.inf, np.nan]


def extremes(dtype):
    i = np.finfo(dtype)
    far = [i.max, -i.max, i.tiny, -i.tiny, i.smallest_subnormal, i.max**0.5, i.tiny**0.5 / 2, 1 + i.eps, 1 - i.eps]
    return [*far, 100.0, -100.0, 800.0, -800.0, 1e5, -1e5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_at_all_sizes(name, dtype):
    f, reference = tj.function(getattr(tj.math, name)), FUNCTIONS[name]
    if name == "rsqrt":
        reference = lambda z: np.reciprocal(np.sqrt(z))  # noqa: E731
    if name == "sigmoid":  # without overflow
        reference = lambda z: tj.math.sigmoid(tj.constant(z)).numpy()  # noqa: E731
    real = np.finfo(dtype).dtype.type
    z = pairs(np.array(ORDINARY + ENDS + extremes(dtype), real), dtype)
    if name in ("square", "sign", "log1p", "asin", "acos", "asinh", "acosh"):  # sums of two large numbers
        m = np.finfo(dtype).max
        z = z[~((abs(z.real) == m) & (abs(z.imag) >= m)) & ~((abs(z.real) >= m) & (abs(z.imag) == m))]
    if name == "sign":  # few digits
        size = np.maximum(abs(z.real), abs(z.imag))
        z = z[~((size > 0) & (size < np.finfo(dtype).tiny))]
    for x in (z, numbers(4001, dtype=dtype)):
        with np.errstate(all="ignore"):
            want = reference(x)
        if name == "log1p":  # NumPy's is log(1 + z), which knows nothing of small numbers
            x, want = x[abs(x) > 0.1], want[abs(x) > 0.1]
        close(f(x).numpy(), want, ROUGH.get(name, 10.0), name)
    assert is_native(f, z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers(name, dtype):
    f = tj.function(lambda a, b: getattr(tj, name)(a, b))
    real = np.finfo(dtype).dtype.type
    more = {"multiply": [30.0], "pow": []}.get(name, ENDS + extremes(dtype)[:7])
    z = pairs(np.array([*ORDINARY[:10], *more], real), dtype)
    ordinary = [numbers(4001, dtype=dtype, seed=i) for i in range(2)]
    for a, b in [(np.repeat(z, z.size), np.tile(z, z.size)), ordinary]:
        with np.errstate(all="ignore"):
            want = BINARY[name](a, b)
        close(f(a, b).numpy(), want, ROUGH.get(name, 10.0), name)
    assert is_native(f, a, b)


def test_log1p_is_accurate_for_small_numbers():
    z = np.array([1e-20 + 1e-20j, -1e-10 + 1e-12j, 1e-5j, 0.25 - 0.25j])
    want = z - z**2 / 2 + z**3 / 3 - z**4 / 4
    np.testing.assert_allclose(tj.function(tj.math.log1p)(z).numpy()[:3], want[:3], rtol=1e-14)
    np.testing.assert_allclose(tj.function(tj.math.log1p)(z).numpy()[3], np.log1p(z[3]), rtol=1e-14)


def test_quotients_and_sizes_do_not_overflow_on_the_way():
    huge, tiny = 2.0**1020, 2.0**-1060
    z = np.array([huge + huge * 1j, tiny + tiny * 1j, huge + 0j, 3 * tiny + 4 * tiny * 1j])
    np.testing.assert_allclose(tj.function(tj.abs)(z).numpy(), np.abs(z), rtol=1e-15)
    w = z[[0, 2]]
    np.testing.assert_allclose(tj.function(lambda a: a / w)(w).numpy(), np.ones(2), rtol=1e-15)
    np.testing.assert_allclose(tj.function(tj.sqrt)(z).numpy() ** 2, z, rtol=1e-14)


def power_of(n):
    return lambda z: z**n


def test_integer_powers_are_products():
    z = numbers(50)
    for n in (0, 1, 2, 3, 7, -1, -2, -5, 0.3, 99, 100):
        f = check(power_of(n), z, rtol=1e-11)
        assert ("log1p" in f.explain(z)) is (n in (0.3, 100))


def test_branch_cuts_follow_the_sign_of_zero():
    z = np.array([complex(-4, 0.0), complex(-4, -0.0), complex(4, 0.0), complex(4, -0.0)])
    for name in ("sqrt", "log", "asin", "acos", "acosh", "atanh"):
        np.testing.assert_allclose(tj.function(getattr(tj.math, name))(z).numpy(), FUNCTIONS[name](z), rtol=1e-14)
    w = 1j * z
    for name in ("asinh", "atan"):
        np.testing.assert_allclose(tj.function(getattr(tj.math, name))(w).numpy(), FUNCTIONS[name](w), rtol=1e-14)


def test_real_factors_multiply_parts_unless_bits_must_be_those_of_numpy():
    z = np.array([complex(np.inf, 1), complex(1, 2)])
    finite = tj.function(lambda z: z * 2.0)(z).numpy()
    exact = tj.function(lambda z: z * 2.0, numerics="exact")(z).numpy()
    assert finite.tolist() == [complex(np.inf, 2), 2 + 4j]
    assert np.isnan(exact[0].imag) and exact[1] == 2 + 4j


# --- the op table -----------------------------------------------------------------------------------------------------
COMPLEX = [c for c in CASES if "c" in c.kinds]


# rows of these modules are functions of LAPACK or of np.fft
LIBRARIES = ("fourier", "solve", "direct", "diagonals", "decompose", "spectra", "matrixfun")


def of_a_library(f, *args):
    return any(n.op.infer.__module__.rpartition(".")[2] in LIBRARIES for n in f.graph(*args).nodes)


def test_the_op_table_is_native():
    host = []
    for case in COMPLEX:
        arrays = case.arrays(tj.complex64, case.small())
        f = tj.function(lambda *xs, case=case: case.f(*xs))
        xs = [tj.constant(a) for a in arrays]
        if not is_native(f, *xs) and not of_a_library(f, *xs):
            host.append(case.name)
    assert host == []


# --- operations on arrays ---------------------------------------------------------------------------------------------
IDX = np.array([2, 0, -1, 1, 1])
CASES_OF_ARRAYS = {
    "sums": (lambda z: (tj.reduce_sum(z), tj.reduce_sum(z, 0), tj.reduce_sum(z, 1), tj.reduce_mean(z, 1)), [(30, 40)]),
    "products": (lambda z: (tj.reduce_prod(z), tj.reduce_prod(z, 0), tj.reduce_prod(z, [0, 2])), [(3, 7, 2)]),
    "matmul": (lambda a, b: (a @ b, tj.matmul(a, b) + 1, tj.transpose(b) @ tj.transpose(a)), [(33, 17), (17, 29)]),
    "products by hand": (lambda a, b: tj.matmul(a, b, transpose_a=True, transpose_b=True), [(17, 33), (29, 17)]),
    "batches": (lambda a, b: a @ b, [(3, 5, 7), (7, 4)]),
    "small matrices": (lambda a, b: a @ b, [(5, 3), (3, 2)]),
    "matvec": (lambda a, b: tj.linalg.matvec(a, b), [(50, 30), (30,)]),
    "cumsum": (lambda a: (tj.cumsum(a), tj.cumsum(a, 1, exclusive=True), tj.cumsum(a * a, 1, reverse=True)), [(5, 6)]),
    "movement": (
        lambda a: (
            tj.transpose(a), a[::2, 1:], tj.reshape(a * 1, (6, 5)), tj.concat([a, a * 2], 0),
            tj.pad(a, [[1, 1], [2, 0]]), a[::-1], tj.stack([a, a]), tj.reshape(tj.transpose(a), (-1,)),
        ), [(5, 6)],
    ),
    "broadcasting": (lambda a, b: (a[:, None] * b, tj.broadcast_to(a[:, None], (6, 4))), [(6,), (4,)]),
    "single numbers": (lambda a, b: (a * b, a / b, tj.abs(a), a), [(), ()]),
    "no numbers": (lambda a, b: (a * b, tj.reduce_sum(a), tj.reduce_prod(a), tj.exp(a)), [(0,), (0,)]),
    "no columns": (lambda a, b: (a @ b, tj.reshape(a, (0, 4)) * 2), [(4, 0), (0, 3)]),
    "casts": (
        lambda a: (
            tj.cast(a, tj.complex128), tj.cast(a, tj.complex64), tj.cast(a, tj.float32), tj.cast(a, tj.int32),
            tj.cast(tj.cast(a, tj.int32), tj.complex128), tj.cast(REAL(a), a.dtype), tj.cast(a, tj.bool),
        ), [(9,)],
    ),
    "where": (lambda a, b: (tj.where(REAL(a) > 0, a, b), tj.where(tj.equal(a, b), a, 1j)), [(9,), (9,)]),
    "parts": (
        lambda a: (tj.complex(REAL(a), 2.0), tj.math.angle(a), tj.math.conj(a), REAL(a), IMAG(a), a * IMAG(a)), [(9,)],
    ),
    "results that are arguments": (lambda a: (a, a, tj.transpose(a), a[1:], REAL(a)), [(3, 4)]),
    "variance and norm": (lambda a: (tj.math.reduce_variance(a), tj.norm(a)), [(30,)]),
    "einsum": (lambda a, b: tj.einsum("ij,kj->ik", a, b), [(6, 5), (7, 5)]),
    "powers": (lambda a: (a**2, a**3, a**-2, a**0.5, a**0, 2.0**a), [(9,)]),
    "constants": (
        lambda a: (a * np.array([1 + 2j, 3], np.complex64), 1j * a, 2 * a, a / 2, tj.constant([1j, 2.0]), 1j + 0 * a),
        [(2,)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES_OF_ARRAYS)
def test_operations_on_arrays(name, dtype):
    f, shapes = CASES_OF_ARRAYS[name]
    check(f, *[numbers(*s, dtype=dtype, seed=i) for i, s in enumerate(shapes)])


def test_indexing():
    a = numbers(5, 6)
    args = [tj.constant(a)]
    f = tj.function(lambda a: (tj.gather(a, IDX), tj.gather(a, IDX, axis=1) * 2, tj.gather(a * a, IDX)))
    for got, want in zip(f(*args), (a[IDX], a[:, IDX] * 2, (a * a)[IDX]), strict=True):
        np.testing.assert_allclose(got.numpy(), want)
    assert is_native(f, *args)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_products(exclusive, reverse):
    def f(a):
        return [tj.math.cumprod(a * 2, i, exclusive=exclusive, reverse=reverse) + 1 for i in range(2)]

    check(f, numbers(9, 5), source=False)
    check(f, numbers(1, 0), source=False)
    g = tj.function(f, input_signature=[TensorSpec((None, None), tj.complex128)])
    for shape in [(3, 4), (0, 2), (7, 1)]:
        a = numbers(*shape)
        for got, want in zip(g(a), f(tj.constant(a)), strict=True):
            np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)
    assert is_native(g, a)


def test_products_over_axes_of_unknown_sizes():
    f = tj.function(tj.reduce_prod, input_signature=[TensorSpec((None,), tj.complex128)])
    g = tj.function(lambda a: tj.reduce_prod(a, [0, 2]), input_signature=[TensorSpec((None, 3, None), tj.complex64)])
    for n in (0, 1, 5, 40):
        a, b = numbers(n), numbers(n, 3, 2, dtype=np.complex64)
        np.testing.assert_allclose(f(a).numpy(), np.prod(a), rtol=1e-12)
        np.testing.assert_allclose(g(b).numpy(), np.prod(b, (0, 2)), rtol=1e-4)
    assert is_native(f, a) and is_native(g, b)
    assert "scan in registers" in f.explain(a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_that_vary_and_rows_that_end_anywhere(dtype):
    f = tj.function(
        lambda z, c: (
            z * z + c, tj.abs(z), tj.reduce_sum(z * c, 1), tj.transpose(z), tj.reshape(z, (-1,)), z @ tj.transpose(c)
        ),
        input_signature=[TensorSpec((None, None), tj.as_dtype(dtype))] * 2,
    )  # fmt: skip
    for shape in [(1, 1), (3, 5), (2, 17), (5, 33), (0, 4), (4, 0), (70, 1000)]:
        z, c = numbers(*shape, dtype=dtype), numbers(*shape, dtype=dtype, seed=1)
        for a, b in zip(f(z, c), (z * z + c, np.abs(z), (z * c).sum(1), z.T, z.reshape(-1), z @ c.T), strict=True):
            scale = max(float(np.abs(b).max(initial=1)), 1.0)
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-5 * scale)
    assert is_native(f, z, c)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_arrays_on_several_threads(dtype):
    n = 2**25 // np.dtype(dtype).itemsize + 5  # more than fits the caches, and no whole number of vectors
    z = (np.arange(n) * (1 - 2j) / n).astype(dtype)
    c = z[::-1].copy()
    f = tj.function(lambda z, c: (z * z + c, tj.reduce_sum(z)))
    y, total = f(z, c)
    np.testing.assert_allclose(y.numpy(), z * z + c, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total.numpy(), z.sum(), rtol=1e-3)


def test_arrays_with_strides_are_taken_as_they_are():
    z = numbers(40, 60)
    f = tj.function(lambda a: a * 2)
    for view in (z[::2], z[:, 3:50], z.T, z[::-1], z.real + 0j):
        np.testing.assert_array_equal(f(view).numpy(), view * 2)


@pytest.mark.slow
def test_numba_compiles_the_source():
    def f(z, c):
        y = z * z + c
        return y, tj.reduce_sum(y, 0), tj.tanh(y / c), tj.transpose(y) @ z, tj.abs(y), tj.gather(y, IDX)

    args = [numbers(6, 5, dtype=np.complex64, seed=i) for i in range(2)]
    for name, got in Lowered(f, njit=True).results(*[tj.constant(a) for a in args]):
        for a, b in zip(got, f(*[tj.constant(a) for a in args]), strict=True):
            assert a.dtype == b.dtype.np, name
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


# --- what a program does ----------------------------------------------------------------------------------------------
def test_the_graph_of_a_step():
    f = tj.function(lambda z, c: z * z + c)
    z = np.ones(4, np.complex64)
    graph = f.get_concrete_function(z, z).executable.prepared
    names = [n.op.name for n in graph.nodes if n.op.name not in ("real", "imag", "constant")]
    assert names == ["square", "square", "sub", "mul", "mul", "add", "add", "complex"]
    program = f.get_concrete_function(z, z).executable.program
    assert len(program.units) == 1  # one loop, which reads and writes both parts of a number together
    text = program.units[0].instance.kernel.text()
    assert text.count(".real[2]") == 2 and text.count(".imag[2]") == 2  # each part of each number is read once


def test_graphs_without_complex_numbers_are_left_alone():
    f = tj.function(lambda x: tj.exp(x) + 1)
    graph = f.graph(np.ones(3))
    assert not has_complex(graph)
    assert split(graph) is graph


def test_a_split_graph_prints_and_runs():
    f = tj.function(lambda z: (tj.exp(z) * z, tj.reduce_sum(z)))
    z = numbers(5)
    graph = split(f.graph(z))
    verify(graph)
    again = parse(str(graph))
    assert isinstance(again, Graph) and str(again) == str(graph)
    for a, b in zip(again.run([z]), (np.exp(z) * z, z.sum()), strict=True):
        np.testing.assert_allclose(a, b)


def test_variables_are_written_in_place():
    v = tj.Variable(numbers(1000))

    @tj.function
    def step(c):
        v.assign(v * v + c)
        return tj.reduce_sum(tj.abs(v))

    c, want = numbers(1000, seed=1) * 0.1, v.numpy()
    for _ in range(3):
        got = step(c)
        want = want * want + c
        np.testing.assert_allclose(v.numpy(), want, rtol=1e-10)
        np.testing.assert_allclose(got.numpy(), np.abs(want).sum(), rtol=1e-10)
    program = step.get_concrete_function(c).executable.program
    assert not host_units(program) and len(program.aliased) == 1


# --- branches and loops -----------------------------------------------------------------------------------------------
def escape(c):
    z, n = tj.zeros_like(c), tj.constant(0)
    while tj.abs(z) < 2.0 and n < 50:
        z = z * z + c
        n = n + 1
    return z, n


def test_loops_of_single_numbers_run_in_registers():
    f = tj.function(escape)
    for c in (0.3 + 0.5j, 1 + 1j, -0.1 + 0j):
        z, n = 0j, 0
        while abs(z) < 2 and n < 50:
            z, n = z * z + c, n + 1
        got, steps = f(tj.constant(c, tj.complex128))
        np.testing.assert_allclose(got.numpy(), z, rtol=1e-8)
        assert steps.numpy() == n
    assert "while in registers" in f.explain(tj.constant(c, tj.complex128))


def test_loops_and_branches_of_arrays():
    c = numbers(7) * 0.5

    @tj.function
    def iterate(c, p):
        z, n = c * 0, tj.constant(0)
        while n < 5:
            z = z * z + c
            n = n + 1
        if p > 0:
            w = tj.exp(z)
        else:
            w = c
        return z, w

    z = c * 0
    for _ in range(5):
        z = z * z + c
    for p in (1.0, -1.0):
        got = iterate(tj.constant(c), tj.constant(p))
        np.testing.assert_allclose(got[0].numpy(), z, rtol=1e-12)
        np.testing.assert_allclose(got[1].numpy(), np.exp(z) if p > 0 else c, rtol=1e-12)
    assert is_native(iterate, tj.constant(c), tj.constant(p))


@pytest.mark.parametrize("shape", [(), (4,)])
def test_gradients_and_scans_of_loops(shape):
    def total(c):
        z, n = c * 0, tj.constant(0)
        while n < 3:
            z = z * z + c
            n = n + 1
        return tj.reduce_sum(tj.square(tj.abs(z)))

    @tj.function
    def gradient(c):
        with tj.GradientTape() as tape:
            tape.watch(c)
            y = total(c)
        return tape.gradient(y, c)

    def iterate(c):
        z = c * 0
        for _ in range(3):
            z = z * z + c
        return (np.abs(z) ** 2).sum()

    c = numbers(*shape) * 0.3
    want, h = np.zeros(shape, complex), 1e-6
    for j in np.ndindex(*shape):
        for direction in (1, 1j):
            d = np.zeros(shape, complex)
            d[j] = h * direction
            want[j] += direction * (iterate(c + d) - iterate(c - d)) / (2 * h)
    np.testing.assert_allclose(gradient(tj.constant(c)).numpy(), want, rtol=1e-6, atol=1e-8)
    assert is_native(gradient, tj.constant(c))

    rows = numbers(6, *shape)
    f = tj.function(lambda xs: tj.scan(lambda a, x: a * x, xs))
    np.testing.assert_allclose(f(tj.constant(rows)).numpy(), np.cumprod(rows, 0), rtol=1e-12)
    assert is_native(f, tj.constant(rows))


def test_python_functions_get_whole_numbers():
    f = tj.function(lambda z: tj.numpy_function(lambda a: a * 2, [z * z], tj.TensorSpec((3,), tj.complex128)) + 1)
    z = numbers(3)
    np.testing.assert_allclose(f(z).numpy(), z * z * 2 + 1)


# --- gradients --------------------------------------------------------------------------------------------------------
GRADIENTS = {
    "products": (lambda a, b: tj.reduce_sum(tj.abs(a * b)), [(5,), (5,)]),
    "quotients": (lambda a, b: tj.reduce_sum(REAL(a / b)), [(5,), (5,)]),
    "powers": (lambda a, b: tj.reduce_sum(IMAG(a**b)), [(5,), (5,)]),
    "integer powers": (lambda a: tj.reduce_sum(IMAG(a**3 + a**-2)), [(5,)]),
    "matmul": (lambda a, b: tj.reduce_sum(tj.square(tj.abs(a @ b))), [(5, 4), (4, 3)]),
    "cumsum": (lambda a: tj.reduce_sum(REAL(tj.cumsum(a) ** 2)), [(5,)]),
    "reduce_prod": (lambda a: REAL(tj.reduce_prod(a)), [(5,)]),
    "where": (lambda a, b: tj.reduce_sum(REAL(tj.where(REAL(a) > 0, a * b, b * b))), [(5,), (5,)]),
    "functions": (lambda a: tj.reduce_sum(REAL(tj.tanh(a) * tj.exp(a) * tj.math.conj(a))), [(5,)]),
    "parts": (lambda a: tj.reduce_sum(tj.abs(tj.complex(REAL(a) ** 2, IMAG(a) * 3.0))), [(5,)]),
    "slices": (lambda a: tj.reduce_sum(tj.abs(a[1:] * a[:-1])), [(5,)]),
    "gather": (lambda a: tj.reduce_sum(REAL(tj.gather(a, IDX) ** 2)), [(5, 3)]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_by_differences(name):
    f, shapes = GRADIENTS[name]
    args = [numbers(*s, seed=i) * 0.5 for i, s in enumerate(shapes)]

    @tj.function
    def gradient(*xs):
        with tj.GradientTape() as tape:
            tape.watch(list(xs))
            y = f(*xs)
        return tape.gradient(y, list(xs))

    def at(i, d):
        return float(f(*[tj.constant(x + d if k == i else x) for k, x in enumerate(args)]))

    got = gradient(*[tj.constant(a) for a in args])
    assert is_native(gradient, *[tj.constant(a) for a in args])
    for i, a in enumerate(args):
        want = np.zeros(a.shape, complex)
        for j in np.ndindex(*a.shape):
            for direction in (1, 1j):
                d = np.zeros(a.shape, complex)
                d[j] = 1e-6 * direction
                want[j] += direction * (at(i, d) - at(i, -d)) / 2e-6
        np.testing.assert_allclose(got[i].numpy(), want, rtol=1e-5, atol=1e-6)


def test_tangents_of_complex_numbers_from_parts():
    a, b = tj.constant([1.0, 2.0]), tj.constant([[3.0], [4.0]])
    for inputs, tangents, want in [([a], [[1.0, 0.5]], [[1, 0.5]] * 2), ([b], [[[1.0], [2.0]]], [[1j] * 2, [2j] * 2])]:
        with tj.autodiff.ForwardAccumulator(inputs, [tj.constant(t) for t in tangents]) as acc:
            y = tj.complex(a, b)
        np.testing.assert_array_equal(acc.jvp(y).numpy(), want)


def test_rows_at_once():
    a, b = np.arange(6.0).reshape(2, 3), np.ones(3)
    f = tj.function(lambda a: tj.vectorized_map(lambda r: tj.complex(r, b) * 2j, a))
    np.testing.assert_array_equal(f(a).numpy(), (a + 1j) * 2j)
    assert is_native(f, a)


# --- random programs --------------------------------------------------------------------------------------------------
UNARY = (
    lambda z: tj.math.conj(z), lambda z: -z, lambda z: tj.exp(z * 0.1), lambda z: tj.sin(z * 0.1), lambda z: tj.tanh(z),
    lambda z: tj.sqrt(z), lambda z: tj.cast(tj.abs(z), z.dtype), lambda z: z * 0.5j,
    lambda z: tj.complex(IMAG(z), REAL(z)),
    lambda z: tj.square(z) * 0.1, lambda z: tj.math.log(z + 4), lambda z: tj.identity(z),
    lambda z: z[::-1], lambda z: tj.transpose(tj.transpose(z)[::-1]), lambda z: tj.roll(z, 1, 0),
    lambda z: z - tj.reduce_mean(z), lambda z: z / (1 + tj.reduce_sum(tj.abs(z))), lambda z: tj.cumsum(z, 0) * 0.2,
    lambda z: z + tj.reduce_sum(z, 1, keepdims=True) * 0.1, lambda z: tj.where(REAL(z) > 0.1, z, 1j),
    lambda z: (z @ tj.transpose(z)) @ z * 0.01,
)  # fmt: skip
TWO = (
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b * 0.3, lambda a, b: a / (b + 3),
    lambda a, b: tj.where(REAL(a) > REAL(b), a, b), lambda a, b: tj.concat([a, b], 0)[: a.shape[0]],
    lambda a, b: a * tj.math.conj(b) * 0.3,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), *[st.integers(0, 99)] * 3), min_size=1, max_size=8),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 20)), dtype=st.sampled_from(DTYPES),
)  # fmt: skip
def test_random_programs(steps, shape, dtype):
    def run(x, y):
        values = [x, y]
        for one, which, i, j in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(UNARY[which % len(UNARY)](a) if one else TWO[which % len(TWO)](a, b))
        return values[-1], tj.reduce_sum(values[-1], 0)

    args = [tj.constant(numbers(*shape, dtype=dtype, seed=s)) for s in (0, 1)]
    eager = [t.numpy() for t in run(*args)]
    traced = [t.numpy() for t in tj.function(run)(*args)]
    for a, b in zip(traced, eager, strict=True):
        if not np.isfinite(b).all() or float(np.abs(b).max(initial=0)) > 1e6:
            continue
        scale = max(float(np.abs(b).max(initial=1)), 1.0)
        tol = 1e-3 if dtype is np.complex64 else 1e-9
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol * scale)
