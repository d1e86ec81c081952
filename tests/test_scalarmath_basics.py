"""Arithmetic, comparisons, casts and memory on LLVM registers: every operation on every type, against NumPy."""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Callable

import numpy as np
import pytest
from scalar_kernels import FLOATS, INTS, compiled, integers, sample, special

from tracejit.ir.types import as_dtype
from tracejit.lower import engine
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarmath import LLVMScalar


# --- arithmetic on all types ------------------------------------------------------------------------------------------
def trunc_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    q = np.floor_divide(x, y)
    return np.where((y != 0) & (q < 0) & (q * y != x), q + 1, q).astype(x.dtype)


def shift(x: np.ndarray, n: np.ndarray, left: bool) -> np.ndarray:
    bits = x.dtype.itemsize * 8
    out = (n < 0) | (n >= bits)
    inside = np.where(out, 0, n).astype(x.dtype)
    if left:
        return np.where(out, x.dtype.type(0), x << inside)
    return np.where(out, (x < 0).astype(x.dtype) * x.dtype.type(-1 if x.dtype.kind == "i" else 0), x >> inside)


INTEGER_OPS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "floordiv": np.floor_divide, "floormod": np.mod, "truncdiv": trunc_divide, "fmod": np.fmod,
    "bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor,
    "shift_left": lambda x, y: shift(x, y, True), "shift_right": lambda x, y: shift(x, y, False),
}  # fmt: skip
COMPARISONS = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
               "ne": np.not_equal}  # fmt: skip


@pytest.mark.parametrize("dtype", INTS)
def test_integers(dtype: str) -> None:
    x = integers(dtype)
    y = np.random.default_rng(1).permutation(integers(dtype, seed=1))
    e = np.array(list(x[:14])[: 14 if as_dtype(dtype).kind == "i" else 9], x.dtype)
    x, y = np.concatenate([np.repeat(e, len(e)), x]), np.concatenate([np.tile(e, len(e)), y])
    with np.errstate(all="ignore"):
        for name, ref in INTEGER_OPS.items():
            for width in (16, 1):
                got = compiled(lambda m, a, b, n=name: getattr(m, n)(a, b), [dtype, dtype], dtype, width)(x, y)
                want = ref(x, y).astype(x.dtype)
                assert np.array_equal(got, want), (name, width, x[got != want][:3], y[got != want][:3])
        for name, ref in COMPARISONS.items():
            got = compiled(lambda m, a, b, n=name: getattr(m, n)(a, b), [dtype, dtype], "bool")(x, y)
            assert np.array_equal(got, ref(x, y)), name
        for name, f in {"neg": np.negative, "abs": np.abs, "bit_not": np.invert, "sign": np.sign}.items():
            got = compiled(lambda m, a, n=name: getattr(m, n)(a), [dtype], dtype)(x)
            assert np.array_equal(got, f(x)), name


@pytest.mark.parametrize("dtype", INTS)
def test_integer_powers(dtype: str) -> None:
    x = integers(dtype, 500)
    e = (np.random.default_rng(2).integers(0, 70, len(x)) % 70).astype(x.dtype)
    with np.errstate(all="ignore"):
        want = np.power(x, e)
        assert np.array_equal(compiled(lambda m, a, b: m.pow(a, b), [dtype, dtype], dtype)(x, e), want)
        assert np.array_equal(compiled(lambda m, a, b: m.pow(a, b), [dtype, dtype], dtype, 1)(x, e), want)
        for n in (0, 1, 2, 3, 13):
            got = compiled(lambda m, a, n=n: m.pow(a, m.const(n, dtype)), [dtype], dtype)(x)
            assert np.array_equal(got, x ** np.array(n, x.dtype))
    if as_dtype(dtype).kind == "i":
        f = compiled(lambda m, a, b: m.pow(a, b), [dtype, dtype], dtype)
        x, e = np.array([1, -1, -1, 2, 0], x.dtype), np.array([-3, -3, -4, -1, -2], x.dtype)
        assert f(x, e).tolist() == [1, -1, 1, 0, 0]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64", "uint64"])
def test_constant_operands(dtype: str) -> None:
    x = integers(dtype, 500)
    for n in (1, 3, 8):
        c = np.array(n, x.dtype)
        for name in ("floordiv", "floormod", "truncdiv", "fmod", "shift_left", "shift_right"):
            got = compiled(lambda m, a, n=n, name=name: getattr(m, name)(a, m.const(n, dtype)), [dtype], dtype)(x)
            with np.errstate(all="ignore"):
                assert np.array_equal(got, INTEGER_OPS[name](x, np.full_like(x, c))), (name, n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [16, 1])
