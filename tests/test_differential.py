"""Every operation, traced: the same results as eagerly for all dtypes, shapes, layouts and special values.

Native code, the Numba source (as plain Python) and the reference interpreter are each compared with eager NumPy.
"""

import itertools

import numpy as np
import pytest
from helpers import TOLERANCE
from lowerings import Lowered, compiled, draws_agree, flat
from op_table import CASES, Case

import tracejit as tj
from tracejit.errors import TracejitError
from tracejit.ir.op import OPS
from tracejit.ir.types import ALL

MAIN = ("float32", "float64", "int32")
CHUNK = 16
RANDOM_ON_HOST = {"random_seed"}


def by_chunks(cases: list[Case]) -> list[list[Case]]:
    return [cases[i : i + CHUNK] for i in range(0, len(cases), CHUNK)]


def same(got: np.ndarray, want: np.ndarray, tol: float, what: str) -> None:
    """Equal dtype and shape, NaN and infinity in the same places, the rest within `tol` of the largest."""
    assert got.dtype == want.dtype, f"{what}: {got.dtype} for {want.dtype}"
    assert got.shape == want.shape, f"{what}: {got.shape} for {want.shape}"
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    g, w = got.astype(wide), want.astype(wide)
    finite = np.isfinite(w)
    np.testing.assert_array_equal(g[~finite], w[~finite], err_msg=what)
    scale = float(np.abs(w[finite]).max(initial=0.0))
    np.testing.assert_allclose(g[finite], w[finite], rtol=tol, atol=tol * min(scale, 1.0), err_msg=what)


# --- the table of cases -----------------------------------------------------------------------------------------------
def table() -> list:
    out = []
    for d in ALL:
        mine = [c for c in CASES if d.kind in c.kinds]
        out += [pytest.param(d, chunk, id=f"{d.name}-{i}") for i, chunk in enumerate(by_chunks(mine))]
    return out


@pytest.mark.parametrize(("dtype", "cases"), table())
def test_cases(dtype, cases):
    """All cases of a chunk in one program, with all their shapes (for the main dtypes) or the first ones."""
    variants = [(c, s) for c in cases for s in (c.shapes if dtype.name in MAIN else c.shapes[:1])]
    arrays = [c.arrays(dtype, s, seed=i) for i, (c, s) in enumerate(variants)]

    def program(args):
        return [c.f(*xs) for (c, _), xs in zip(variants, args)]

    eager = [flat(y) for y in program([[tj.constant(a) for a in xs] for xs in arrays])]
    labels = [(c, shapes) for (c, shapes), ys in zip(variants, eager) for _ in ys]
    for way, got in Lowered(program).results(arrays):
        for (c, shapes), a, b in zip(labels, flat(eager), got, strict=True):
            tol = TOLERANCE.get(a.dtype.name, 0.0) * 4 * min(c.factor, 100)
            same(b, a, tol, f"{way}: {c.name} of {dtype.name}{shapes}")


def differentiable() -> list:
    mine = [c for c in CASES if c.differentiable and "f" in c.kinds]
    return [pytest.param(chunk, id=str(i)) for i, chunk in enumerate(by_chunks(mine))]


@pytest.mark.parametrize("cases", differentiable())
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_gradients(cases, where):
    """Eager gradients against those of a tape inside a trace, or of a traced function under a tape."""
    arrays = [c.arrays(tj.float64, c.small(), seed=i) for i, c in enumerate(cases)]
    floats = [[i for i in range(len(xs)) if i not in c.fixed] for c, xs in zip(cases, arrays)]

    def outputs(args):
        return [c.f(*xs) for c, xs in zip(cases, args)]

    def gradients(args, forward=outputs):
        sources = [xs[i] for xs, keep in zip(args, floats) for i in keep]
        with tj.GradientTape() as tape:
            tape.watch(sources)
            targets = [tj.sin(y) if y.dtype.is_floating else y for y in forward(args)]
        return tape.gradient(targets, sources, unconnected_gradients="zero")

    tensors = [[tj.constant(a) for a in xs] for xs in arrays]
    eager = gradients(tensors)
    traced = compiled(gradients)(tensors) if where == "inside" else gradients(tensors, compiled(outputs))
    names = [c.name for c, keep in zip(cases, floats) for _ in keep]
    for n, a, b in zip(names, eager, traced, strict=True):
        same(b.numpy(), a.numpy(), 1e-9, f"gradient of {n}")


