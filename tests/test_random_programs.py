"""Random programs give the same results eagerly, in native code, in Numba source and in the reference interpreter.

They run at several batch sizes, the Numba source as plain Python at the small ones, a few of them compiled by Numba.
"""

import functools
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_programs import Program, programs

import tracejit as tj
from tracejit.backends import numba_source


def agree(got: np.ndarray, want: np.ndarray, tol: float) -> bool:
    if got.dtype != want.dtype or got.shape != want.shape:
        return False
    if want.dtype.kind != "f":
        return np.array_equal(got, want)
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite) or not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return False
    scale = np.abs(want[finite]).max(initial=1.0)
    return np.allclose(got[finite], want[finite], rtol=tol, atol=tol * scale)


def tolerance(program: Program, batch: int) -> float:
    return program.tolerance * max(1.0, batch / 100)


def explain(what: str, program: Program, batch: int, got: list, want: list) -> str:
    names = [f"result {i}" for i in range(len(want))]
    lines = [f"{what} differs from eager at batch size {batch}", "", program.source]
    lines += [f"{v.name}: Variable {v.dtype}{v.shape}" for v in program.variables]
    lines += [f"{p.name}: {p.dtype}{tuple(map(str, p.shape))}" for p in program.params]
    for n, g, w in zip(names, got, want, strict=True):
        if not agree(g, w, tolerance(program, batch)):
            lines += [f"{n}: {g.dtype}{g.shape}\n{g}\nnot {w.dtype}{w.shape}\n{w}"]
    return "\n".join(lines)


def eager(program: Program, batch: int, seed: int) -> list[np.ndarray]:
    """Results and Variables after one call."""
    f, variables = program.make(program.arrays(program.variables, batch, 99))
    out = f(*[tj.constant(a) for a in program.arrays(program.params, batch, seed)])
    return [np.asarray(t) for t in (*out, *variables)]


SMALL = 20  # batch size up to which plain Python is fast enough


def check(program: Program, batches: tuple[int, ...], njit: bool = False) -> None:
    python, variables = program.make(program.arrays(program.variables, 2, 99))
    initial = [np.array(v) for v in variables]
    f = tj.function(python)
    runners = {}
    for seed, b in enumerate(batches):
        if b < program.smallest:
            continue
        same = functools.partial(agree, tol=tolerance(program, b))
        want = eager(program, b, seed)
        arrays = program.arrays(program.params, b, seed)
        for v, a in zip(variables, initial):
            v.assign(a)
        concrete = f.get_concrete_function(*arrays)
        exe = concrete.executable
        ways = {"the interpreter": exe.interpret(exe.all_arrays(arrays))}
        if seed > 0 if njit else b <= SMALL:  # the first trace knows all sizes, the second one serves all other calls
            if concrete not in runners:
                runners[concrete] = numba_source.prepare(concrete, compiled=njit)
            found, new = runners[concrete](arrays)
            ways["the Numba source"] = [tj.tensor.wrap(a) for a in found], new
        for what, (out, new) in ways.items():
            state = {id(v): np.asarray(v) for v in variables} | {id(v): a for v, a in zip(exe.parts.writes, new)}
            rebuilt = [np.asarray(t) for t in concrete.rebuild(out)] + [state[id(v)] for v in variables]
            text = f"\n\n{numba_source.source(concrete).text}" if "source" in what else ""
            assert all(map(same, rebuilt, want)), explain(what, program, b, rebuilt, want) + text
        for what in ("the compiled function", "the second call"):
            for v, a in zip(variables, initial):
                v.assign(a)
            got = [np.asarray(t) for t in f(*[tj.constant(a) for a in arrays])] + [np.asarray(v) for v in variables]
            assert all(map(same, got, want)), explain(what, program, b, got, want)


def gradients(f, program: Program, arrays: list[np.ndarray], variables: list[tj.Variable]) -> list[np.ndarray]:
    """Of a sum over the floating results, with respect to floating arguments and Variables, by an eager tape."""
    tensors = [tj.constant(a) for a in arrays]
    sources = [t for t in (*tensors, *variables) if t.dtype.is_floating]
    with tj.GradientTape() as tape:
        tape.watch([t for t in tensors if t.dtype.is_floating])
        out = f(*tensors)
        targets = [tj.tanh(t) for t in out if t.dtype.is_floating]
    grads = tape.gradient(targets, sources, unconnected_gradients="zero")
    return [np.asarray(t) for t in (*out, *grads, *variables)]


def check_under_a_tape(program: Program, batches: tuple[int, ...]) -> None:
    start = program.arrays(program.variables, 2, 99)
    python, variables = program.make(start)
    f = tj.function(python)
    for seed, b in enumerate(batches):
        if b < program.smallest:
            continue
        arrays = program.arrays(program.params, b, seed)
        results = []
        for g in (python, f):
            for v, a in zip(variables, start):
                v.assign(a)
            results.append(gradients(g, program, arrays, variables))
        want, got = results
        tol = tolerance(program, b)
        ok = all(agree(x, y, tol) for x, y in zip(got, want, strict=True))
        assert ok, explain("the gradient of the compiled function", program, b, got, want)


EVERY = {
    "deadline": None, "database": None, "derandomize": True,
    "phases": (Phase.generate, Phase.shrink), "suppress_health_check": list(HealthCheck),
}  # fmt: skip


@settings(max_examples=60, **EVERY)
@given(programs())
def test_programs_agree(program):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(program, (3, 2, 5, 1, 700))


@settings(max_examples=30, **EVERY)
@given(programs(taped=False))
def test_gradients_agree(program):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_under_a_tape(program, (3, 5, 1))


@settings(max_examples=3, **EVERY)
@given(programs())
def test_programs_agree_when_numba_compiles_them(program):
    check(program, (3, 5, 700), njit=True)


@pytest.mark.slow
@settings(max_examples=15, **EVERY)
@given(programs())
def test_many_programs_agree_when_numba_compiles_them(program):
    check(program, (2, 3, 1, 5000), njit=True)


@pytest.mark.slow
@settings(max_examples=120, **EVERY)
@given(programs(), programs(taped=False))
def test_many_programs_agree(program, other):
    check(program, (2, 3, 1, 16, 40_000))
    check_under_a_tape(other, (2, 4, 1, 600))
