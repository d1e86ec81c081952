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


def _call(f: Callable[..., Any], args: tuple, array: Callable[[np.ndarray], Any]) -> Call:
    return partial(f, *[array(ARRAYS[x]) if isinstance(x, str) and x in ARRAYS else x for x in args])


def function(name: str) -> Workload:
    f, given, path, args = FUNCTIONS[name]

    def make(peer: Peer) -> Call | None:
        if peer.name == "numpy":
            return _call(f, given, lambda a: a)
        return _call(operator.attrgetter(path)(peer.tf), args, peer.array) if hasattr(peer, "tf") else None

    title = f"{path.rpartition('.')[2]} eagerly, a few elements"
    return Workload(f"eager_{name}", title, Bar("≤ 2x numpy", 2.0, "numpy"), make, headline=False)


MAKERS: dict[str, Callable[[], Workload]] = {f"eager_{name}": partial(function, name) for name in FUNCTIONS}
