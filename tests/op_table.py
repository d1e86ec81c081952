"""The operations as cases: a function of tensors, a reference in NumPy or SciPy, and arguments to try them on.

`CASES` is used by the eager tests and by those of traced functions alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cases_arrays
import cases_linalg
import cases_networks
import cases_rare
import cases_signal
import cases_special
import convolution_cases as windows
import numpy as np
import scipy.special as sp
from op_case import BINARY, POS, TERNARY, UNARY, UNIT, Case, wide

import tracejit as tj
from tracejit.ir.types import ALL


def _unary() -> Iterator[Case]:
    def case(name: str, reference: Any, kinds: str = "f", domain: Any = (-2.0, 2.0), **more: Any) -> Case:
        f = tj
        for part in name.split("."):
            f = getattr(f, part)
        return Case(name, f, reference, UNARY, kinds, (domain,), **more)

    ints = "iuf"
    yield case("identity", lambda x: x, "biufc")
    yield case("negative", np.negative, "iufc")
    yield case("abs", np.abs, ints)
    yield case("sign", np.sign, ints)
    yield case("square", np.square, "iufc")
    yield case("math.reciprocal", lambda x: 1 / x.astype(float), "f", POS)
    yield case("sqrt", lambda x: np.sqrt(wide(x)), ints, POS)
    yield case("math.rsqrt", lambda x: 1 / np.sqrt(x), "f", POS, factor=2)
    yield case("exp", lambda x: np.exp(wide(x)), ints)
    yield case("math.exp2", lambda x: np.exp2(x.astype(float)), "f")
    yield case("math.expm1", np.expm1)
    yield case("math.log", np.log, "f", POS)
    yield case("math.log2", np.log2, "f", POS)
    yield case("math.log10", np.log10, "f", POS)
    yield case("math.log1p", np.log1p, "f", UNIT, factor=3)
    yield case("sin", lambda x: np.sin(wide(x)), ints)
    yield case("cos", np.cos)
    yield case("tan", np.tan, domain=(-1.2, 1.2), factor=3)
    yield case("asin", np.arcsin, domain=UNIT, factor=2)
    yield case("acos", np.arccos, domain=UNIT, factor=2)
    yield case("atan", np.arctan)
    yield case("sinh", np.sinh)
    yield case("cosh", np.cosh)
    yield case("tanh", np.tanh)
    yield case("asinh", np.arcsinh)
    yield case("acosh", np.arccosh, domain=(1.2, 4.0), factor=3)
    yield case("atanh", np.arctanh, domain=UNIT, factor=3)
    yield case("sigmoid", sp.expit, factor=2)
    yield case("math.softplus", lambda x: np.logaddexp(0, x), factor=2)
    yield case("math.erf", sp.erf)
    yield case("math.erfc", sp.erfc, factor=2)
    yield case("math.erfinv", sp.erfinv, domain=UNIT, factor=10)
    yield case("math.log_sigmoid", sp.log_expit, factor=2)
    yield case("math.ndtri", sp.ndtri, domain=(0.05, 0.95), factor=30)
    yield case("floor", np.floor, ints, differentiable=False)
    yield case("math.ceil", np.ceil, ints, differentiable=False)
    yield case("math.trunc", np.trunc, ints, differentiable=False)
    yield case("round", np.rint, ints, differentiable=False)
    yield case("math.is_nan", np.isnan, differentiable=False)
    yield case("math.is_inf", np.isinf, differentiable=False)
    yield case("math.is_finite", np.isfinite, differentiable=False)
    yield case("logical_not", np.logical_not, "b", differentiable=False)
    yield case("bitwise.invert", np.invert, "biu", differentiable=False)
    yield case("math.real", np.real, "fc")
    yield case("math.imag", np.imag, "c")
    yield case("math.conj", np.conj, "c")
    yield case("nn.relu", lambda x: np.maximum(x, 0), ints)
    yield case("nn.relu6", lambda x: np.clip(x, 0, 6), ints, (-3.0, 8.0))
    yield case("nn.leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x))
    yield case("nn.elu", lambda x: np.where(x > 0, x, np.expm1(x)))
    yield case("nn.selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), factor=2)
    yield case("nn.gelu", lambda x: 0.5 * x * (1 + sp.erf(x / np.sqrt(2))), factor=3)
    yield case("nn.silu", lambda x: x * sp.expit(x), factor=2)
    yield case("nn.softsign", lambda x: x / (1 + np.abs(x)), factor=2)
    yield Case(
        "gelu, approximate", lambda x: tj.nn.gelu(x, approximate=True),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), UNARY, factor=3,
    )  # fmt: skip
    for d in ALL:
        yield Case(
            f"cast to {d.name}", lambda x, d=d: tj.cast(x, d), lambda x, d=d: x.real.astype(d.np) if d.kind != "c" else x,
            UNARY[:5], "biuf" if d.kind == "u" else "biufc", ((0.0, 2.0) if d.kind == "u" else (-2.0, 2.0),), d is tj.float64, False,
            factor=1e9 if d.name == "bfloat16" else 1.0,
        )  # fmt: skip


def _binary() -> Iterator[Case]:
    def case(name: str, reference: Any, kinds: str = "iuf", *domains: Any, **more: Any) -> Case:
        f = tj
        for part in name.split("."):
            f = getattr(f, part)
        return Case(name, f, reference, BINARY, kinds, domains or ((-2.0, 2.0),), **more)

    yield case("add", np.add, "biufc")
    yield case("subtract", np.subtract, "ifc")
    yield case("multiply", np.multiply, "biufc")
    yield case("divide", np.true_divide, "iufc", POS, (1.0, 4.0))
    yield case("floordiv", np.floor_divide, "iuf", (-9.0, 9.0), (1.0, 9.0), differentiable=False)
    yield case("math.floormod", np.mod, "iuf", (1.1, 9.0), (9.2, 12.0), factor=10)
    yield case("math.truncatediv", lambda a, b: np.trunc(a / b), "iu", (-9, 9), (1, 9), differentiable=False)
    yield Case(
        "truncatediv of floats", tj.math.truncatediv, lambda a, b: np.trunc(a / b), BINARY, "f", ((-9, 9), (1, 9)),
        differentiable=False,
    )  # fmt: skip
    yield case("math.truncatemod", np.fmod, "iuf", (1.1, 9.0), (9.2, 12.0), factor=10)
    yield case("math.multiply_no_nan", lambda a, b: np.where(b == 0, 0, a * b), "f")
    yield case("math.divide_no_nan", lambda a, b: a / b, "f", POS, POS)
    yield case("math.xdivy", lambda a, b: a / b, "f", POS, POS)
    yield case("math.xlogy", sp.xlogy, "f", POS, POS, factor=2)
    yield case("math.xlog1py", sp.xlog1py, "f", POS, POS, factor=2)
    yield case("math.logaddexp", np.logaddexp, "f", factor=2)
    yield case("math.squared_difference", lambda a, b: (a - b) ** 2, "if", factor=3)
    yield case("maximum", np.maximum, "biuf")
    yield case("minimum", np.minimum, "biuf")
    yield case("pow", np.power, "f", (0.2, 3.0), (-2.0, 2.0), factor=5)
    yield case("atan2", np.arctan2, "f", POS, POS)
    for name, f in {
        "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
        "greater": np.greater, "greater_equal": np.greater_equal,
    }.items():  # fmt: skip
        yield case(name, f, "biuf" if "eq" not in name[:6] else "biufc", differentiable=False)
    for name, f in {
        "logical_and": np.logical_and,
        "logical_or": np.logical_or,
        "math.logical_xor": np.logical_xor,
    }.items():
        yield case(name, f, "b", differentiable=False)
    for name, f in {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}.items():
        yield case(f"bitwise.bitwise_{name}", f, "biu", (0, 100), differentiable=False)
    yield case("bitwise.left_shift", np.left_shift, "iu", (0, 3), (0, 4), differentiable=False)
    yield case("bitwise.right_shift", np.right_shift, "iu", (0, 100), (0, 4), differentiable=False)
    yield Case(
        "where", tj.where, np.where, TERNARY, "biufc", ((0, 1), (-2.0, 2.0)), fixed={0: "bool"},
    )  # fmt: skip
    yield Case(
        "clip_by_value", lambda x: tj.clip_by_value(x, -1, 1), lambda x: np.clip(x, -1, 1), UNARY, "if",
    )  # fmt: skip
    yield Case(
        "add_n",
        lambda a, b, c: tj.add_n([a, b, c]),
        lambda a, b, c: a + b + c,
        [[(2, 3)] * 3, [()] * 3],
        "iuf",
        factor=2,
    )
    yield Case("polyval", lambda x: tj.math.polyval([1, 2, 3], x), lambda x: x * x + 2 * x + 3, UNARY, "if", factor=5)
    yield Case(
        "copysign", lambda a, b: np.copysign(a, b), np.copysign, BINARY, "f", ((0.1, 2.0), (-2.0, 2.0)),
    )  # fmt: skip
    yield Case(
        "complex", tj.complex, lambda a, b: a.astype(complex) + 1j * b, BINARY[:5], "f", differentiable=False,
    )  # fmt: skip


REDUCED = [
    ((2, 3), None), ((2, 3), 0), ((2, 3), -1), ((2, 3, 4), (0, 2)), ((), None), ((1, 1), 0), ((3, 0), 0), ((40, 50), 1), ((2, 3), ())
]  # fmt: skip


ROOTS = ("math.reduce_std",)  # whose derivative at 0 does not exist


def _reductions() -> Iterator[Case]:
    table: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "reduce_sum": (np.sum, "iufc", {"factor": 20}),
        "reduce_mean": (np.mean, "iuf", {"factor": 5}),
        "reduce_max": (np.max, "iuf", {}),
        "reduce_min": (np.min, "iuf", {}),
        "reduce_prod": (np.prod, "iuf", {"domains": ((0.5, 1.5),), "factor": 50}),
        "reduce_all": (np.all, "b", {"differentiable": False}),
        "reduce_any": (np.any, "b", {"differentiable": False}),
        "reduce_logsumexp": (
            lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)), "f", {"factor": 5}
        ),
        "math.reduce_variance": (np.var, "f", {"factor": 20}),
        "math.reduce_std": (np.std, "f", {"factor": 20}),
        "math.reduce_euclidean_norm": (lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)), "f", {"factor": 20}),
        "math.count_nonzero": (np.count_nonzero, "biuf", {"differentiable": False}),
    }  # fmt: skip
    for name, (reference, kinds, more) in table.items():
        f = tj
        for part in name.split("."):
            f = getattr(f, part)
        for shape, axis in REDUCED:
            for keep in (False, True):
                if (axis == () and name not in ("reduce_sum", "reduce_max")) or (
                    name in ROOTS and shape in ((), (1, 1))
                ):
                    continue
                yield Case(
                    f"{name}, axis={axis}, keepdims={keep}, {shape}",
                    lambda x, f=f, axis=axis, keep=keep: f(x, axis=axis, keepdims=keep),
                    lambda x, r=reference, axis=axis, keep=keep: _in_own_dtype(r, x, axis, keep),
                    [[shape]], kinds, **more,
                )  # fmt: skip
    for name in ("argmax", "argmin"):
        for shape, axis in [((2, 3), 0), ((2, 3), -1), ((4,), 0), ((3, 0), 0)]:
            yield Case(
                f"{name}, axis={axis}, {shape}", lambda x, n=name, axis=axis: getattr(tj, n)(x, axis=axis),
                lambda x, n=name, axis=axis: getattr(np, n)(x, axis=axis), [[shape]], "iuf", differentiable=False,
            )  # fmt: skip
    for name in ("cumsum", "cumprod"):
        f = getattr(tj.math, name)
        for axis, exclusive, reverse in [(0, False, False), (1, True, False), (-1, False, True), (0, True, True)]:
            yield Case(
                f"{name}, axis={axis}, exclusive={exclusive}, reverse={reverse}",
                lambda x, f=f, a=axis, e=exclusive, r=reverse: f(x, axis=a, exclusive=e, reverse=r),
                lambda x, n=name, a=axis, e=exclusive, r=reverse: _scan(n, x, a, e, r),
                [[(3, 4)], [(0, 2)], [(1, 1)]], "if", ((0.5, 1.5),), factor=10,
            )  # fmt: skip


def _in_own_dtype(f: Any, x: np.ndarray, axis: Any, keep: bool) -> np.ndarray:
    """Wide sums; integers wrap around as they do in their own dtype."""
    wide = x.astype(np.float64) if x.dtype.kind in "fV" else x
    return np.asarray(f(wide, axis=axis, keepdims=keep))


def _scan(name: str, x: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    y = np.flip(x, axis) if reverse else x
    z = getattr(np, name)(y, axis=axis)
    if exclusive:
        z = np.roll(z, 1, axis)
        z[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)] = 0 if name == "cumsum" else 1
    return np.flip(z, axis) if reverse else z


def _shapes() -> Iterator[Case]:
    every = "biufc"

    def case(name: str, f: Any, reference: Any, *shapes: Any, kinds: str = every, **more: Any) -> Case:
        return Case(name, f, reference, [s if isinstance(s, list) else [s] for s in shapes], kinds, **more)

    yield case("reshape", lambda x: tj.reshape(x, (3, -1)), lambda x: x.reshape(3, -1), (2, 3), (6,), (3, 4, 5))
    yield case("reshape to nothing", lambda x: tj.reshape(x, (0, 3)), lambda x: x.reshape(0, 3), (0,), (2, 0))
    yield case("transpose", tj.transpose, np.transpose, (2, 3), (2, 3, 4), (), (3,), (0, 2))
    yield case(
        "transpose, perm", lambda x: tj.transpose(x, [1, 2, 0]), lambda x: x.transpose(1, 2, 0), (2, 3, 4), (1, 1, 1)
    )
    yield case("expand_dims", lambda x: tj.expand_dims(x, -1), lambda x: x[..., None], (2, 3), (), (0,))
    yield case("squeeze", tj.squeeze, np.squeeze, (2, 1, 3), (1, 1), (2,))
    yield case("squeeze, axis", lambda x: tj.squeeze(x, [1]), lambda x: x.squeeze(1), (1, 1, 3))
    yield case(
        "broadcast_to",
        lambda x: tj.broadcast_to(x, (4, 2, 3)),
        lambda x: np.broadcast_to(x, (4, 2, 3)),
        (2, 3),
        (2, 1),
        (1,),
        (),
    )
    yield case(
        "concat",
        lambda a, b: tj.concat([a, b], 1),
        lambda a, b: np.concatenate([a, b], 1),
        [(2, 3), (2, 2)],
        [(2, 0), (2, 1)],
    )
    yield case(
        "concat, -1",
        lambda a, b, c: tj.concat([a, b, c], -1),
        lambda a, b, c: np.concatenate([a, b, c], -1),
        [(2,), (3,), (1,)],
    )
    yield case(
        "stack", lambda a, b: tj.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), [(2, 3), (2, 3)], [(0,), (0,)]
    )
    yield case("unstack", lambda x: tj.unstack(x, axis=1)[1], lambda x: x[:, 1], (2, 3), (4, 2, 3))
    yield case("split", lambda x: tj.split(x, 2, axis=1)[1], lambda x: np.split(x, 2, 1)[1], (2, 4), (3, 2, 2))
    yield case("split, sizes", lambda x: tj.split(x, [1, -1], axis=0)[1], lambda x: x[1:], (3, 2), (2,))
    yield case("tile", lambda x: tj.tile(x, [2, 3]), lambda x: np.tile(x, (2, 3)), (2, 3), (1, 0))
    yield case("repeat", lambda x: tj.repeat(x, 2, axis=0), lambda x: np.repeat(x, 2, 0), (2, 3), (3,))
    yield case("repeat, each", lambda x: tj.repeat(x, [1, 0, 3], axis=0), lambda x: np.repeat(x, [1, 0, 3], 0), (3, 2))
    yield case("repeat, flat", lambda x: tj.repeat(x, 2), lambda x: np.repeat(x, 2), (2, 3), ())
    pads = [[1, 2], [0, 1]]
    yield case("pad", lambda x: tj.pad(x, pads), lambda x: np.pad(x, pads), (2, 3), (0, 1))
    yield case(
        "pad, value", lambda x: tj.pad(x, pads, constant_values=1), lambda x: np.pad(x, pads, constant_values=1), (2, 3)
    )
    for mode in ("reflect", "symmetric"):
        yield case(
            f"pad, {mode}",
            lambda x, m=mode: tj.pad(x, pads, m.upper()),
            lambda x, m=mode: np.pad(x, pads, m),
            (3, 4),
            (3, 2),
        )
    yield case("slice", lambda x: tj.slice(x, [1, 0], [1, -1]), lambda x: x[1:2], (2, 3), (3, 1))
    yield case(
        "strided_slice", lambda x: tj.strided_slice(x, [0, 2], [2, 0], [1, -1]), lambda x: x[0:2, 2:0:-1], (3, 3)
    )
    yield case("reverse", lambda x: tj.reverse(x, [1]), lambda x: x[:, ::-1], (2, 3), (2, 0))
    yield case("roll", lambda x: tj.roll(x, [1, -2], [0, 1]), lambda x: np.roll(x, (1, -2), (0, 1)), (2, 3), (3, 5))
    yield case("meshgrid", lambda a, b: tj.meshgrid(a, b)[1], lambda a, b: np.meshgrid(a, b)[1], [(2,), (3,)])
    yield case("x[1:, ::-1]", lambda x: x[1:, ::-1], lambda x: x[1:, ::-1], (3, 4), (1, 2))
    yield case("x[..., None, 1]", lambda x: x[..., None, 1], lambda x: x[..., None, 1], (3, 4), (2, 2, 2))
    yield case("x[-1]", lambda x: x[-1], lambda x: x[-1], (3,), (2, 3))
    yield case("matrix_transpose", tj.linalg.matrix_transpose, lambda x: np.swapaxes(x, -1, -2), (2, 3), (4, 2, 3))
    yield case("diag", tj.linalg.diag, lambda x: np.apply_along_axis(np.diag, -1, x), (3,), (2, 3))
    yield case("diag_part", tj.linalg.diag_part, lambda x: np.diagonal(x, axis1=-2, axis2=-1), (3, 3), (2, 4, 3))
    yield case("band_part", lambda x: tj.linalg.band_part(x, 1, 0), lambda x: np.tril(np.triu(x, -1)), (4, 4), (3, 5))
    yield case("ones_like", tj.ones_like, np.ones_like, (2, 3), (), (0,), differentiable=False)
    yield case("zeros_like", tj.zeros_like, np.zeros_like, (2, 3), (), (0,), differentiable=False)
    yield case("stop_gradient", tj.stop_gradient, lambda x: x, (2, 3), differentiable=False)
    yield case("sort", tj.sort, np.sort, (5,), (3, 4), kinds="iuf")
    yield case("sort down", lambda x: tj.sort(x, 0, "DESCENDING"), lambda x: np.sort(x, 0)[::-1], (5,), (3, 4), kinds="iuf")
    yield case(
        "argsort",
        tj.argsort,
        lambda x: np.argsort(x, kind="stable").astype(np.int32),
        (5,),
        (3, 4),
        kinds="iuf",
        differentiable=False,
    )
    yield case(
        "positions of top_k",
        lambda x: tj.math.top_k(x, 3)[1],
        lambda x: np.argsort(-x.astype(float), kind="stable")[..., :3].astype(np.int32),
        (5,),
        (3, 4),
        kinds="if",
        differentiable=False,
    )
    yield case(
        "top_k",
        lambda x: tj.math.top_k(x, 2)[0],
        lambda x: -np.sort(-x.astype(float))[..., :2],
        (5,),
        (3, 4),
        kinds="if",
    )


INDICES = np.array([[0, 2], [1, -1]])


def _indexing() -> Iterator[Case]:
    every = "biufc"
    yield Case("gather", lambda x: tj.gather(x, INDICES), lambda x: x[INDICES], [[(3,)], [(4, 2)]], every)
    yield Case(
        "gather, axis",
        lambda x: tj.gather(x, INDICES, axis=1),
        lambda x: np.take(x, INDICES, 1),
        [[(2, 3)], [(2, 4, 2)]],
        every,
    )
    yield Case(
        "gather, batch_dims", lambda x: tj.gather(x, INDICES, batch_dims=1),
        lambda x: np.stack([a[i] for a, i in zip(x, INDICES)]), [[(2, 3)], [(2, 3, 2)]], every,
    )  # fmt: skip
    yield Case(
        "gather, axis and batch_dims", lambda x: tj.gather(x, INDICES, axis=2, batch_dims=1),
        lambda x: np.stack([np.take(a, i, 1) for a, i in zip(x, INDICES)]), [[(2, 2, 3)]], every,
    )  # fmt: skip
    at = np.array([[0, 1], [1, 0], [1, 1]])
    yield Case(
        "gather_nd", lambda x: tj.gather_nd(x, at), lambda x: x[at[:, 0], at[:, 1]], [[(2, 2)], [(2, 3, 2)]], every
    )
    yield Case(
        "scatter_nd", lambda u: tj.scatter_nd(at, u, (2, 2)), lambda u: _scattered(u, at, (2, 2)), [[(3,)]], "if"
    )
    yield Case(
        "unsorted_segment_sum",
        lambda x: tj.math.unsorted_segment_sum(x, [2, 0, 2], 4),
        lambda x: np.stack([x[1], 0 * x[0], x[0] + x[2], 0 * x[0]]),
        [[(3,)], [(3, 2)]],
        "if",
    )
    yield Case(
        "tensor_scatter_nd_add", lambda x, u: tj.tensor_scatter_nd_add(x, at, u),
        lambda x, u: x + _scattered(u, at, x.shape), [[(2, 2), (3,)]], "if",
    )  # fmt: skip
    yield Case(
        "tensor_scatter_nd_update",
        lambda x, u: tj.tensor_scatter_nd_update(x, at, u),
        _updated(at),
        [[(2, 2), (3,)]],
        "if",
    )
    yield Case("one index array", lambda x: x[:, [0, 2]], lambda x: x[:, [0, 2]], [[(2, 3)], [(3, 4, 2)]], every)
    yield Case(
        "two index arrays", lambda x: x[[0, 1], [2, -1]], lambda x: x[[0, 1], [2, -1]], [[(2, 3)], [(2, 4, 2)]], every
    )
    yield Case("apart", lambda x: x[[0, 1], :, [1, 0]], lambda x: x[[0, 1], :, [1, 0]], [[(2, 3, 2)]], every)
    yield Case(
        "one_hot", lambda x: x * tj.one_hot([0, 2, -1], 3, dtype=x.dtype), lambda x: x * np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]], x.dtype),
        [[(3, 3)], [()]], "iuf",
    )  # fmt: skip
    yield Case(
        "linspace",
        lambda a, b: tj.linspace(a, b, 5),
        lambda a, b: np.linspace(a, b, 5),
        [[(), ()], [(2,), (2,)]],
        "f",
        factor=3,
    )


def _scattered(u: np.ndarray, at: np.ndarray, shape: Any) -> np.ndarray:
    out = np.zeros(shape, u.dtype)
    np.add.at(out, (at[:, 0], at[:, 1]), u)
    return out


def _updated(at: np.ndarray) -> Any:
    def f(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        y = x.copy()
        y[at[:, 0], at[:, 1]] = u
        return y

    return f


MATMULS = [[(2, 3), (3, 4)], [(3,), (3,)], [(2, 3), (3,)], [(3,), (3, 2)], [(5, 2, 3), (3, 4)], [(5, 1, 2, 3), (4, 3, 2)], [(0, 3), (3, 2)], [(2, 0), (0, 2)], [(33, 40), (40, 21)]]  # fmt: skip
EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij->ji", (2, 3)),
    ("ij->", (2, 3)), ("i,j->ij", (2,), (3,)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)), ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("ij,ij->i", (2, 3), (2, 3)), ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("i,i,i->", (3,), (3,), (3,)), ("...->...", (2, 3)), ("ab...,bc->...ac", (2, 3, 4), (3, 2)), ("iij->j", (2, 2, 3)),
    ("ij,ik->jk", (4, 2), (4, 3)), ("ij,kj->ik", (1, 3), (2, 3)), ("ij,j->i", (2, 3), (3,)), ("i,ij->j", (2,), (2, 3)),
]  # fmt: skip


def _contractions() -> Iterator[Case]:
    yield Case("matmul", tj.matmul, np.matmul, MATMULS, "iufc", factor=50)
    for ta, tb in [(True, False), (False, True), (True, True)]:
        a, b = ((3, 2) if ta else (2, 3)), ((4, 3) if tb else (3, 4))
        yield Case(
            f"matmul, {ta}, {tb}", lambda x, y, ta=ta, tb=tb: tj.matmul(x, y, transpose_a=ta, transpose_b=tb),
            lambda x, y, ta=ta, tb=tb: np.matmul(np.swapaxes(x, -1, -2) if ta else x, np.swapaxes(y, -1, -2) if tb else y),
            [[a, b], [(2, *a), b], [(2, *a), (2, *b)]], "if", factor=50,
        )  # fmt: skip
    yield Case(
        "matvec",
        tj.linalg.matvec,
        lambda a, b: np.einsum("...ij,...j->...i", a, b),
        [[(2, 3), (3,)], [(4, 2, 3), (4, 3)]],
        factor=20,
    )
    yield Case(
        "tensordot",
        lambda a, b: tj.tensordot(a, b, 1),
        lambda a, b: np.tensordot(a, b, 1),
        [[(2, 3), (3, 2)], [(2, 3), (3,)]],
        "if",
        factor=20,
    )
    yield Case(
        "tensordot, axes", lambda a, b: tj.tensordot(a, b, [[0, 1], [1, 0]]), lambda a, b: np.tensordot(a, b, [[0, 1], [1, 0]]),
        [[(2, 3, 2), (3, 2)]], "if", factor=20,
    )  # fmt: skip
    for equation, *shapes in EQUATIONS:
        yield Case(
            f"einsum {equation}", lambda *x, e=equation: tj.einsum(e, *x),
            lambda *x, e=equation: np.einsum(e, *[a.astype(np.float64) if a.dtype.kind in "fV" else a for a in x]),
            [shapes], "if", factor=50,
        )  # fmt: skip
    yield Case("norm", tj.norm, lambda x: np.linalg.norm(x.astype(float).reshape(-1)), [[(2, 3)], [(4,)]], factor=10)
    yield Case(
        "norm, 1",
        lambda x: tj.norm(x, 1, axis=1),
        lambda x: np.linalg.norm(x.astype(float), 1, axis=1),
        [[(2, 3)]],
        factor=10,
    )
    yield Case(
        "norm, inf",
        lambda x: tj.norm(x, np.inf, axis=0, keepdims=True),
        lambda x: np.abs(x).max(0, keepdims=True),
        [[(2, 3)]],
    )
    yield Case(
        "norm, matrices",
        lambda x: tj.norm(x, 1, axis=(-2, -1)),
        lambda x: np.linalg.norm(x.astype(float), 1, axis=(-2, -1)),
        [[(2, 2, 3)]],
        factor=10,
    )
    yield Case(
        "trace", tj.linalg.trace, lambda x: np.trace(x, axis1=-2, axis2=-1), [[(3, 3)], [(2, 3, 4)]], "if", factor=5
    )
    yield Case(
        "l2_normalize",
        lambda x: tj.nn.l2_normalize(x, 1),
        lambda x: x / np.sqrt((x.astype(float) ** 2).sum(1, keepdims=True)),
        [[(2, 3)]],
        factor=10,
    )


def _networks() -> Iterator[Case]:
    logits = [[(2, 3)], [(4,)], [(0, 3)], [(5, 1)], [(2, 3, 4)], [(30, 70)]]
    yield Case("softmax", tj.nn.softmax, lambda x: sp.softmax(x.astype(float), -1), logits, factor=5)
    yield Case(
        "softmax, axis 0", lambda x: tj.nn.softmax(x, 0), lambda x: sp.softmax(x.astype(float), 0), logits[:2], factor=5
    )
    yield Case("log_softmax", tj.nn.log_softmax, lambda x: sp.log_softmax(x.astype(float), -1), logits, factor=5)
    labels = np.array([0, 2])
    yield Case(
        "sparse_softmax_cross_entropy", lambda x: tj.nn.sparse_softmax_cross_entropy_with_logits(labels, x),
        lambda x: -sp.log_softmax(x.astype(float), -1)[np.arange(2), labels], [[(2, 3)]], factor=5,
    )  # fmt: skip
    yield Case(
        "softmax_cross_entropy", tj.nn.softmax_cross_entropy_with_logits,
        lambda p, x: -np.sum(p * sp.log_softmax(x.astype(float), -1), -1), [[(2, 3), (2, 3)]], domains=((0.1, 1.0), (-2.0, 2.0)), factor=10,
    )  # fmt: skip
    yield Case(
        "sigmoid_cross_entropy", tj.nn.sigmoid_cross_entropy_with_logits, lambda z, x: np.logaddexp(0, x) - x * z,
        [[(2, 3), (2, 3)]], domains=((0.1, 1.0), (-2.0, 2.0)), factor=5,
    )  # fmt: skip
    yield Case(
        "weighted_cross_entropy", lambda z, x: tj.nn.weighted_cross_entropy_with_logits(z, x, 2.0),
        lambda z, x: -(2 * z * sp.log_expit(x) + (1 - z) * sp.log_expit(-x)), [[(2, 3), (2, 3)]], domains=((0.1, 1.0), (-2.0, 2.0)), factor=5,
    )  # fmt: skip
    yield Case("l2_loss", tj.nn.l2_loss, lambda x: (x.astype(float) ** 2).sum() / 2, [[(2, 3)]], factor=5)
    yield Case(
        "mean_squared_error",
        tj.nn.mean_squared_error,
        lambda a, b: ((a - b) ** 2).mean(-1),
        [[(2, 3), (2, 3)]],
        factor=20,
    )
    yield Case(
        "mean_absolute_error",
        tj.nn.mean_absolute_error,
        lambda a, b: np.abs(a - b).mean(-1),
        [[(2, 3), (2, 3)]],
        factor=20,
    )
    yield Case(
        "huber", tj.nn.huber, lambda a, b: sp.huber(1.0, a.astype(float) - b).mean(-1), [[(2, 3), (2, 3)]], factor=20
    )
    yield Case("bias_add", tj.nn.bias_add, np.add, [[(2, 3), (3,)]], "if")
    yield Case(
        "bias_add, NCHW",
        lambda x, b: tj.nn.bias_add(x, b, "NCHW"),
        lambda x, b: x + b[:, None, None],
        [[(2, 3, 1, 2), (3,)]],
        "if",
    )
    yield Case("moments", lambda x: tj.nn.moments(x, [0])[1], lambda x: x.astype(float).var(0), [[(4, 3)]], factor=20)
    yield Case(
        "batch_normalization", lambda x, m, v, o, s: tj.nn.batch_normalization(x, m, v, o, s, 1e-3),
        lambda x, m, v, o, s: (x - m) / np.sqrt(v + 1e-3) * s + o, [[(2, 3), (3,), (3,), (3,), (3,)]], domains=(POS,), factor=100,
    )  # fmt: skip
    yield Case(
        "layer_normalization", lambda x, s, o: tj.nn.layer_normalization(x, s, o), _layer_normalization,
        [[(3, 4), (4,), (4,)]], factor=100,
    )  # fmt: skip
    yield Case("embedding_lookup", lambda x: tj.nn.embedding_lookup(x, INDICES), lambda x: x[INDICES], [[(3, 2)]])


def _attended() -> Iterator[Case]:
    yield Case(
        "attention", lambda q, k, v: tj.nn.scaled_dot_product_attention(q, k, v, scale=0.5),
        lambda q, k, v: _attention(q, k, v, 0.5),
        [[(2, 3, 4), (2, 5, 4), (2, 5, 3)], [(3, 4), (2, 5, 4), (5, 1)], [(0, 4), (5, 4), (5, 2)]], factor=8,
    )  # fmt: skip


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    s = wide(q) @ np.swapaxes(wide(k), -1, -2) * scale
    w = np.exp(s - s.max(-1, keepdims=True, initial=-np.inf))
    return w @ wide(v) / w.sum(-1, keepdims=True)


def _windows() -> Iterator[Case]:
    yield Case(
        "conv1d", lambda x, w: tj.nn.conv1d(x, w, 1, "SAME"), lambda x, w: windows.convolution(x, w, [1], "SAME", [1]),
        [[(2, 4, 1), (3, 1, 2)], [(0, 4, 1), (3, 1, 2)]], "if", factor=50,
    )  # fmt: skip
    yield Case(
        "conv2d", lambda x, w: tj.nn.conv2d(x, w, 2, "VALID"),
        lambda x, w: windows.convolution(x, w, (2, 2), "VALID", (1, 1)),
        [[(1, 4, 5, 2), (2, 3, 2, 2)], [(2, 4, 5, 9), (3, 1, 9, 4)], [(1, 4, 4, 4), (2, 2, 2, 6)]], factor=50,
    )  # fmt: skip
    yield Case(
        "conv2d_transpose", lambda x, w: tj.nn.conv2d_transpose(x, w, (1, 4, 5, 2), (2, 1), "SAME"),
        lambda x, w: windows.transposed(x, w, (4, 5), (2, 1), "SAME", (1, 1)), [[(1, 2, 5, 3), (3, 2, 2, 3)]], factor=50,
    )  # fmt: skip
    yield Case(
        "depthwise_conv2d", lambda x, w: tj.nn.depthwise_conv2d(x, w, 1, "SAME"),
        lambda x, w: windows.convolution(x, w.reshape(2, 2, 1, 6), (1, 1), "SAME", (1, 1)),
        [[(1, 3, 4, 3), (2, 2, 3, 2)]], "if", factor=50,
    )  # fmt: skip
    images = [[(2, 4, 4, 2)], [(1, 5, 6, 1)], [(0, 4, 4, 2)]]
    for size, stride, padding in ((2, 2, "VALID"), (3, 2, "SAME")):
        yield Case(
            f"max_pool, {padding}", lambda x, k=size, s=stride, p=padding: tj.nn.max_pool(x, k, s, p),
            lambda x, k=size, s=stride, p=padding: windows.pooled(x, (k, k), (s, s), p, (1, 1), False), images, "if",
        )  # fmt: skip
        yield Case(
            f"avg_pool, {padding}", lambda x, k=size, s=stride, p=padding: tj.nn.avg_pool(x, k, s, p),
            lambda x, k=size, s=stride, p=padding: windows.pooled(x, (k, k), (s, s), p, (1, 1), True), images, factor=5,
        )  # fmt: skip


def _layer_normalization(x: np.ndarray, s: np.ndarray, o: np.ndarray) -> np.ndarray:
    w = x.astype(float)
    return (w - w.mean(-1, keepdims=True)) / np.sqrt(w.var(-1, keepdims=True) + 1e-3) * s + o


CASES: list[Case] = [
    *_unary(), *_binary(), *_reductions(), *_shapes(), *_indexing(), *_contractions(), *_networks(), *_attended(), *_windows(),
    *cases_special.cases(), *cases_arrays.cases(), *cases_linalg.cases(), *cases_signal.cases(),
    *cases_networks.cases(), *cases_rare.cases(),
]  # fmt: skip