def test_float_division(dtype: str, width: int) -> None:
    s = special(as_dtype(dtype).np)
    rng = np.random.default_rng(0)
    x = np.concatenate([np.repeat(s, len(s)), rng.uniform(-50, 50, 2000).astype(dtype), sample(dtype, 2000)])
    y = np.concatenate([np.tile(s, len(s)), rng.uniform(-5, 5, 2000).astype(dtype), sample(dtype, 2000, 1)])
    x[-500:], y[-500:] = rng.integers(-20, 20, 500), rng.integers(-6, 6, 500)
    names = {"fmod": np.fmod, "floormod": np.mod, "floordiv": np.floor_divide, "truncdiv": lambda a, b: np.trunc(a / b)}
    with np.errstate(all="ignore"):
        for name, ref in names.items():
            got = compiled(lambda m, a, b, n=name: getattr(m, n)(a, b), [dtype, dtype], dtype, width)(x, y)
            want = ref(x, y)
            bad = ~((got == want) & (np.signbit(got) == np.signbit(want)) | (np.isnan(got) & np.isnan(want)))
            assert not bad.any(), (name, x[bad][:3], y[bad][:3], got[bad][:3], want[bad][:3])


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: str) -> None:
    dt = as_dtype(dtype).np
    s = special(dt)
    x, y = np.concatenate([np.repeat(s, len(s)), sample(dtype, 4096)]), np.tile(s, len(s))
    y = np.concatenate([y, np.random.default_rng(1).permutation(sample(dtype, 4096, 1))])
    wide = np.float64 if dt.itemsize == 8 else np.float32
    xw, yw = x.astype(wide), y.astype(wide)

    def same(got: np.ndarray, want: np.ndarray, what: str) -> None:
        want = want.astype(dt)
        ok = (got == want) | (np.isnan(got) & np.isnan(want))
        assert ok.all(), (what, x[~ok][:3], y[~ok][:3], got[~ok][:3], want[~ok][:3])

    with np.errstate(all="ignore"):
        pairs = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
                 "copysign": np.copysign}  # fmt: skip
        for name, ref in pairs.items():
            got = compiled(lambda m, a, b, n=name: getattr(m, n)(a, b), [dtype, dtype], dtype)(x, y)
            same(got, ref(xw, yw), name)
        for name, ref in {"neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil,
                          "trunc": np.trunc, "round": np.rint}.items():  # fmt: skip
            got = compiled(lambda m, a, n=name: getattr(m, n)(a), [dtype], dtype)(x)
            same(got, ref(xw), name)
            assert np.array_equal(np.signbit(got[~np.isnan(x)]), np.signbit(ref(xw)[~np.isnan(x)])), name
        for name, ref in COMPARISONS.items():
            got = compiled(lambda m, a, b, n=name: getattr(m, n)(a, b), [dtype, dtype], "bool")(x, y)
            assert np.array_equal(got, ref(xw, yw)), name
        for name in ("isnan", "isinf", "isfinite"):
            got = compiled(lambda m, a, n=name: getattr(m, n)(a), [dtype], "bool")(x)
            assert np.array_equal(got, getattr(np, name)(xw)), name
        for c in (0.0, 1.5, math.nan):
            got = compiled(lambda m, a, c=c: m.maximum(a, m.const(c, dtype)), [dtype], dtype)(x)
            same(got, np.maximum(xw, wide(c)), f"maximum {c}")
            got = compiled(lambda m, a, c=c: m.minimum(m.const(c, dtype), a), [dtype], dtype)(x)
            same(got, np.minimum(wide(c), xw), f"minimum {c}")
        got = compiled(lambda m, a, b: m.select(m.lt(a, b), a, m.neg(b)), [dtype, dtype], dtype)(x, y)
        same(got, np.where(xw < yw, xw, -yw), "select")


def test_fma_rounds_once() -> None:
    x = np.random.default_rng(0).standard_normal((3, 999)).astype(np.float32)
    got = compiled(lambda m, a, b, c: m.fma(a, b, c), ["float32"] * 3, "float32")(*x)
    assert np.array_equal(got, (x[0].astype(float) * x[1] + x[2]).astype(np.float32))


