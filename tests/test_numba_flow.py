"""Branches, loops and sizes that the program finds out, as Numba source: statements that people would write."""

import ast
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from lowerings import Lowered
from random_control import control_program
from test_found_sizes import FUNCTIONS, chained, grown, looped, standardised

import tracejit as tj
from tracejit.backends import numba_source

R = np.random.default_rng(3)


def newton(a):
    x = a
    while tj.abs(x * x - a) > 1e-6:
        x = 0.5 * (x + a / x)
    return x


def power_iteration(a, x):
    k = 0
    while tj.reduce_max(tj.abs(x)) < 100.0 and k < 20:
        x = tj.tanh(a @ x) * 3.0
        k += 1
    return x, k


def branch(x):
    y = x
    if tj.reduce_sum(x) > 0:
        y = x * 2.0
    return y + 1.0


def otherwise(x):
    if tj.reduce_sum(x) > 0:
        y = x * 2.0
    elif tj.reduce_max(x) > 0.5:
        y = -x
    else:
        y = x - 1.0
    return y


def recurrent(xs, h, w):
    for x in xs:
        h = tj.tanh(x + h @ w)
    return h


def skipping(n, x):
    s = 0.0
    for i in tj.range(n):
        if i % 2 == 0:
            continue
        s += x[i]
    return s


def mandelbrot(cr, ci):
    zr, zi, n = 0.0, 0.0, 0
    while zr * zr + zi * zi < 4.0 and n < 100:
        zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
        n += 1
    return n


def fibonacci(n):
    a, b = tj.constant(0, tj.int64), tj.constant(1, tj.int64)
    for _ in tj.range(n):
        a, b = b, a + b
    return a