# --- elementwise operations: special values, odd sizes, layouts -------------------------------------------------------
SPECIAL = {
    "f": [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 1e-3, -1e-3, 20.0, -20.0,
    1e4, -1e4, 7.3],
    "i": [0, 1, -1, 2, -2, 3, 7, -7, 100, -100],
    "u": [0, 1, 2, 3, 7, 100],
    "b": [False, True],
}  # fmt: skip
SIZES = (0, 1, 2, 15, 16, 17, 31, 33, 1000)
OTHERS = {"cast", "copy", "assigned", "igamma_slope", "betainc_slope", "zeta_slope"}  # which take attributes
ELEMENTWISE = [
    op
    for op in OPS.values()
    if op.family == "elementwise" and op.scalar is not None and op.name not in OTHERS
    if not any(r in op.name for r in ("philox", "random"))
]
# where results are steep, an error of half a unit of the operand shows
STEEP = {
    "pow": 300,
    "exp": 30,
    "exp2": 30,
    "expm1": 30,
    "sinh": 30,
    "cosh": 30,
    "tan": 100,
    "erfc": 100,
    "floormod": 100,
    "polygamma": 1e6,  # below 0, where terms of both signs cancel
}

# Of 0.0 and -0.0 NumPy itself gives now one, now the other; sums of terms that underflow have either.
EITHER_ZERO = ("maximum", "minimum", "relu", "sign", "zeta_grad_x")


def special(d, n: int, seed: int) -> np.ndarray:
    """n values, the special ones among them."""
    rng = np.random.default_rng(seed)
    base = list(SPECIAL[d.kind])
    if d.kind == "f":
        info = tj.ir.types.limits(d)
        base += [
            float(info.smallest_subnormal),
            -float(info.smallest_subnormal),
            float(info.tiny),
            float(info.max),
            -float(info.max),
        ]
    elif d.kind in "iu":
        base += [int(np.iinfo(d.np).max), int(np.iinfo(d.np).min)]
        base = [x for x in base if np.iinfo(d.np).min <= x <= np.iinfo(d.np).max]
    with np.errstate(all="ignore"):
        values = np.array(base, d.np)
    out = values[rng.integers(0, len(values), n)]
    out[: min(n, len(values))] = values[: min(n, len(values))]
    return rng.permutation(out)


def alike(got: np.ndarray, want: np.ndarray, name: str, what: str, *args: np.ndarray) -> None:
    """Bits for integers; for floats NaN, infinities, the sign of zeros, and a few units of the last place."""
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, what
    if want.dtype.kind in "biu":
        bad = got != want
    else:
        g, w = got.astype(np.float64), want.astype(np.float64)
        tol = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 4e-15}[want.dtype.name] * STEEP.get(
            name, 1
        )
        tiny = float(tj.ir.types.limits(tj.as_dtype(want.dtype)).tiny)
        with np.errstate(all="ignore"):
            near = (np.abs(g - w) <= tol * np.abs(w) + tiny) & np.isfinite(w)
        equal = (g == w) | (np.isnan(g) & np.isnan(w)) | near
        zero = (w == 0) & (g == 0) & (np.signbit(g) != np.signbit(w)) & (name not in EITHER_ZERO)
        bad = ~equal | zero
    if bad.any():
        i = tuple(int(k[0]) for k in np.nonzero(bad)) if bad.ndim else ()
        operands = [np.broadcast_to(a, bad.shape)[i] for a in args]
        raise AssertionError(
            f"{what}: {name}{tuple(operands)} is {got[i]!r}, eagerly {want[i]!r}; {int(bad.sum())} differ"
        )


def elementwise_of(d, arity: int) -> list:
    return [op for op in ELEMENTWISE if op.arity == arity and d.kind in op.dtypes and op.promote != "select"]


