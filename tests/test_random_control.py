"""Random nested control flow gives the same values and gradients eagerly and traced."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_control import ControlProgram, control_program

import tracejit as tj


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


def agree(got, want):
    a, b = np.asarray(got), np.asarray(want)
    if b.dtype.kind != "f":
        return a.dtype.kind == b.dtype.kind and np.array_equal(a, b)
    return a.dtype == b.dtype and a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-9)


def compare(what, program: ControlProgram, args, got, want):
    same = len(got) == len(want) and all(map(agree, got, want))
    shown = [f"{n} = {np.asarray(a)!r}" for n, a in zip(("x", "y", "v", "n"), args)]
    assert same, "\n".join([f"{what} differ:", *map(str, got), "not", *map(str, want), *shown, "", program.source])


def check_values(program, folder, count=6):
    f = program.function(folder)
    traced = tj.function(f)
    for arrays in program.draws(count):
        args = [tj.constant(a) for a in arrays]
        compare("values", program, args, traced(*args), f(*args))


def gradients(f, x, y, v, n):
    with tj.GradientTape() as tape:
        tape.watch([x, y, v])
        a, b, c, _ = f(x, y, v, n)
        loss = a + 2.0 * b + 3.0 * c * c
    return tape.gradient(loss, [x, y, v], unconnected_gradients="zero")


def check_gradients(program, folder, count=4):
    f = program.function(folder)
    outside = tj.function(f)

    @tj.function
    def inside(x, y, v, n):
        return gradients(f, x, y, v, n)

    for arrays in program.draws(count):
        args = [tj.constant(a) for a in arrays]
        want = gradients(f, *args)
        compare("gradients by a tape outside", program, args, gradients(outside, *args), want)
        compare("gradients by a tape inside", program, args, inside(*args), want)


# lists that grow in branches run as Python
pytestmark = pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")

# the later the seed, the larger the program
SEEDS, MORE = range(40), range(100, 500)


def program(seed, prints=False):
    return control_program(seed, 4 + seed % 100 // 2, prints)


@pytest.mark.parametrize("seed", SEEDS)
def test_values_agree(seed, folder):
    check_values(program(seed), folder)


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_gradients_agree(seed, folder):
    check_gradients(program(seed), folder)


def check_lines(program, folder, capsys, count=6):
    f = program.function(folder)
    traced = tj.function(f)

    @tj.function
    def inside(x, y, v, n):
        return gradients(f, x, y, v, n)

    for arrays in program.draws(count):
        args = [tj.constant(a) for a in arrays]
        printed = []
        for g in (f, traced, inside):
            g(*args)
            printed.append(capsys.readouterr().out.replace("tj.Tensor", "").replace("np.", ""))
        want, *got = [[re.sub(NUMBER, r"\1", line) for line in text.splitlines()] for text in printed]
        assert got == [want, want], program.source


NUMBER = r"\((\w+), shape=\(\), dtype=\w+\)"  # what stays Python's own eagerly is a tensor in a trace


@pytest.mark.parametrize("seed", SEEDS)
def test_lines_are_printed_in_order(seed, folder, capsys):
    check_lines(program(seed, True), folder, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE)
def test_many_lines_are_printed_in_order(seed, folder, capsys):
    check_lines(program(seed, True), folder, capsys, 10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE)
def test_many_values_agree(seed, folder):
    check_values(program(seed), folder, 10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE[::2])
def test_many_gradients_agree(seed, folder):
    check_gradients(program(seed), folder)


def differences(f, arrays, h=1e-7):
    def loss(x, y, v, n):
        a, b, c, _ = f(*[tj.constant(t) for t in (x, y, v, n)])
        return float(a + 2.0 * b + 3.0 * c * c)

    out = []
    for k in range(2):
        ends = [loss(*[t + s if j == k else t for j, t in enumerate(arrays)]) for s in (h, -h)]
        out.append((ends[0] - ends[1]) / (2 * h))
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_eager_gradients_are_central_differences(seed, folder):
    p = program(seed)
    f = p.function(folder)
    for arrays in p.draws(3):
        got = gradients(f, *[tj.constant(a) for a in arrays])[:2]
        np.testing.assert_allclose(got, differences(f, arrays), rtol=1e-5, atol=1e-5, err_msg=p.source)


# stacks, `try`, `with`, `match`, and functions that change the variables of the one around them
def wide_program(seed):
    return control_program(seed, 4 + seed % 40 // 2, wide=True)


@pytest.mark.parametrize("seed", range(12))
def test_values_of_wider_programs_agree(seed, folder):
    check_values(wide_program(seed), folder, 4)


@pytest.mark.parametrize("seed", range(12, 18))
def test_gradients_of_wider_programs_agree(seed, folder):
    check_gradients(wide_program(seed), folder, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE)
def test_many_values_of_wider_programs_agree(seed, folder):
    check_values(wide_program(seed), folder, 6)


# --- drawn by hypothesis, which makes what fails smaller --------------------------------------------------------------
DRAWN = {
    "deadline": None, "database": None, "derandomize": True,
    "phases": (Phase.generate, Phase.shrink), "suppress_health_check": list(HealthCheck),
}  # fmt: skip


@settings(max_examples=80, **DRAWN)
@given(st.randoms(use_true_random=False), st.integers(2, 14), st.booleans())
def test_values_of_drawn_programs_agree(folder, rng, size, wide):
    check_values(control_program(rng, size, wide=wide), folder, 3)


@settings(max_examples=25, **DRAWN)
@given(st.randoms(use_true_random=False), st.integers(2, 8))
def test_gradients_of_drawn_programs_agree(folder, rng, size):
    check_gradients(control_program(rng, size), folder, 2)
