"""Elementary functions and random numbers on LLVM registers, in every float type, against NumPy in higher precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import llvmlite.binding as ll
import ml_dtypes
import numpy as np
import pytest
from scalar_kernels import FLOATS, VARIANTS, compiled, module, sample, special

from tracejit.ir.types import as_dtype
from tracejit.lower import engine
from tracejit.lower.llvm import Module, const
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarmath import LLVMScalar


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
MOST_PRECISE = {"exp", "log", "tanh", "sigmoid", "erf", "sin", "cos"}
PRECISE = {"exp2", "log2", "log10", "log1p", "pow"}
NO_WIDE_REFERENCE = np.finfo(np.longdouble).nmant < 60


def bar(name: str, dtype: str) -> float:
    if dtype == "float64":
        return 2.0 if name in MOST_PRECISE else 2.5 if name in PRECISE else 4.0
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