LAYOUTS = {
    "contiguous": lambda x, y: (x, y),
    "strided": lambda x, y: (x[::-2], y[::2][::-1]),
    "scalar on the right": lambda x, y: (x, y[3]),
    "scalar on the left": lambda x, y: (x[5], y),
    "outer": lambda x, y: (x[:40, None], y[None, :17]),
    "transposed": lambda x, y: (tj.transpose(tj.reshape(x[:600], (20, 30))), tj.reshape(y[:600], (30, 20))),
    "column": lambda x, y: (tj.reshape(x[:600], (20, 30)), tj.reshape(y[:20], (20, 1))),
    "planes": lambda x, y: (tj.reshape(x[:600], (4, 5, 30))[:, 1:4], tj.reshape(y[:120], (4, 1, 30))),
}  # fmt: skip
LIGHT = ("float32", "float64", "int32", "int64", "uint8", "bool", "float16")


def programs_for(d) -> list:
    """Unary and binary operations of a dtype, a few in each program."""
    ops = elementwise_of(d, 1) + elementwise_of(d, 2)
    return [ops[i : i + 8] for i in range(0, len(ops), 8)]


def each(ops: list):
    """The function that applies all of them."""
    return lambda x, y: [op(x) if op.arity == 1 else op(x, y) for op in ops]


@pytest.mark.parametrize("dtype", [d for d in ALL if d.kind != "c"], ids=str)
def test_special_values_and_odd_sizes(dtype):
    """Sizes around the width of vectors share one program, since they are symbols."""
    for ops in programs_for(dtype):
        run = each(ops)
        f = Lowered(run, numerics="exact")
        for n in (200, 7, *SIZES, 50_000 if dtype.name == "float32" else 3, None):
            shape = () if n is None else (n,)
            x, y = (special(dtype, 1 if n is None else n, (n or 4) + k).reshape(shape) for k in (0, 1))
            want = flat(run(tj.constant(x), tj.constant(y)))
            for way, got in f.results(x, y, source=n is None or n < 1000):
                for op, a, b in zip(ops, want, got, strict=True):
                    alike(b, a, op.name, f"{way}: {dtype.name}{x.shape}", *(x, y)[: op.arity])
        assert f.function.experimental_get_tracing_count() <= 5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [d for d in ALL if d.name in LIGHT], ids=str)
def test_layouts(dtype, layout):
    x, y = special(dtype, 1000, 1), special(dtype, 1000, 2)
    table = [op for ops in programs_for(dtype)[-3:] for op in ops]

    def run(x, y):
        a, b = LAYOUTS[layout](x, y)
        return [op(a + a if op.arity == 1 and dtype.kind != "b" else a, *(b,) * (op.arity - 1)) for op in table]

    want = flat(run(tj.constant(x), tj.constant(y)))
    for way, got in Lowered(run, numerics="exact").results(x, y):
        for op, a, b in zip(table, want, got, strict=True):
            alike(b, a, op.name, f"{way}: {dtype.name}, {layout}")


@pytest.mark.parametrize("source", ALL, ids=str)
def test_casts(source):
    kind = "f" if source.kind == "c" else source.kind
    real = special(source if kind == source.kind else tj.float32, 100, 0)
    x = real.astype(source.np)

    def run(x):
        return [tj.cast(x, d) for d in ALL]

    for way, got in Lowered(run).results(x):
        for d, a, b in zip(ALL, run(tj.constant(x)), got, strict=True):
            same(b, a.numpy(), 0.0, f"{way}: {source.name} to {d.name}")


@pytest.mark.parametrize("dtype", [d for d in ALL if d.kind != "c"], ids=str)
def test_where_and_clip(dtype):
    x, y = special(dtype, 330, 1), special(dtype, 330, 2)
    c = np.random.default_rng(0).random(330) < 0.5

    def run(c, x, y):
        grid = tj.reshape(x, (10, 33))
        return [
            tj.where(c, x, y), tj.where(c, x[0], y), tj.where(tj.reshape(c, (10, 33)), grid, y[:33]),
            tj.where(c[:10, None], grid, y[7]),
        ]  # fmt: skip

    for way, got in Lowered(run, numerics="exact").results(c, x, y):
        for a, b in zip(run(*map(tj.constant, (c, x, y))), got, strict=True):
            alike(b, a.numpy(), "where", f"{way}: {dtype.name}")


