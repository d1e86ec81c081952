"""The scalar protocol on LLVM registers: every operation on every type, against NumPy in higher precision."""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Callable

import llvmlite.binding as ll
import ml_dtypes
import numpy as np
import pytest

from tracejit.ir.types import as_dtype
from tracejit.lower import engine
from tracejit.lower.llvm import Module, Val, const, i64
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarmath import LLVMScalar

VARIANTS = [(16, {}), (16, {"avx512": False}), (8, {}), (32, {}), (1, {})]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def module(f: Callable[..., S], kinds: list[str], out: str, width: int = 16, **options: bool) -> str:
    """IR of k(out, in..., n): out[i] = f(m, in[i]...)."""
    mod = Module()
    fn = mod.function("k", [(f"p{i}", "ptr") for i in range(len(kinds) + 1)] + [("n", "i64")])
    m = LLVMScalar(fn, width, **options)
    types, to = [as_dtype(k) for k in kinds], as_dtype(out)

    def body(i: Val) -> None:
        args = [m.load(fn.gep(p, i, m.memory(t)), t) for p, t in zip(fn.args[1:-1], types, strict=True)]
        m.store(f(m, *args), fn.gep(fn.args[0], i, m.memory(to)))

    fn.loop(0, fn.args[-1], body, step=width)
    fn.ret_()
    return mod.text()


