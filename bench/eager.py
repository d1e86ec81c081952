"""Single operations outside any compiled function, on 8 elements, beside NumPy's own calls."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, Peer

a, b, integers = np.arange(1, 9, dtype=np.float32), np.ones(8, np.float32), np.arange(8)
matrix, point, mask, chosen = np.ones((3, 3), np.float32), np.array(2.5, np.float32), a > 3, np.array([1, 3, 5])
waves = (a + 1j * b).astype(np.complex64)
numbers, column, zeros = [1.0, 2.0, 3.0], (slice(None), 1), np.zeros(8, np.float32)

# What NumPy does, and what is done in TensorFlow's names; `t` makes a tensor of an array. partial costs the least.
Numpy, Named = Callable[[], Call], Callable[[Any, Callable[[Any], Any]], Call]
OPERATIONS: dict[str, tuple[str, Numpy, Named]] = {
    "item": ("a[1]", lambda: partial(operator.getitem, a, 1), lambda m, t: partial(operator.getitem, t(a), 1)),
    "column": (
        "M[:, 1]", lambda: partial(operator.getitem, matrix, column),
        lambda m, t: partial(operator.getitem, t(matrix), column),
    ),
    "slice": (
        "a[1:3]", lambda: partial(operator.getitem, a, slice(1, 3)),
        lambda m, t: partial(operator.getitem, t(a), slice(1, 3)),
    ),
    "mask": (
        "a[mask]", lambda: partial(operator.getitem, a, mask), lambda m, t: partial(operator.getitem, t(a), t(mask)),
    ),
    "picked": (
        "a[indices]", lambda: partial(operator.getitem, a, chosen),
        lambda m, t: partial(operator.getitem, t(a), t(chosen)),
    ),
    "reshape": (
        "reshape", lambda: partial(matrix.reshape, (9,)), lambda m, t: partial(m.reshape, t(matrix), (9,)),
    ),
    "transpose": (
        "transpose", lambda: partial(np.transpose, matrix), lambda m, t: partial(m.transpose, t(matrix)),
    ),
    "expand_dims": (
        "expand_dims", lambda: partial(np.expand_dims, a, 0), lambda m, t: partial(m.expand_dims, t(a), 0),
    ),
    "mixed": (
        "int64 + float32", lambda: partial(operator.add, integers, a),
        lambda m, t: partial(operator.add, t(integers), t(a)),
    ),
    "tensor_array": (
        "tensor + array", lambda: partial(operator.add, a, b), lambda m, t: partial(operator.add, t(a), b),
    ),
    "array_tensor": (
        "array + tensor", lambda: partial(operator.add, a, b), lambda m, t: partial(operator.add, a, t(b)),
    ),
    "compare": (
        "int64 < float32", lambda: partial(operator.lt, integers, a),
        lambda m, t: partial(operator.lt, t(integers), t(a)),
    ),
    "halved": (
        "int64 / 2", lambda: partial(operator.truediv, integers, 2),
        lambda m, t: partial(operator.truediv, t(integers), 2),
    ),
    "cast": (
        "cast to int32", lambda: partial(a.astype, np.int32), lambda m, t: partial(m.cast, t(a), m.int32),
    ),
    "product": (
        "matrix @ vector", lambda: partial(operator.matmul, matrix, b[:3]),
        lambda m, t: partial(operator.matmul, t(matrix), t(b[:3])) if m.__name__ == "tracejit" else _refuse(),
    ),
    "float": ("float(x)", lambda: partial(float, point), lambda m, t: partial(float, t(point))),
    "numpy": ("x.numpy(), a view", lambda: a.view, lambda m, t: t(a).numpy),
    "constant": (
        "constant of a list", lambda: partial(np.array, numbers, np.float32), lambda m, t: partial(m.constant, numbers),
    ),
    "constant_array": ("constant of an array", lambda: partial(np.array, a), lambda m, t: partial(m.constant, a)),
    "iterate": ("list(x)", lambda: partial(list, a), lambda m, t: partial(list, t(a))),
    "variable": (
        "Variable + tensor", lambda: partial(operator.add, a, b),
        lambda m, t: partial(operator.add, m.Variable(a), t(b)),
    ),
    "assign_add": (
        "v.assign_add(x)", lambda: partial(np.add, own := a.copy(), zeros, out=own),
        lambda m, t: partial(m.Variable(a).assign_add, t(zeros)),
    ),
    "complex_number": (
        "complex * 2.0", lambda: partial(operator.mul, waves, 2.0), lambda m, t: partial(operator.mul, t(waves), 2.0),
    ),
    "complex_mixed": (
        "complex64 + float32", lambda: partial(operator.add, waves, a),
        lambda m, t: partial(operator.add, t(waves), t(a)),
    ),
    "root": ("x ** 0.5", lambda: partial(operator.pow, a, 0.5), lambda m, t: partial(operator.pow, t(a), 0.5)),
    "tensor_index": (
        "a[index], an integer without axes", lambda: partial(operator.getitem, a, np.array(3)),
        lambda m, t: partial(operator.getitem, t(a), t(np.array(3))),
    ),
    "numpy_index": (
        "a[np.int64(3)]", lambda: partial(operator.getitem, a, np.int64(3)),
        lambda m, t: partial(operator.getitem, t(a), np.int64(3)),
    ),
    "variable_slice": (
        "v[1:3] of a Variable", lambda: partial(operator.getitem, a, slice(1, 3)),
        lambda m, t: partial(operator.getitem, m.Variable(a), slice(1, 3)),
    ),
    "cast_half": (
        "cast to float16", lambda: partial(a.astype, np.float16), lambda m, t: partial(m.cast, t(a), m.float16),
    ),
    "range": (
        "range(1, 8, 2)", lambda: partial(np.arange, 1, 8, 2, np.int32), lambda m, t: partial(m.range, 1, 8, 2),
    ),
    "slice_assign": (
        "v[1].assign(3.0)", lambda: partial(_set_one, a.copy()),
        lambda m, t: partial(_assign_one, m.Variable(a)),
    ),
}  # fmt: skip


def _set_one(x: np.ndarray) -> np.ndarray:
    x[1] = 3.0
    return x


def _assign_one(v: Any) -> Any:
    return v[1].assign(3.0)


def _refuse() -> Call:
    raise TypeError("no such product")


def operation(name: str) -> Workload:
    title, of_numpy, named = OPERATIONS[name]

    def make(peer: Peer) -> Call | None:
        if peer.name == "numpy":
            return of_numpy()
        return named(peer.tf, peer.array) if hasattr(peer, "tf") else None

    return Workload(
        f"eager_{name}", f"{title} eagerly, 8 elements", Bar("≤ 2x numpy", 2.0, "numpy"), make, headline=False
    )


MAKERS: dict[str, Callable[[], Workload]] = {f"eager_{name}": partial(operation, name) for name in OPERATIONS}
