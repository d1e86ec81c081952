"""The corpus of control flow, run as plain Python on NumPy, eagerly and traced; with gradients."""

import sys
import types

import control_flow_algorithms
import control_flow_branches
import control_flow_lists
import control_flow_loops
import control_flow_state
import numpy as np
import pytest
from control_flow_corpus import CASES, Case, Plain

import tracejit as tj
from tracejit.errors import ConversionWarning

TOPICS = (
    control_flow_branches,
    control_flow_loops,
    control_flow_lists,
    control_flow_state,
    control_flow_algorithms,
)
SMOOTH = [name for name, c in CASES.items() if c.smooth]
NUMBERS = (bool, int, float)


def traced(c: Case):
    @tj.function
    def run(*args):
        return c.f(tj, *args)

    return run


def plain(c: Case, arrays):
    """The case on NumPy's arrays and scalars."""
    with np.errstate(all="ignore"):
        return c.f(Plain, *[np.array(a)[()] for a in arrays])


def tensors(arrays, dtype=None):
    return [tj.constant(a.astype(dtype) if dtype and a.dtype.kind == "f" else a) for a in arrays]


def leaves(x):
    """The leaves of a result, in order, with a name for each."""
    if isinstance(x, dict):
        return [(f"[{k!r}]{n}", y) for k in sorted(x) for n, y in leaves(x[k])]
    if isinstance(x, (list, tuple)):
        return [(f"[{i}]{n}", y) for i, z in enumerate(x) for n, y in leaves(z)]
    return [("", x)]


def kind(x):
    return {"i": "i", "u": "i"}.get(np.asarray(x).dtype.kind, np.asarray(x).dtype.kind)


def agree(got, want, tol, promotes=False, dtypes=True):
    """Equal structures and values; equal dtypes where `want` has one, else (a Python number) one of its kind."""
    got, want = leaves(got), leaves(want)
    assert [n for n, _ in got] == [n for n, _ in want]
    for (name, a), (_, b) in zip(got, want):
        if b is None:
            assert a is None, name
            continue
        x, y = np.asarray(a), np.asarray(b)
        assert x.shape == y.shape, name
        if not promotes:
            assert kind(x) == kind(y), (name, x.dtype, y.dtype)
        if dtypes and not promotes and type(b) not in NUMBERS:
            assert x.dtype == y.dtype, (name, x.dtype, y.dtype)
        if y.dtype.kind == "f":
            np.testing.assert_allclose(x, y, rtol=tol, atol=tol, err_msg=name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


# --- values -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_eager_equals_plain_python(name):
    c = CASES[name]
    for k in range(c.draws):
        arrays = c.draw(k)
        agree(c.f(tj, *tensors(arrays)), plain(c, arrays), 1e-9, c.promotes, dtypes=False)


CONVERTED = [name for name, c in CASES.items() if not c.python]


@pytest.mark.parametrize("name", [name for name, c in CASES.items() if c.python])
def test_what_cannot_be_converted_says_so_once(name):
    c = CASES[name]
    f = traced(c)
    with pytest.warns(ConversionWarning) as caught:
        for k in range(c.draws):
            args = tensors(c.draw(k))
            agree(f(*args), c.f(tj, *args), 1e-9, c.promotes)
    assert len(caught) == 1


@pytest.mark.parametrize("name", CONVERTED)
def test_traced_equals_eager(name):
    c = CASES[name]
    f = traced(c)
    for k in range(c.draws):
        args = tensors(c.draw(k))
        agree(f(*args), c.f(tj, *args), 1e-9, c.promotes)


@pytest.mark.parametrize("name", [n for n in CONVERTED if CASES[n].single and not CASES[n].promotes])
def test_traced_equals_eager_in_single_precision(name):
    c = CASES[name]
    f = traced(c)
    for k in range(2):
        args = tensors(c.draw(k), np.float32)
        agree(f(*args), c.f(tj, *args), 1e-4)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.promotes])
def test_promoted_dtypes_do_not_depend_on_the_path(name):
    c = CASES[name]
    f = traced(c)
    draws = [tensors(c.draw(k)) for k in range(c.draws)]
    eager = [c.f(tj, *args) for args in draws]
    want = np.result_type(*[y.numpy().dtype for y in eager])
    assert len({y.dtype for y in eager}) > 1
    assert {f(*args).numpy().dtype for args in draws} == {want}


def vectors(name):
    return len({tuple(a.shape for a in CASES[name].draw(k)) for k in range(CASES[name].draws)}) > 1


# Python iterates by itself, or the loop's variable is no tensor of one shape
UNROLLED = {"generators_in_built_in_functions", "map_partial_and_star_arguments", "loop_variable_after_the_loop"}


@pytest.mark.parametrize("name", [n for n in CONVERTED if vectors(n) and n not in UNROLLED])
def test_few_traces_serve_all_sizes(name):
    c = CASES[name]
    f = traced(c)
    for k in range(c.draws):
        f(*tensors(c.draw(k)))
    assert f.experimental_get_tracing_count() <= 4  # the sizes of the first call, any others, none, and one