def collatz(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


def gradient_of_a_loop(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = x
        while tj.reduce_sum(y * y) < 50.0:
            y = y * 1.5 + tj.sin(y)
        loss = tj.reduce_sum(y)
    return tape.gradient(loss, x)


def gradient_of_numbers(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = newton(x)
    return tape.gradient(y, x)


def scanned(xs):
    return tj.scan(lambda a, x: a * 0.5 + x, xs), tj.scan(lambda a, x: a + x * x, xs, reverse=True)


def early_return(x, n):
    for i in tj.range(n):
        x = x * 0.9
        if tj.reduce_sum(x) < 1.0:
            return x, i
    return x, -1


def broken_off(x, tol):
    old = x * 0.0
    for step in tj.range(100):
        if tj.reduce_max(tj.abs(x - old)) < tol:
            break
        old = x
        x = tj.cos(x)
    return x


def nested(m):
    total = tj.zeros((3,))
    i = 0
    while i < m.shape[0]:
        row = m[i]
        if row[0] > 0:
            for k in tj.range(3):
                total += row * tj.cast(k, tj.float32)
        else:
            total -= row
        i += 1
    return total


def swapped(x, y, n):
    for _ in tj.range(n):
        x, y = y * 0.5, x
    return x, y


def halves(x, n):
    y = x
    total = tj.cast(0.0, tj.float16)
    for _ in tj.range(n):
        y = y * tj.cast(1.5, tj.float16)
        total = total + tj.reduce_sum(y)
    return y, total


def complex_numbers(z, n):
    w = z * 0.0
    for _ in tj.range(n):
        w = w * w + z
    return w


def dot_products(xs, w):
    out = tj.TensorArray(tj.float32, size=xs.shape[0])
    for i in tj.range(xs.shape[0]):
        out = out.write(i, tj.reduce_sum(xs[i] * w))
    return out.stack()


def running(x):
    state = x[0]
    for i in tj.range(1, x.shape[0]):
        x = tj.tensor_scatter_nd_update(x, [[i]], [state * 0.5 + x[i]])
        state = x[i]
    return x


def parity(n):
    odd = False
    while n > 0:
        odd = not odd
        n -= 1
    return odd


F = np.float32
CASES = {
    "newton": (newton, F(2.0)),
    "power iteration": (power_iteration, R.normal(size=(4, 4)).astype("f"), np.ones((4, 1), "f")),
    "branch": (branch, np.array([1.0, -3.0])), "branch taken": (branch, np.array([4.0, -3.0])),
    "otherwise": (otherwise, np.array([1.0, -3.0])), "otherwise, last": (otherwise, np.array([-1.0, -3.0])),
    "recurrent": (recurrent, R.normal(size=(6, 1, 3)), np.zeros((1, 3)), R.normal(size=(3, 3))),
    "skipping": (skipping, np.int64(7), R.normal(size=9)), "mandelbrot": (mandelbrot, F(0.3), F(0.5)),
    "fibonacci": (fibonacci, np.int64(20)), "collatz": (collatz, np.int64(27)),
    "gradient of a loop": (gradient_of_a_loop, tj.constant(R.normal(size=3))),
    "gradient of numbers": (gradient_of_numbers, tj.constant(7.0)), "scanned": (scanned, R.normal(size=(5, 2))),
    "early return": (early_return, R.normal(size=4) + 2, np.int64(30)),
    "late return": (early_return, R.normal(size=4) + 2, np.int64(2)),
    "broken off": (broken_off, R.normal(size=4), 1e-3),
    "nested": (nested, R.normal(size=(4, 3)).astype("f")), "swapped": (swapped, np.ones(3), np.zeros(3), np.int64(3)),
    "halves": (halves, np.ones(3, np.float16), np.int64(3)), "parity": (parity, np.int64(5)),
    "complex numbers": (complex_numbers, np.array([0.1 + 0.2j, -0.3j]), np.int64(4)),
    "dot products": (dot_products, R.normal(size=(4, 3)).astype("f"), np.ones(3, "f")),
    "running": (running, R.normal(size=6)),
}  # fmt: skip
COMPILED = ("newton", "power iteration", "skipping", "gradient of a loop")


def agree(f, *args, njit=False):
    ways = dict(Lowered(f, njit).results(*args))
    for a, b in zip(ways["native code"], ways["the Numba source"], strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(b.astype(complex), a.astype(complex), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_control_flow(name):
    f, *args = CASES[name]
    agree(f, *args)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in COMPILED else pytest.mark.slow) for n in CASES])
def test_control_flow_compiled(name):
    f, *args = CASES[name]
    agree(f, *args, njit=True)


# --- sizes that the program finds out ---------------------------------------------------------------------------------
def gradient(f, x, order):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x) if order == 1 else gradient(f, x, order - 1)
        y = tj.reduce_sum(tj.sin(y))
    return tape.gradient(y, x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_found_sizes(name):
    traced = Lowered(FUNCTIONS[name])
    for n in (7, 5, 9):
        ways = dict(traced.results(R.normal(size=n)))
        for a, b in zip(ways["native code"], ways["the Numba source"], strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("f", [FUNCTIONS["mask"], chained, grown, looped, standardised])
def test_gradients_with_found_sizes(f, order):
    agree(lambda x: gradient(f, x, order), tj.constant([0.7, -0.4, 0.9, 0.3, 2.6], tj.float64))


def test_found_sizes_compiled():
    agree(standardised, R.normal(size=9), njit=True)


def test_nothing_is_found():
    agree(FUNCTIONS["mask"], np.full(3, -1.0))
    agree(grown, tj.constant([0.1, 0.2], tj.float64) * 20.0)


# --- the text ---------------------------------------------------------------------------------------------------------
def text_of(f, *args):
    return tj.function(f).source(*args)


def test_a_loop_of_numbers_reads_as_it_was_written():
    loop = """\
@njit(error_model="numpy")
def newton_loop(a):
    x = a
    # test_numba_flow.py:{}: while tj.abs(x * x - a) > 1e-6:
    while abs(x * x - a) > np.float32(0.000001):
        # test_numba_flow.py:{}: x = 0.5 * (x + a / x)
        x = (x + a / x) * np.float32(0.5)
    return x
"""
    first = newton.__code__.co_firstlineno
    assert loop.format(first + 2, first + 3) in text_of(newton, F(2.0))


def test_branches_and_loops_are_statements_of_main():
    main = ast.parse(text_of(broken_off, np.ones(4), 1e-3)).body[-1]
    inner = {type(n) for n in ast.walk(main)}
    assert {ast.While, ast.If} <= inner
    assert "else:" not in text_of(branch, np.ones(2)), "what stays as it is needs no lines"
    assert "for i in reversed(range(5))" in text_of(lambda xs: scanned(xs)[1], np.ones((6, 2)))


@pytest.mark.parametrize("name", CASES)
def test_same_text_every_time(name):
    f, *args = CASES[name]
    texts = [text_of(f, *args) for _ in range(2)]
    assert texts[0] == texts[1]
    assert max(map(len, texts[0].splitlines())) <= 140


def test_names_come_from_the_user():
    text = text_of(fibonacci, np.int64(5))
    assert "a, b" in text
    assert "zr, zi, " in text_of(mandelbrot, F(0.3), F(0.5))
    assert "saved_x.append(x)" in text_of(gradient_of_a_loop, tj.constant(np.ones(3)))


def test_found_sizes_have_names():
    text = text_of(FUNCTIONS["mask"], np.ones(3))
    assert "positions = np.flatnonzero(" in text and "count = len(positions)" in text
    assert "float64[count]" in text


# --- checks, orders, running sums -------------------------------------------------------------------------------------
def opaque(x, i):
    y = tj.gather(x, i, axis=1)
    return (
        tj.sort(x), tj.sort(x, direction="DESCENDING", axis=0), tj.argsort(x, direction="DESCENDING"), tj.argsort(x, 0),
        tj.cumsum(x, 1, exclusive=True, reverse=True), tj.cumsum(x, 0), tj.math.cumprod(x, 1, exclusive=True),
        tj.math.top_k(x, 2), y,
    )  # fmt: skip


def test_a_module_that_needs_nothing_of_tracejit(tmp_path):
    """Where tracejit cannot be imported."""
    x, i = np.round(R.normal(size=(3, 6)), 1), np.array([0, 2])
    f = tj.function(opaque)
    text = f.source(x, i)
    assert "import tracejit" not in text and "from tracejit" not in text
    np.save(tmp_path / "x.npy", x)
    file = tmp_path / "opaque.py"
    file.write_text(
        "import sys\nsys.modules['tracejit'] = None\n" + text +
        "\n\nfor k, a in enumerate(main(np.load('x.npy'), np.array([0, 2]))):\n    np.save(f'{k}.npy', a)\n"
    )  # fmt: skip
    subprocess.run([sys.executable, file.name], check=True, cwd=tmp_path)
    want = [a for r in f(x, i) for a in (r if isinstance(r, tuple) else [r])]
    for k, a in enumerate(want):
        np.testing.assert_allclose(np.load(tmp_path / f"{k}.npy"), a, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8", "uint8", "bool"])
def test_orders_of_all_kinds(dtype):
    x = tj.cast(tj.constant(np.array([[3.0, 1, 2, 1], [0, 5, 5, 4]])), dtype)
    agree(lambda x: (tj.sort(x, 1), tj.argsort(x, 1, "DESCENDING"), tj.argsort(x, 0), tj.math.top_k(x, 3)), x)


def test_checks_raise_errors_of_python():
    cases = [
        (lambda x, i: x[i] * 2, (np.arange(5.0), np.int64(7)), IndexError, "index 7 is outside axis 0 of size 5"),
        (lambda x, i: tj.gather(x, i), (np.arange(5.0), np.array([1, 9])), IndexError, "index 9 is outside axis 0"),
        (lambda n: 10 // n, (0,), ZeroDivisionError, "division"),
    ]
    for f, args, kind, message in cases:
        good = [np.ones_like(a) if isinstance(a, (np.ndarray, np.generic)) else 1 for a in args]
        main = numba_source.load(tj.function(f).source(*args), compiled=False)["main"]
        np.testing.assert_allclose(main(*good), np.asarray(f(*[tj.constant(a) for a in good])))
        with pytest.raises(kind, match=message):
            main(*args)


def test_an_assertion_in_a_loop():
    def f(x):
        while x > 1.0:
            tj.debugging.assert_less(x, 100.0, message="too large")
            x = x / 2.0
        return x

    main = numba_source.load(tj.function(f).source(F(8.0)), compiled=False)["main"]
    assert main(F(8.0)) == 1.0
    with pytest.raises((AssertionError, ValueError), match="too large"):
        main(F(800.0))


# --- numbers as arguments ---------------------------------------------------------------------------------------------
def test_numbers_in_any_form():
    """Arguments without axes may be NumPy's scalars, arrays or Python's numbers."""
    f = tj.function(lambda x, k, flag: tj.where(flag, x * tj.cast(k, tj.float32), -x))
    main = numba_source.load(f.source(F(3.0), np.int32(2), np.bool_(True)), compiled=False)["main"]
    for args in ((F(3.0), np.int32(2), np.bool_(True)), (3.0, 2, True), tuple(map(np.array, (3.0, 2, True)))):
        y = main(*args)
        assert y.dtype == np.float32 and y == 6.0


def test_halves_as_arguments():
    f = tj.function(lambda x: x + tj.ones((2,), tj.float16))
    main = numba_source.load(f.source(np.float16(3.0)), compiled=False)["main"]
    for x in (np.float16(3.0), 3.0, np.array(3.0, np.float16)):
        np.testing.assert_array_equal(main(x), np.full(2, 4.0, np.float16))


def test_variables_in_loops():
    state = SimpleNamespace(v=tj.Variable([1.0, 2.0], name="v"))

    @tj.function
    def f(n):
        for _ in tj.range(n):
            state.v.assign(state.v * 2.0)
        return tj.reduce_sum(state.v)

    c = f.get_concrete_function(np.int64(3))
    (total,), (new,) = numba_source.run(c, [np.int64(3)], compiled=False)
    np.testing.assert_array_equal(new, [8.0, 16.0])
    assert total == 24.0
    np.testing.assert_array_equal(state.v.numpy(), [1.0, 2.0])


def compound_conditions(x, n):
    k = 0
    done = False
    while not done and (k < 3 or x > 0.5):
        k += 1
        if x > 2.0 or k > n:
            done = True
        elif not (x > 1.0 and k < 2):
            x = x * 0.5
        x = x + 0.25
    return x, k


@pytest.mark.parametrize("x", [0.1, 0.7, 1.5, 3.0])
def test_compound_conditions(x):
    for n in (1, 2, 9):
        agree(compound_conditions, np.float64(x), np.int64(n))
        agree(lambda v, n: compound_conditions(v[0], n), np.array([x, 0.0]), np.int64(n))


def test_random_programs(tmp_path):
    for seed in (3, 8, 12, 28):
        program = control_program(seed, 14)
        f = Lowered(program.function(tmp_path))
        for arrays in program.draws(2):
            ways = dict(f.results(*arrays))
            for a, b in zip(ways["native code"], ways["the Numba source"], strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12, err_msg=program.source)