def test_bool() -> None:
    x, y = np.array([False, False, True, True] * 8), np.array([False, True] * 16)
    pairs = {
        "logical_and": operator.and_, "logical_or": operator.or_, "logical_xor": operator.xor, "add": operator.or_,
        "mul": operator.and_, "maximum": operator.or_, "minimum": operator.and_, "lt": operator.lt, "ge": operator.ge,
        "eq": operator.eq, "ne": operator.ne, "bit_xor": operator.xor,
    }  # fmt: skip
    for name, ref in pairs.items():
        for width in (16, 1):
            got = compiled(lambda m, a, b, n=name: getattr(m, n)(a, b), ["bool", "bool"], "bool", width)(x, y)
            assert np.array_equal(got, ref(x, y)), name
    assert np.array_equal(compiled(lambda m, a: m.logical_not(a), ["bool"], "bool")(x), ~x)
    z = np.array([0.0, -0.0, 2.0, math.nan], np.float32)
    assert compiled(lambda m, a: m.logical_not(a), ["float32"], "bool")(z).tolist() == [True, True, False, False]


# --- casts and memory -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["bool", *INTS, *FLOATS])
@pytest.mark.parametrize("width", [16, 1])
def test_casts(source: str, width: int) -> None:
    d = as_dtype(source)
    if d.kind == "b":
        x = np.array([True, False] * 16)
    else:
        x = integers(source, 300) if d.kind in "iu" else sample(source, 2000)
    for name in ["bool", *INTS, *FLOATS]:
        to = as_dtype(name)
        v = x
        if d.kind == "f" and to.kind in "iu":
            i = np.iinfo(to.np)
            with np.errstate(all="ignore"):
                w = x.astype(float)
            v = x[np.isfinite(w) & (w > float(i.min) - 1) & (w < float(i.max))]
        with np.errstate(all="ignore"):
            want = v.astype(to.np)
            if name == "bfloat16" and d.kind in "iu":
                want = v.astype(np.float32).astype(to.np)
        got = compiled(lambda m, a, to=to: m.cast(a, to), [source], name, width)(v)
        with np.errstate(invalid="ignore"):
            ok = (got == want) | (np.isnan(got) & np.isnan(want)) if to.kind == "f" else got == want
        if source == "float64" and name == "bfloat16":  # ml_dtypes rounds twice
            with np.errstate(all="ignore"):
                ok |= abs(got.astype(float) - v) <= abs(want.astype(float) - v)
        assert ok.all(), (name, v[~ok][:4], got[~ok][:4], want[~ok][:4])
    if d.kind == "f":
        wild = np.array([300.0, -1.0, math.nan, math.inf, -math.inf]).astype(d.np)
        assert compiled(lambda m, a: m.cast(a, "uint8"), [source], "uint8", width)(wild).tolist() == [
            255,
            0,
            0,
            255,
            0,
        ]
        got = compiled(lambda m, a: m.cast(a, "int64"), [source], "int64", width)(wild)
        assert got.tolist() == [300, -1, 0, 2**63 - 1, -(2**63)]