# --- gradients --------------------------------------------------------------------------------------------------------
def loss(m, outputs):
    """One number that depends on every float of a result."""
    total = m.constant(0.0, m.float64)
    for k, (_, y) in enumerate(leaves(outputs)):
        if type(y) not in NUMBERS and y.dtype in (m.float32, m.float64):
            total = total + m.reduce_sum(y) * (1.0 + 0.25 * k) + m.reduce_sum(y * y) * 0.125
    return total


def floats(args):
    return [x for x in args if x.dtype == tj.float64]


def tape_outside(f, args):
    with tj.GradientTape() as tape:
        tape.watch(floats(args))
        y = loss(tj, f(*args))
    return tape.gradient(y, floats(args), unconnected_gradients="zero")


def central_differences(c, arrays, h=1e-6):
    out = []
    for k, a in enumerate(arrays):
        if a.dtype.kind != "f":
            continue
        g = np.zeros(a.shape)
        for i in np.ndindex(*a.shape):
            ends = []
            for s in (h, -h):
                moved = a.copy()
                moved[i] += s
                ends.append(loss(Plain, plain(c, [moved if j == k else b for j, b in enumerate(arrays)])))
            g[i] = (ends[0] - ends[1]) / (2 * h)
        out.append(g)
    return out


def has_floats(name):
    return any(a.dtype.kind == "f" for a in CASES[name].draw(0))


@pytest.mark.parametrize("name", [n for n in SMOOTH if has_floats(n)])
def test_eager_gradients_equal_central_differences(name):
    c = CASES[name]
    for k in range(min(c.draws, 4)):
        arrays = c.draw(k)
        got = tape_outside(lambda *xs: c.f(tj, *xs), tensors(arrays))
        for a, b in zip(got, central_differences(c, arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [n for n in SMOOTH if has_floats(n)])
def test_gradients_of_traced_functions(name):
    c = CASES[name]
    f = traced(c)
    for k in range(min(c.draws, 4)):
        args = tensors(c.draw(k))
        for a, b in zip(tape_outside(f, args), tape_outside(lambda *xs: c.f(tj, *xs), args), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", [n for n in SMOOTH if has_floats(n)])
def test_tapes_inside_traced_functions(name):
    c = CASES[name]

    @tj.function
    def gradient(*args):
        watched = floats(args)
        with tj.GradientTape() as tape:
            tape.watch(watched)
            y = loss(tj, c.f(tj, *args))
        return tape.gradient(y, watched, unconnected_gradients="zero")

    for k in range(min(c.draws, 4)):
        args = tensors(c.draw(k))
        for a, b in zip(gradient(*args), tape_outside(lambda *xs: c.f(tj, *xs), args), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def forwards(f, args):
    """The derivative in a fixed direction, in forward mode."""
    xs = floats(args)
    with tj.autodiff.ForwardAccumulator(xs, [tj.cos(x * 3.0) for x in xs]) as acc:
        y = loss(tj, f(*args))
    return acc.jvp(y, "zero")


@pytest.mark.parametrize("name", [n for n in SMOOTH if has_floats(n)][::3])
@pytest.mark.parametrize("way", ["eager", "around a traced function", "inside a traced function"])
def test_forward_mode(name, way):
    c = CASES[name]

    def f(*args):
        return c.f(tj, *args)

    @tj.function
    def inside(*args):
        return forwards(f, args)

    outside = traced(c)
    run = {"eager": lambda *args: forwards(f, args), "around": lambda *args: forwards(outside, args), "inside": inside}
    for k in range(2):
        args = tensors(c.draw(k))
        want = sum(np.sum(g * np.cos(x * 3.0)) for g, x in zip(tape_outside(f, args), floats(args)))
        got = run[way.split()[0]](*args)
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)


# --- the corpus itself ------------------------------------------------------------------------------------------------
def lines_of(code):
    """The lines of a function and of those defined in it."""
    lines = {line for _, _, line in code.co_lines() if line and line > code.co_firstlineno}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            lines |= lines_of(const)
    return lines


DEAD = {"static_and_tensor_conditions": 2}  # lines that nothing should reach


@pytest.mark.parametrize("name", CASES)
def test_the_draws_reach_every_line(name):
    c = CASES[name]
    file, seen = c.f.__code__.co_filename, set()

    def watch(frame, event, arg):
        if frame.f_code.co_filename != file:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        for k in range(c.draws):
            plain(c, c.draw(k))
    finally:
        sys.settrace(before)
    missing = lines_of(c.f.__code__) - seen
    assert len(missing) == DEAD.get(name, 0), sorted(missing)


def test_the_corpus_is_large():
    assert len(CASES) >= 70
    assert {c.f.__module__ for c in CASES.values()} == {t.__name__ for t in TOPICS}