def compiled(
    f: Callable[..., S], kinds: list[str], out: str, width: int = 16, **options: bool
) -> Callable[..., np.ndarray]:
    lib = engine.load(module(f, kinds, out, width, **options), ["k"])
    entry = lib.function("k", None, *[ctypes.c_void_p] * (len(kinds) + 1), ctypes.c_long)

    def run(*arrays: np.ndarray) -> np.ndarray:
        n = len(arrays[0])
        padded = [np.resize(np.ascontiguousarray(a), -(-n // 32) * 32) for a in arrays]
        r = np.empty(len(padded[0]), as_dtype(out).np)
        entry(r.ctypes.data, *[a.ctypes.data for a in padded], len(r))
        assert lib
        return r[:n]

    return run


def special(dt: np.dtype) -> np.ndarray:
    i = ml_dtypes.finfo(dt)
    near = [np.nextafter(np.float64(c), d) for c in (1.0, 0.75, 1.5) for d in (0.0, 2.0)]
    v = [0.0, math.inf, math.nan, 1, 0.5, 2, 3, float(i.tiny), float(i.smallest_subnormal), float(i.max), 1e-30, 0.75]
    v += [1.5, 10, 88.7, 100, 103.9, 700, 709.78, 745, 1e5, 131073, 1e10, 4.5, 7, *near]
    with np.errstate(over="ignore"):
        return np.array([*v, *[-x for x in v]]).astype(dt)


def sample(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """Special values, random bits, and numbers of ordinary size."""
    dt, rng = as_dtype(dtype).np, np.random.default_rng(seed)
    bits = rng.integers(0, 256, n // 2 * dt.itemsize, dtype=np.uint8).view(dt)
    usual = rng.standard_normal(n // 4) * 10 ** rng.uniform(-3, 3, n // 4)
    near = np.concatenate([rng.uniform(-1.1, 1.1, n // 8), rng.uniform(0.5, 2, n // 8)])
    with np.errstate(all="ignore"):
        return np.concatenate([special(dt), bits, usual.astype(dt), near.astype(dt)])


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Errors in units of the last place of `want`, which has more digits; inf for a wrong class or sign of zero."""
    fi = ml_dtypes.finfo(got.dtype)
    with np.errstate(all="ignore"):
        wide, want = got.astype(np.longdouble), want.astype(np.longdouble)
        size = np.frexp(np.where(np.isfinite(want), want, 1))[1]
        unit = np.maximum(np.ldexp(np.longdouble(1), size - fi.nmant - 1), np.longdouble(float(fi.smallest_subnormal)))
        error = abs(wide - want) / unit
        rounded = want.astype(got.dtype).astype(np.longdouble)
        same = (wide == rounded) | (np.isnan(wide) & np.isnan(want))
        edge = np.longdouble(float(fi.max))
        border = np.isinf(wide) & (np.copysign(want, wide) == want) & (abs(want) > edge * (1 - np.longdouble(2.0**-20)))
        bad = np.isnan(wide) != np.isnan(want)
        bad |= (wide == 0) & (want != 0) & (abs(want) > unit)
        bad |= (rounded == 0) & (np.signbit(wide) != np.signbit(want))
    error = np.where(same, np.where(np.isfinite(rounded), error, 0), np.where(border, 1, error))
    return np.where(bad | np.isnan(error), np.inf, error)


def slow(f: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    g = np.frompyfunc(f, 1, 1)
    return lambda x: g(x.astype(float)).astype(float)


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


REFERENCE: dict[str, Callable[..., np.ndarray]] = {
    "sigmoid": sigmoid,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))),
    "erf": slow(math.erf),
    "erfc": slow(math.erfc),
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "square": np.square,
    "div": np.divide,
}  # fmt: skip
UNARY = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid softplus "
    "erf erfc sqrt rsqrt reciprocal square"
).split()
PRECISE = {"exp", "exp2", "log", "log2", "log10", "log1p", "sin", "cos", "pow", "erf"}
NO_WIDE_REFERENCE = np.finfo(np.longdouble).nmant < 60


def bar(name: str, dtype: str) -> float:
    if dtype == "float64":
        return 2.5 if name in PRECISE else 4.0
    return 4.0 if dtype == "float32" else 0.51  # 16 bits: computed as float32 and rounded once


def check(name: str, dtype: str, got: np.ndarray, *args: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        want = (REFERENCE.get(name) or getattr(np, name))(*[a.astype(np.longdouble) for a in args])
    e = ulps(got, want)
    at = int(np.argmax(e))
    slack = 1.0 if name in ("erf", "erfc") and dtype == "float64" else 0.0  # the reference is in double
    assert e[at] <= bar(name, dtype) + slack, f"{name}{tuple(a[at] for a in args)} = {got[at]}, not {want[at]}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_accuracy(name: str, dtype: str) -> None:
    if dtype == "float64" and NO_WIDE_REFERENCE:
        pytest.skip("no wider float to compare with")
    for k, (width, options) in enumerate(VARIANTS):
        f = compiled(lambda m, x: getattr(m, name)(x), [dtype], dtype, width, **options)
        x = sample(dtype, 1 << (14 if k else 17), k)
        check(name, dtype, f(x), x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["pow", "atan2", "div"])
def test_accuracy_of_two_operands(name: str, dtype: str) -> None:
    if dtype == "float64" and NO_WIDE_REFERENCE:
        pytest.skip("no wider float to compare with")
    s = special(as_dtype(dtype).np)
    for k, (width, options) in enumerate(VARIANTS):
        f = compiled(lambda m, x, y: getattr(m, name)(x, y), [dtype, dtype], dtype, width, **options)
        x, y = sample(dtype, 1 << 14, k), sample(dtype, 1 << 14, k + 9)
        rng = np.random.default_rng(k)
        base = np.exp(rng.uniform(-1, 1, 1 << 15) * rng.choice([0.01, 1, 5], 1 << 15)).astype(x.dtype)
        with np.errstate(all="ignore"):
            top = math.log(float(ml_dtypes.finfo(x.dtype).max)) * 1.05
            power = (rng.uniform(-top, top, base.size) / np.log(base.astype(float))).astype(x.dtype)
        a = np.concatenate([np.repeat(s, len(s)), x, base])
        b = np.concatenate([np.tile(s, len(s)), rng.permutation(y), power])
        check(name, dtype, f(a, b), a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_binade(dtype: str) -> None:
    """The ends of every range: all exponents, both signs, significands at both ends."""
    dt = as_dtype(dtype).np
    digits = np.finfo(dt).nmant
    ints = np.arange(0, 1 << (dt.itemsize * 8 - digits), dtype=f"u{dt.itemsize}") << np.array(digits, f"u{dt.itemsize}")
    x = np.concatenate([(ints + np.array(o, ints.dtype)).view(dt) for o in (0, 1, (1 << digits) - 1)])
    for name in UNARY:
        if dtype == "float64" and NO_WIDE_REFERENCE:
            continue
        check(name, dtype, compiled(lambda m, v, name=name: getattr(m, name)(v), [dtype], dtype)(x), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flags_do_not_reach_the_functions(dtype: str) -> None:
    def fast(m: LLVMScalar, x: S) -> S:
        m.fn.flags = "fast "
        return m.exp(m.log(m.add(m.const(0.0, dtype), x)))

    plain = compiled(lambda m, x: m.exp(m.log(m.add(m.const(0.0, dtype), x))), [dtype], dtype)
    x = np.random.default_rng(0).uniform(0.1, 9, 999).astype(dtype)
    assert np.array_equal(compiled(fast, [dtype], dtype)(x), plain(x))


def test_arithmetic_is_not_contracted() -> None:
    text = module(lambda m, x, y: m.add(m.mul(x, y), x), ["float32"] * 2, "float32")
    assert "fma" not in text and "contract" not in text and "reassoc" not in text


# --- arithmetic on all types ------------------------------------------------------------------------------------------
def integers(dtype: str, n: int = 4000, seed: int = 0) -> np.ndarray:
    dt = as_dtype(dtype).np
    i = np.iinfo(dt)
    rng = np.random.default_rng(seed)
    edge = np.array([i.min, i.max, i.max - 1, 0, 1, 2, 3, 7, 10], dt)
    if i.min:
        edge = np.concatenate([edge, np.array([-1, -2, -3, -7, i.min + 1], dt)])
    small = rng.integers(-9 if i.min else 0, 10, n).astype(dt)
    return np.concatenate([edge, small, rng.integers(i.min, i.max, n, dtype=dt, endpoint=True)])


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


# --- random numbers ---------------------------------------------------------------------------------------------------
def philox_words(counter: np.ndarray, key: tuple[int, int], high: int = 0) -> np.ndarray:
    word = np.uint64(0xFFFFFFFF)
    c = [
        counter & word,
        counter >> np.uint64(32),
        np.full_like(counter, high & 0xFFFFFFFF),
        np.full_like(counter, high >> 32),
    ]
    k = list(key)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        s = np.uint64(32)
        c = [b >> s ^ c[1] ^ np.uint64(k[0]), b & word, a >> s ^ c[3] ^ np.uint64(k[1]), a & word]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c).astype(np.uint32)


def drawn(pick: Callable[[LLVMScalar, tuple[S, ...]], S], out: str, width: int = 16) -> Callable[..., np.ndarray]:
    key = (0xDEADBEEF, 0x12345678)

    def body(m: LLVMScalar, c: S) -> S:
        return pick(m, m.philox(m.const(key[0], "uint32"), m.const(key[1], "uint32"), c))

    return compiled(body, ["uint64"], out, width)


def test_philox() -> None:
    # the published test vector: counter and key zero
    assert [hex(int(w)) for w in philox_words(np.zeros(1, np.uint64), (0, 0))[:, 0]] == [
        "0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8",
    ]  # fmt: skip
    counter = np.concatenate([np.arange(500), np.random.default_rng(0).integers(0, 2**63, 500)]).astype(np.uint64)
    want = philox_words(counter, (0xDEADBEEF, 0x12345678))
    for i in range(4):
        for width in (16, 1):
            assert np.array_equal(drawn(lambda m, w, i=i: w[i], "uint32", width)(counter), want[i])

    def with_stream(m: LLVMScalar, c: S) -> S:
        return m.philox(m.const(1, "uint32"), m.const(2, "uint32"), c, m.const(0x123456789A, "uint64"))[3]

    got = compiled(with_stream, ["uint64"], "uint32")(counter)
    assert np.array_equal(got, philox_words(counter, (1, 2), 0x123456789A)[3])


def test_uniform_and_normal_values() -> None:
    counter = np.arange(1 << 16, dtype=np.uint64)
    w = philox_words(counter, (0xDEADBEEF, 0x12345678))
    u = drawn(lambda m, v: m.uniform01(v[0], as_dtype("float32")), "float32")(counter)
    assert np.array_equal(u, (w[0] >> 8) * np.float32(2.0**-24))
    d = drawn(lambda m, v: m.uniform01(v[0], as_dtype("float64"), v[1]), "float64")(counter)
    whole = (w[0] >> 5).astype(np.uint64) * np.uint64(1 << 26) + (w[1] >> 6)
    assert np.array_equal(d, whole * 2.0**-53)
    for name in ("float16", "bfloat16"):
        v = drawn(lambda m, v, n=name: m.uniform01(v[0], as_dtype(n)), name)(counter).astype(float)
        assert v.min() == 0 and v.max() < 1 and abs(v.mean() - 0.5) < 0.01
    for name in ("float32", "float64"):
        words = 4 if name == "float64" else 2
        x = [
            drawn(lambda m, v, k=k, n=name, c=words: m.normal(as_dtype(n), *v[:c])[k], name)(counter).astype(float)
            for k in (0, 1)
        ]
        a, b = (u.astype(float), (w[1] >> 8) * 2.0**-24) if name == "float32" else (
            d, ((w[2] >> 5).astype(np.uint64) * np.uint64(1 << 26) + (w[3] >> 6)) * 2.0**-53
        )  # fmt: skip
        r = np.sqrt(-2 * np.log1p(-a))
        tolerance = 1e-6 if name == "float32" else 1e-14
        assert np.allclose(x[0], r * np.cos(2 * np.pi * b), rtol=tolerance, atol=tolerance)
        assert np.allclose(x[1], r * np.sin(2 * np.pi * b), rtol=tolerance, atol=tolerance)
        assert abs(x[0].mean()) < 0.02 and abs(x[0].std() - 1) < 0.02 and abs(np.mean(x[0] * x[1])) < 0.02


# --- other processors -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3", "x86-64-v4", "generic"])
def test_code_for_other_processors(cpu: str) -> None:
    """Everything lowers without AVX-512, for 16-bit floats too; only known library functions are called."""
    engine.compile_ir(module(lambda m, x: x, ["float32"], "float32"))
    native = ll.get_default_triple()
    if cpu.startswith("x86") != native.startswith("x86_64"):
        pytest.skip("another architecture")
    target = ll.Target.from_triple(native)
    machine = target.create_target_machine(cpu=cpu if cpu != "generic" else "", features="", opt=2, jit=True)
    wide = cpu == "x86-64-v4"
    options = {"avx512": wide, "half": cpu in ("x86-64-v3", "x86-64-v4") or not native.startswith("x86_64")}
    for dtype in FLOATS:

        def everything(m: LLVMScalar, x: S) -> S:
            for name in UNARY:
                x = getattr(m, name)(x)
            return m.pow(x, m.atan2(x, m.floormod(x, m.const(3.0, x.dtype))))

        text = module(everything, [dtype], dtype, 8, **options)
        assembly = machine.emit_assembly(ll.parse_assembly(text, ll.create_context()))
        called = {line.split()[-1].split("@")[0] for line in assembly.splitlines() if line.strip().startswith("call")}
        allowed = {"fmod", "sin", "cos", "tan", "fma", "fmaf", "floor", "floorf", "rint", "rintf", "trunc", "truncf"}
        unknown = {c for c in called if not c.startswith(("lanes", ".L", "*", "%")) and c not in allowed}
        assert not unknown, unknown


def test_wide_literals() -> None:
    m = LLVMScalar(Module().function("k", []), 4)
    assert m.const(3, "int32").v == const("<4 x i32>", 3)
    assert m.const(0.1, "bfloat16").v == const("<4 x float>", float(ml_dtypes.bfloat16(0.1)))
    assert m.const(2.0, "int8").v == const("<4 x i8>", 2)
    assert m.const(1, "bool").v == const("<4 x i1>", True)
