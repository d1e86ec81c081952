"""Single calls of public functions outside any compiled function, on 8 elements or 3 by 3, beside NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, Peer

# The arguments that stand for arrays, which are tensors for the peers
ARRAYS: dict[str, np.ndarray] = {
    "x": np.arange(1, 9, dtype=np.float32), "y": np.arange(8, 0, -1, dtype=np.float32),
    "M": np.arange(1, 10, dtype=np.float32).reshape(3, 3), "i": np.array([0, 2, 1]), "mask": np.arange(8) > 3,
    "z": np.arange(8) + np.array([1j], np.complex64), "v": np.ones(3, np.float32), "at": np.array([[0], [2], [1]]),
    "s": np.array([0, 0, 1, 1, 1, 2, 2, 2]), "z0": np.full(8, 9.0, np.float32),
    "R": np.array([[4, 1, 2], [0, 3, 1], [0, 0, 2]], np.float32),
}  # fmt: skip


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - np.max(x, -1, keepdims=True))
    return e / np.sum(e, -1, keepdims=True)


def _cross_entropy(labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    z = x - np.max(x, -1, keepdims=True)
    return np.log(np.sum(np.exp(z), -1)) - z[np.arange(len(labels)), labels]


def _log_sum(x: np.ndarray) -> np.ndarray:
    m = np.max(x, -1, keepdims=True)
    return np.log(np.sum(np.exp(x - m), -1)) + m[..., 0]


# NumPy's function and the peers', each with its arguments
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple, str, tuple]] = {
    "gather": (np.take, ("M", "i", 0), "gather", ("M", "i")),
    "one_hot": (lambda i, n: np.eye(n, dtype=np.float32)[i], ("i", 3), "one_hot", ("i", 3)),
    "argmax": (np.argmax, ("M", 1), "argmax", ("M", 1)),
    "sort": (np.sort, ("y",), "sort", ("y",)),
    "argsort": (np.argsort, ("y",), "argsort", ("y",)),
    "softmax": (_softmax, ("M",), "nn.softmax", ("M",)),
    "labels": (_cross_entropy, ("i", "M"), "nn.sparse_softmax_cross_entropy_with_logits", ("i", "M")),
    "linspace": (partial(np.linspace, dtype=np.float32), (0.0, 1.0, 8), "linspace", (0.0, 1.0, 8)),
    "range": (partial(np.arange, dtype=np.int32), (8,), "range", (8,)),
    "unstack": (list, ("M",), "unstack", ("M",)),
    "split": (np.split, ("x", 4), "split", ("x", 4)),
    "tile": (np.tile, ("M", (2, 1)), "tile", ("M", (2, 1))),
    "repeat": (np.repeat, ("x", 2), "repeat", ("x", 2)),
    "roll": (np.roll, ("x", 2, 0), "roll", ("x", 2, 0)),
    "reverse": (np.flip, ("M", 0), "reverse", ("M", (0,))),
    "pad": (np.pad, ("M", ((1, 1), (1, 1))), "pad", ("M", ((1, 1), (1, 1)))),
    "cumsum": (np.cumsum, ("x",), "cumsum", ("x",)),
    "einsum": (np.einsum, ("ij,jk->ik", "M", "M"), "einsum", ("ij,jk->ik", "M", "M")),
    "tensordot": (np.tensordot, ("M", "M", 1), "tensordot", ("M", "M", 1)),
    "clip": (np.clip, ("x", 2.0, 5.0), "clip_by_value", ("x", 2.0, 5.0)),
    "sum": (np.sum, ("M", 1), "reduce_sum", ("M", 1)),
    "logsumexp": (_log_sum, ("M",), "reduce_logsumexp", ("M", -1)),
    "variance": (np.var, ("x",), "math.reduce_variance", ("x",)),
    "norm": (np.linalg.norm, ("x",), "norm", ("x",)),
    "ones": (np.ones, ((3, 3), np.float32), "ones", ((3, 3),)),
    "eye": (partial(np.eye, dtype=np.float32), (3,), "eye", (3,)),
    "boolean_mask": (operator.getitem, ("x", "mask"), "boolean_mask", ("x", "mask")),
    "nonzero": (np.argwhere, ("mask",), "where", ("mask",)),
}


def _sums(x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    out = np.zeros(3, x.dtype)
    np.add.at(out, numbers, x)
    return out


def _with_diagonal(m: np.ndarray, d: np.ndarray) -> np.ndarray:
    m = m.copy()
    np.fill_diagonal(m, d)
    return m


def _updated(x: np.ndarray, at: np.ndarray, v: np.ndarray) -> np.ndarray:
    x = x.copy()
    np.maximum.at(x, at[:, 0], v)
    return x


def _ascending(x: np.ndarray) -> Any:
    return np.all(x[1:] >= x[:-1])


_draws = np.random.default_rng(0)
# What goes by a way of its own: views in native code, traced programs, NumPy forms
FUNCTIONS |= {
    "block": (lambda x: x[1:4], ("x",), "slice", ("x", (1,), (3,))),
    "bits": (lambda x: x.view(np.int32), ("x",), "bitcast", ("x", "int32")),
    "size": (np.size, ("x",), "size", ("x",)),
    "swapped": (lambda m: m.swapaxes(-1, -2), ("M",), "linalg.matrix_transpose", ("M",)),
    "imaginary": (np.imag, ("z",), "math.imag", ("z",)),
    "diagonal": (np.diagonal, ("M",), "linalg.diag_part", ("M",)),
    "diagonal_matrix": (np.diag, ("x",), "linalg.diag", ("x",)),
    "set_diagonal": (_with_diagonal, ("M", "v"), "linalg.set_diag", ("M", "v")),
    "concat": (lambda x, y: np.concatenate([x, y]), ("x", "y"), "concat", (["x", "y"], 0)),
    "choice": (np.where, ("mask", "x", "y"), "where", ("mask", "x", "y")),
    "nonzero_count": (np.count_nonzero, ("x",), "math.count_nonzero", ("x",)),
    "total": (lambda x, y: np.add(x, y), ("x", "y"), "add_n", (["x", "y"],)),
    "searched": (np.searchsorted, ("x", "y"), "searchsorted", ("x", "y")),
    "unraveled": (lambda i, s: np.stack(np.unravel_index(i, s)), ("i", (3, 3)), "unravel_index", ("i", (3, 3))),
    "ascending": (_ascending, ("x",), "math.is_non_decreasing", ("x",)),
    "placed": (_updated, ("x", "at", "v"), "tensor_scatter_nd_max", ("x", "at", "v")),
    "no_nan": (
        lambda x, y: np.divide(x, y, out=np.zeros_like(x), where=y != 0), ("x", "y"),
        "math.divide_no_nan", ("x", "y"),
    ),
    "vector_product": (np.matmul, ("M", "v"), "linalg.matvec", ("M", "v")),
    "transform": (np.fft.fft, ("z",), "signal.fft", ("z",)),
    "segments": (_sums, ("x", "s"), "math.unsorted_segment_sum", ("x", "s", 3)),
    "normal": (partial(_draws.standard_normal, dtype=np.float32), ((8,),), "random.normal", ((8,),)),
    "uniform": (partial(_draws.random, dtype=np.float32), ((8,),), "random.uniform", ((8,),)),
    "zeros": (np.zeros, ((3, 3), np.float32), "zeros", ((3, 3),)),
    "logaddexp": (np.logaddexp, ("x", "y"), "math.logaddexp", ("x", "y")),
    "strided": (lambda x, b, e, s: x[b:e:s], ("x", 1, 7, 2), "strided_slice", ("x", (1,), (7,), (2,))),
    "angle": (np.angle, ("z",), "math.angle", ("z",)),
    "unique": (
        partial(np.unique, return_inverse=True, return_counts=True), ("s",), "unique_with_counts", ("s",),
    ),
}  # fmt: skip


def _repeated(value: float, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, value, np.float32)


# Once they went by way of several NumPy functions
FUNCTIONS |= {
    "sorted_sums": (lambda x, s: np.add.reduceat(x, [0, 2, 5]), ("x", "s"), "math.segment_sum", ("x", "s")),
    "sorted_maxima": (lambda x, s: np.maximum.reduceat(x, [0, 2, 5]), ("x", "s"), "math.segment_max", ("x", "s")),
    "least_squares": (lambda r, m: np.linalg.lstsq(r, m)[0], ("R", "M"), "linalg.lstsq", ("R", "M")),
    "triangular": (np.linalg.solve, ("R", "M"), "linalg.triangular_solve", ("R", "M", False)),
    "clip_between": (np.clip, ("x", "y", "z0"), "clip_by_value", ("x", "y", "z0")),
    "saturated": (lambda x: np.clip(x, 0, 255).astype(np.uint8), ("x",), "saturate_cast", ("x", "uint8")),
    "complex": (lambda x, y: x + np.complex64(1j) * y, ("x", "y"), "complex", ("x", "y")),
    "conjugate": (np.conj, ("x",), "math.conj", ("x",)),
    "xlogy": (lambda x, y: x * np.log(y), ("x", "y"), "math.xlogy", ("x", "y")),
    "next_float": (np.nextafter, ("x", "y"), "math.nextafter", ("x", "y")),
    "inner": (np.dot, ("x", "y"), "tensordot", ("x", "y", 1)),
    "cumsum_back": (lambda x: np.cumsum(x[::-1])[::-1], ("x",), "cumsum", ("x", 0, False, True)),
    "repeated": (_repeated, (1.5, None, (3, 3)), "constant", (1.5, None, (3, 3))),
    "range_floats": (partial(np.arange, dtype=np.float32), (0.0, 8.0, 1.0), "range", (0.0, 8.0, 1.0)),
    "ones_like": (np.ones_like, ("x",), "ones_like", ("x",)),
}  # fmt: skip


def _call(f: Callable[..., Any], args: tuple, array: Callable[[np.ndarray], Any]) -> Call:
    def given(x: Any) -> Any:
        if isinstance(x, list):
            return [given(y) for y in x]
        return array(ARRAYS[x]) if isinstance(x, str) and x in ARRAYS else x

    return partial(f, *map(given, args))


def function(name: str) -> Workload:
    f, given, path, args = FUNCTIONS[name]

    def make(peer: Peer) -> Call | None:
        if peer.name == "numpy":
            return _call(f, given, lambda a: a)
        try:
            theirs = operator.attrgetter(path)(peer.tf)
        except AttributeError:  # NumPy has it, and TensorFlow has not
            return None
        return _call(theirs, args, peer.array)

    title = f"{path.rpartition('.')[2]} eagerly, a few elements"
    tolerance = None if path.startswith("random.") else 1e-3
    return Workload(f"eager_{name}", title, Bar("≤ 2x numpy", 2.0, "numpy"), make, tolerance, headline=False)


MAKERS: dict[str, Callable[[], Workload]] = {f"eager_{name}": partial(function, name) for name in FUNCTIONS}
