"""Elementwise loops that compute several registers in step: every length, every element type, and their code."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scalar_kernels import compiled

import tracejit as tj
from tracejit.function import function
from tracejit.ir.op import OPS
from tracejit.ir.types import float32
from tracejit.lower import emit_body, emit_llvm
from tracejit.lower.kernel import FULL, ROW, Access, Kernel, Stmt, Stride
from tracejit.lower.llvm import Module
from tracejit.lower.scalarmath import LLVMScalar

LENGTHS = [0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 200, 2047, 2048, 2049, 2112, 5000]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "bool"])
def test_every_length(dtype: str) -> None:
    @function
    def f(x, y):  # type: ignore[no-untyped-def]
        z = tj.where(x > y, tj.cast(x, "float64"), tj.math.exp(tj.cast(y, "float64") / 3))
        return z, tj.cast(z * 2 > 3, dtype), x == y

    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x, y = (rng.integers(0, 2 if dtype == "bool" else 9, n).astype(dtype) for _ in range(2))
        z, c, e = f(x, y)
        want = np.where(x > y, x.astype(np.float64), np.exp(y.astype(np.float64) / 3))
        assert np.allclose(z.numpy(), want, rtol=1e-15, atol=0)
        assert np.array_equal(c.numpy(), (want * 2 > 3).astype(dtype)) and np.array_equal(e.numpy(), x == y)


@pytest.mark.parametrize("mixed", [False, True])
def test_position_does_not_matter(mixed: bool) -> None:
    """The main loop, its rest and rows of any length compute the same bits; 64-bit values halve the registers."""

    @function
    def f(x):  # type: ignore[no-untyped-def]
        results = (
            tj.math.exp(x),
            tj.math.log(tj.abs(x)),
            tj.math.erf(x),
            tj.math.tanh(x),
            tj.math.sigmoid(x),
            tj.math.sin(x),
            tj.math.cos(x),
        )
        return (*results, tj.cast(results[0] + results[2], "float64")) if mixed else results

    for dtype in ("float32", "float64"):
        x = np.random.default_rng(0).standard_normal(2048 + 77).astype(dtype)
        whole = [r.numpy() for r in f(x)]
        for part in (slice(0, 16), slice(5, 90), slice(2048, None), slice(64, 128)):
            for got, want in zip(f(x[part].copy()), whole, strict=True):
                assert np.array_equal(got.numpy(), want[part])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_stay_within_bounds(dtype: str) -> None:
    top = math.pi / 2
    around = top * (1 + np.linspace(-1e-3, 1e-3, 20_001))
    for name, x in {
        "sin": np.concatenate([around, 3 * around, 101 * around]),
        "cos": np.concatenate([around - top, 4 * around, np.linspace(-7, 7, 10_001)]),
        "erf": np.linspace(-7, 7, 20_001),
        "tanh": np.linspace(-30, 30, 20_001),
        "sigmoid": np.linspace(-50, 50, 20_001),
    }.items():
        for width in (16, 64):
            got = compiled(lambda m, v, name=name: getattr(m, name)(v), [dtype], dtype, width)(x.astype(dtype))
            assert abs(got).max() <= 1, name


def test_exact_results() -> None:
    for dtype in ("float32", "float64"):
        for name, pairs in {
            "cos": [(0.0, 1.0), (-0.0, 1.0)],
            "exp": [(0.0, 1.0), (-0.0, 1.0), (-math.inf, 0.0)],
            "log": [(1.0, 0.0)],
            "erf": [(math.inf, 1.0), (-math.inf, -1.0), (6.0, 1.0), (0.0, 0.0)],
            "tanh": [(math.inf, 1.0), (-30.0, -1.0)],
        }.items():
            x, want = np.array(pairs, dtype).T
            for width in (1, 16, 64):
                got = compiled(lambda m, v, name=name: getattr(m, name)(v), [dtype], dtype, width)(x)
                assert np.array_equal(got, want), (name, width)


def elementwise(name: str, reduced: bool) -> Kernel:
    """The kernel of one operation on a vector of floats, stored or summed."""
    k = Kernel()
    k.axes, k.operands = [0], 3
    k.stmts = [
        Stmt(0, "load", float32, access=Access(1, -2, (Stride.UNIT,)), level=FULL),
        Stmt(1, "op", float32, op=OPS[name], args=(0,), level=FULL),
    ]
    if reduced:
        k.stmts.append(Stmt(2, "reduce", float32, value="sum", args=(1,), level=ROW, phase=1))
    k.stores = [(2, Access(2, -2, (Stride.ZERO,))) if reduced else (1, Access(2, -2, (Stride.UNIT,)))]
    return k


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("reduced", [False, True])
def test_long_chains_go_side_by_side(avx512: bool, reduced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop computes four registers in step, but not where it has accumulators or there are few registers."""
    monkeypatch.setattr(emit_body, "LLVMScalar", lambda fn, width: LLVMScalar(fn, width, avx512))
    module = Module()
    emit_llvm.emit(module, "k", elementwise("erf", reduced))
    text = module.text()
    assert "<16 x float>" in text
    assert ("<64 x float>" in text) == (avx512 and not reduced)


def test_a_cheap_loop_keeps_its_accumulators_apart_beside_a_heavy_one() -> None:
    """The largest of a row is found in four registers, though the row's exponentials take one."""
    k = Kernel()
    k.axes, k.outer, k.operands = [0, 1], 1, 6
    k.stmts = [
        Stmt(0, "load", float32, access=Access(2, -2, (3, Stride.UNIT)), level=FULL),
        Stmt(1, "reduce", float32, value="max", args=(0,), level=ROW, phase=1),
        Stmt(2, "op", float32, op=OPS["sub"], args=(0, 1), level=FULL, phase=1),
        Stmt(3, "op", float32, op=OPS["exp"], args=(2,), level=FULL, phase=1),
        Stmt(4, "reduce", float32, value="sum", args=(3,), level=ROW, phase=2),
    ]
    k.stores = [(4, Access(5, -2, (Stride.UNIT, Stride.ZERO)))]
    module = Module()
    emit_llvm.emit(module, "k", k)
    loops = [len(re.findall("= phi <16 x float>", block)) for block in re.split(r"\n\w[\w.]*:", module.text())]
    assert max(loops) == 4
