"""What a program says where there is no memory for its values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from tracejit.errors import OutOfMemoryError
from tracejit.ir.graph import Graph, Value
from tracejit.ir.sizes import size_at
from tracejit.ir.types import TensorType

LARGEST = 1 << 62  # bytes; sizes and places are 64-bit numbers


def largest(values: Iterable[Value], sizes: Mapping[str, int]) -> tuple[int, Value, tuple[int, ...]] | None:
    """The value that needs most memory: its bytes, the value and its shape."""
    found = None
    for v in values:
        try:
            shape = tuple([size_at(d, sizes) for d in v.shape])
        except KeyError:  # a size that the program finds out
            continue
        n = math.prod(shape) * v.dtype.size
        if found is None or n > found[0]:
            found = n, v, shape
    return found


def exhausted(graph: Graph, sizes: Mapping[str, int]) -> OutOfMemoryError:
    """The error where there is no memory: it names what needs most."""
    found = largest([v for n in graph.nodes for v in n.outs], sizes)
    if found is None:
        return OutOfMemoryError("there is no memory left")
    n, v, shape = found
    assert v.node is not None
    error = OutOfMemoryError(f"no memory for {TensorType(v.dtype, shape)}, {n:,} bytes, of {v.node.op.name}")
    error.where = [v.node.loc] if v.node.loc is not None else []
    return error
