"""Ops without a native form as steps of a program: their NumPy functions run on the frame's buffers."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError, OutOfRangeError, TracejitError, without_frames
from tracejit.ir.graph import Node
from tracejit.ir.types import TensorType, as_dtype
from tracejit.lower.binding import Binding
from tracejit.lower.units import NodeUnit
from tracejit.passes.groups import is_scalar_constant
from tracejit.runtime.records import Host, StepRecord
from tracejit.tracing import at_sizes


class HostUnit(NodeUnit):
    """An op without a native form: its NumPy function runs with the GIL held."""

    def may_raise(self) -> bool:
        return True

    def readers(self, b: Binding) -> list[Callable[[int], np.ndarray]]:
        """For each operand a function from the frame's address to the array."""
        n = self.node
        ins: list[Callable[[int], np.ndarray]] = []
        for v, lay in zip(n.inputs, self.inputs, strict=True):
            assert lay is not None
            shape = tuple(b.size(d) for d in v.shape)
            if lay.base.node is not None and is_scalar_constant(lay.base):
                fixed = np.broadcast_to(np.asarray(lay.base.node.attr("value").splat, v.dtype.np), shape)
                ins.append(functools.partial(_fixed, fixed))
            else:
                strides = tuple(b.size(s) * v.dtype.size for s in lay.strides)
                slot = b.slot_at(lay.base, lay.offset, v.dtype.size)
                ins.append(functools.partial(_seen, slot, v.dtype.np, shape, strides))
        return ins

    def steps(self, b: Binding) -> list[StepRecord]:
        n, ins = self.node, self.readers(b)
        outs = [(b.slot(o), o.dtype.np, tuple(b.size(d) for d in o.shape)) for o in n.outs]
        attrs = at_sizes(n.attrs, b.sizes)  # type: ignore[arg-type]
        op = n.op

        def run(frame: int) -> None:
            arrays = [read(frame) for read in ins]
            try:
                with np.errstate(all="ignore"):
                    r = op.numpy(*arrays, **attrs)
            except Exception as e:
                error = located(n, arrays, e)
                if error is e:
                    raise
                raise error from None
            for (s, d, shape), x in zip(outs, r if type(r) is tuple else (r,), strict=True):
                array_at(_word(frame, s), d, shape)[...] = x

        return [Host(without_frames(run))]

    def describe(self) -> str:
        return f"host {self.node.op.name}"


def located(node: Node, arrays: list[np.ndarray], error: Exception) -> Exception:
    """The error of an op's NumPy function, with the operands and the line that the op came from.

    An error of the user's own function stays what it is.
    """
    if node.op.name == "host_call":
        if isinstance(error, TracejitError) and not error.where and node.loc is not None:
            error.where = [node.loc]
        return error
    shown = ", ".join(str(TensorType(as_dtype(a.dtype), a.shape)) for a in arrays)
    kind = OutOfRangeError if isinstance(error, IndexError) else ArgumentError
    located = kind(f"{node.op.name}({shown}): {error}")
    located.where = [node.loc] if node.loc is not None else []
    return located


def _fixed(a: np.ndarray, frame: int) -> np.ndarray:
    return a


def _seen(slot: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...], frame: int) -> np.ndarray:
    """The operand in a frame's buffer."""
    return np.lib.stride_tricks.as_strided(array_at(_word(frame, slot), dtype, shape, strides), shape, strides)


def _word(frame: int, slot: int) -> int:
    return ctypes.c_int64.from_address(frame + 8 * slot).value


def array_at(
    address: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """The array at an address: as large as its last element needs."""
    if 0 in shape:
        return np.empty(shape, dtype)
    if strides is None:
        count = int(np.prod(shape, dtype=np.int64))
        whole: Any = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
        flat: np.ndarray[Any, Any] = np.frombuffer(whole, dtype)
        return flat.reshape(shape)
    low = sum(min(0, (d - 1) * s) for d, s in zip(shape, strides, strict=True))
    high = sum(max(0, (d - 1) * s) for d, s in zip(shape, strides, strict=True)) + dtype.itemsize
    part: Any = (ctypes.c_char * (high - low)).from_address(address + low)
    return np.ndarray(shape, dtype, part, -low, strides)