def test_a_cast_to_sixteen_bits_rounds() -> None:
    x = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    for name in ("float16", "bfloat16"):
        got = compiled(lambda m, a, t=name: m.cast(m.cast(a, t), "float32"), ["float32"], "float32")(x)
        assert np.array_equal(got, x.astype(as_dtype(name).np).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("half", [None, False])
@pytest.mark.parametrize("width", [16, 1])
def test_all_sixteen_bit_floats(dtype: str, half: bool | None, width: int) -> None:
    dt = as_dtype(dtype).np
    x = np.arange(1 << 16, dtype=np.uint16).view(dt)
    up = compiled(lambda m, a: m.cast(a, "float32"), [dtype], "float32", width, half=half)(x)
    want = x.astype(np.float32)
    assert np.array_equal(up[~np.isnan(want)].view(np.uint32), want[~np.isnan(want)].view(np.uint32))
    assert np.isnan(up[np.isnan(want)]).all()
    # every number between two neighbours: halves, just off halves
    w = want[np.isfinite(want)]
    with np.errstate(all="ignore"):
        mid = (w + np.nextafter(w.astype(dt), dt.type(math.inf)).astype(np.float32)) / 2
    v = np.concatenate(
        [w, mid, np.nextafter(mid, np.float32(9e9)), np.nextafter(mid, np.float32(-9e9)), special(w.dtype)]
    )
    got = compiled(lambda m, a: m.cast(a, dtype), ["float32"], dtype, width, half=half)(v)
    with np.errstate(all="ignore"):
        down = v.astype(dt)
    ok = (got.view(np.uint16) == down.view(np.uint16)) | (np.isnan(got) & np.isnan(down))
    assert ok.all(), (v[~ok][:4], got[~ok][:4], down[~ok][:4])


def test_doubles_round_once_to_sixteen_bits() -> None:
    one = 1 + 2.0**-11  # halfway between two float16
    x = np.array([one, one + 2.0**-40, one - 2.0**-40, 1e300, -1e300, 1e-300, 2.0**-25, 2.0**-25 * (1 + 2.0**-40)])
    got = compiled(lambda m, a: m.cast(a, "float16"), ["float64"], "float16")(x)
    with np.errstate(over="ignore"):
        assert np.array_equal(got, x.astype(np.float16))


@pytest.mark.parametrize("dtype", ["bool", *INTS, *FLOATS])
@pytest.mark.parametrize("width", [16, 1])
def test_masked_and_strided_memory(dtype: str, width: int) -> None:
    d = as_dtype(dtype)
    mod = Module()
    fn = mod.function("k", [("out", "ptr"), ("x", "ptr"), ("n", "i64"), ("stride", "i64")])
    m = LLVMScalar(fn, width)
    out, x, n, stride = fn.args

    def body(i: Val) -> None:
        left = fn.sub(n, i)
        mask = fn.cmp("sgt", left, i64(0)) if width == 1 else fn.mask(left, width)
        at = fn.gep(x, fn.mul(i, stride), m.memory(d))
        a = m.gather(at, stride, d, mask)
        m.store(a, fn.gep(out, i, m.memory(d)), mask)
        b = m.load(fn.gep(x, i, m.memory(d)), d, mask)
        m.scatter(b, fn.gep(fn.gep(out, n, m.memory(d)), fn.mul(i, stride), m.memory(d)), stride, mask)

    fn.loop(0, n, body, step=width)
    fn.ret_()
    k = engine.load(mod.text(), ["k"])
    call = k.function("k", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long)
    rng = np.random.default_rng(0)
    for count in (1, 7, 16, 37):
        a = rng.integers(0, 2 if d.kind == "b" else 100, 3 * count).astype(d.np)
        r = np.full(5 * count, 1, d.np)
        call(r.ctypes.data, a.ctypes.data, count, 3)
        want = np.full(5 * count, 1, d.np)
        want[:count] = a[: 3 * count : 3]
        want[count : 4 * count : 3][:count] = a[:count]
        assert np.array_equal(r, want)


def test_nontemporal_store() -> None:
    mod = Module()
    fn = mod.function("k", [("out", "ptr")])
    m = LLVMScalar(fn, 16)
    m.store(m.const(1.5, "float32"), fn.args[0], nontemporal=True)
    fn.ret_()
    buffer = np.zeros(64, np.float32)
    at = -buffer.ctypes.data % 64 // 4
    k = engine.load(mod.text(), ["k"])
    k.function("k", None, ctypes.c_void_p)(buffer.ctypes.data + 4 * at)
    assert (buffer[at : at + 16] == 1.5).all()


REDUCERS = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "and": np.bitwise_and.reduce,
            "or": np.bitwise_or.reduce}  # fmt: skip


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64"])
def test_reductions(dtype: str) -> None:
    d = as_dtype(dtype)
    for kind, ref in REDUCERS.items():
        if (kind in ("and", "or")) == (d.kind == "f"):
            continue
        for width in (16, 1):

            def body(m: LLVMScalar, x: S, kind: str = kind) -> S:
                return m.broadcast(m.reduce(kind, m.combiner(kind)(x, m.neutral(kind, d))))

            rng = np.random.default_rng(1)
            x = rng.integers(0, 2 if d.kind == "b" else 4, 32).astype(d.np)
            got = compiled(body, [dtype], dtype, width)(x)
            want = x if width == 1 else np.repeat([ref(x[:16]), ref(x[16:])], 16).astype(d.np)
            assert np.array_equal(got, want), (kind, width)
            if d.kind == "f" and width > 1:
                x[3] = math.nan
                assert np.isnan(compiled(body, [dtype], dtype, width)(x)[:16]).all(), kind