def test_random_draws():
    draws_agree(njit=False)


# --- reductions -------------------------------------------------------------------------------------------------------
REDUCTIONS = {
    "f": ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_logsumexp"),
    "i": ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
    "u": ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
    "b": ("reduce_all", "reduce_any"),
}
EXTREMES = ("reduce_max", "reduce_min", "reduce_logsumexp")
AXES = (None, 0, 1, 2, (0, 1), (1, 2), (0, 2))
GRIDS = ((2, 3, 5), (4, 15, 17), (3, 1, 33), (1, 16, 1), (0, 3, 4), (5, 31, 16), (40, 70, 60), (2, 9, 8000))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int8", "uint64", "bool"])
def test_reductions(dtype):
    d = tj.as_dtype(dtype)
    names = REDUCTIONS[d.kind]

    def run(x, axes):
        out = []
        for name, axis in itertools.product(names, axes):
            if name not in EXTREMES or 0 not in x.shape:
                out.append(getattr(tj, name)(x, axis=axis, keepdims=name.endswith("x")))
        return out

    for axes in (AXES[:4], AXES[4:]):
        f = Lowered(run)
        for shape in GRIDS:
            rng = np.random.default_rng(len(shape))
            x = (rng.normal(size=shape) * 3).astype(d.np) if d.kind != "b" else rng.random(shape) < 0.9
            labels = [(n, a) for n, a in itertools.product(names, axes) if n not in EXTREMES or 0 not in shape]
            want = flat(run(tj.constant(x), axes))
            tol = {"float32": 2e-5, "float64": 1e-12, "float16": 2e-2}.get(dtype, 0.0)
            for way, got in f.results(x, axes, source=x.size < 2000):
                for label, a, b in zip(labels, want, got, strict=True):
                    scale = np.abs(x.astype(np.float64)).sum() / max(a.size, 1) if d.kind == "f" else 1.0
                    np.testing.assert_allclose(
                        b.astype(np.float64), a.astype(np.float64), rtol=tol, atol=tol * scale,
                        err_msg=f"{way}: {label} of {shape}"
                    )  # fmt: skip
                    assert a.dtype == b.dtype


def test_reductions_of_special_values():
    rows = np.array(
        [
            [1, np.nan, 2],
            [np.inf, 1, 2],
            [-np.inf, np.inf, 0],
            [-0.0, -0.0, -0.0],
            [np.nan, np.inf, -np.inf],
            [-np.inf] * 3,
        ]
    )
    for dtype in (np.float32, np.float64):
        x = np.tile(rows, (1, 11)).astype(dtype)

        def run(x):
            names = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_logsumexp", "reduce_mean")
            return [getattr(tj, n)(x, axis=a) for n in names for a in (0, 1, None)] + [tj.argmax(x, 1), tj.argmin(x, 0)]

        with np.errstate(all="ignore"):
            want = flat(run(tj.constant(x)))
            for way, got in Lowered(run).results(x):
                for a, b in zip(want, got, strict=True):
                    np.testing.assert_allclose(b, a, rtol=1e-5, err_msg=way)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool", "float16"])
def test_positions_of_extremes(dtype):
    def run(x):
        return [f(x, axis=a) for f in (tj.argmax, tj.argmin) for a in (0, 1, 2)]

    f = Lowered(run)
    for shape in ((2, 3, 4), (5, 17, 33), (1, 16, 1), (7, 1, 300)):
        x = np.random.default_rng(0).integers(0, 5, shape).astype(tj.as_dtype(dtype).np)
        for way, got in f.results(x):
            for a, b in zip(run(tj.constant(x)), got, strict=True):
                np.testing.assert_array_equal(b, a.numpy(), err_msg=way)
                assert b.dtype == np.int64


# --- products ---------------------------------------------------------------------------------------------------------
PRODUCTS = [
    ((3, 4), (4, 5)), ((1, 1), (1, 1)), ((17, 33), (33, 15)), ((1, 300), (300, 1)), ((300, 1), (1, 20)),
    ((5, 0), (0, 3)), ((0, 4), (4, 2)),
    ((4, 3), (3, 0)), ((64, 64), (64, 64)), ((130, 70), (70, 257)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)),
    ((3, 4), (6, 4, 2)),
    ((2, 1, 17, 8), (1, 3, 8, 9)), ((0, 3, 4), (0, 4, 5)), ((8, 1, 40), (8, 40, 1)), ((2000, 2), (2, 1)),
    ((2, 2000), (2000, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "complex64"])
def test_products(dtype):
    d = tj.as_dtype(dtype)
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=a).astype(d.np), rng.normal(size=b).astype(d.np)) for a, b in PRODUCTS]
    if d.kind == "i":
        pairs = [((x * 5).astype(d.np), (y * 5).astype(d.np)) for x, y in pairs]
    swap = lambda x: np.ascontiguousarray(np.swapaxes(x, -1, -2))  # noqa: E731

    def run(pairs, ta, tb):
        return [tj.matmul(x, y, transpose_a=ta, transpose_b=tb) for x, y in pairs]

    small = [(x, y) for x, y in pairs if x.size * y.size < 20_000]
    large = [(x, y) for x, y in pairs if x.size * y.size >= 20_000]
    for mine, ta, tb in itertools.product((small, large), (False, True), (False, True)):
        args = [(swap(x) if ta else x, swap(y) if tb else y) for x, y in mine]
        eager = run([(tj.constant(x), tj.constant(y)) for x, y in args], ta, tb)
        for way, got in Lowered(run).results(args, ta, tb, source=mine is small):
            for (x, y), a, b in zip(mine, eager, got, strict=True):
                tol = TOLERANCE.get(dtype, 0.0) * (4 + x.shape[-1] ** 0.5)
                same(b, a.numpy(), tol, f"{way}: {x.shape} {y.shape} {ta} {tb}")


def test_products_with_prologue_and_epilogue():
    rng = np.random.default_rng(0)

    def run(x, w, b, scale):
        y = tj.nn.relu(x * scale @ w + b)
        z = tj.transpose(x[::2, ::2]) @ tj.tanh(y[::2])
        return y, z, tj.reduce_sum(y @ tj.transpose(w), axis=1), tj.nn.softmax(y @ w[:5, :5])

    f = Lowered(run)
    for n in (6, 2, 33, 128, 501):
        args = [rng.normal(size=s).astype(np.float32) for s in ((n, 40), (40, 5), (5,))] + [np.float32(0.5)]
        want = flat(run(*map(tj.constant, args)))
        for way, got in f.results(*args, source=n < 50):
            for a, b in zip(want, got, strict=True):
                same(b, a, 3e-5, f"{way}: {n} rows")


def test_errors_are_those_of_eager_calls():
    """What an operation refuses eagerly it refuses in a trace, with the same kind of error."""
    bad = [
        (lambda x: tj.matmul(x, x), (2, 3)), (lambda x: x + x[:1, :2], (2, 3)), (lambda x: tj.reshape(x, (4,)), (2, 3)),
        (lambda x: tj.concat([x, x[:1]], 1), (2, 3)), (lambda x: tj.reduce_sum(x, axis=5), (2, 3)),
        (lambda x: x[5], (2, 3)),
        (lambda x: tj.transpose(x, [0, 0]), (2, 3)), (lambda x: tj.reduce_max(x, axis=0), (0, 3)),
        (lambda x: x & x, (2, 3)),
        (lambda x: tj.broadcast_to(x, (3, 2)), (2, 3)), (lambda x: tj.squeeze(x, 0), (2, 3)),
        (lambda x: tj.split(x, 2, axis=1), (2, 3)),
    ]  # fmt: skip
    for f, shape in bad:
        kinds = []
        for g in (f, tj.function(f)):
            with pytest.raises(TracejitError) as caught:
                g(tj.ones(shape))
            kinds.append(caught.type)
        assert kinds[0] is kinds[1]
