"""Ops without a native form as steps of a program: their NumPy functions run on the frame's buffers."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable

import numpy as np

from tracejit.errors import TracejitError, kernel_error, without_frames
from tracejit.ir.graph import Node
from tracejit.ir.types import TensorType, as_dtype
from tracejit.lower.binding import Binding
from tracejit.lower.units import NodeUnit
from tracejit.passes.groups import is_scalar_constant
from tracejit.quiet import quietly
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
                ins.append(viewer(b.slot_at(lay.base, lay.offset, v.dtype.size), v.dtype.np, shape, strides))
        return ins

    def steps(self, b: Binding) -> list[StepRecord]:
        n, ins = self.node, self.readers(b)
        outs = [viewer(b.slot(o), o.dtype.np, tuple(b.size(d) for d in o.shape)) for o in n.outs]
        attrs = at_sizes(n.attrs, b.sizes)  # type: ignore[arg-type]
        op = n.op

        def run(frame: int) -> None:
            arrays = [read(frame) for read in ins]
            where = [out(frame) for out in outs]
            try:
                if "into" in op.special:
                    quietly(op.numpy, *arrays, **attrs, out=where[0])
                    return
                if op.family == "control":  # functions of the user's have their own context variables
                    with np.errstate(all="ignore"):
                        r = op.numpy(*arrays, **attrs)
                else:
                    r = quietly(op.numpy, *arrays, **attrs)
            except Exception as e:
                error = located(n, arrays, e)
                if error is e:
                    raise
                raise error from None
            for y, x in zip(where, r if type(r) is tuple else (r,), strict=True):
                y[...] = x

        return [Host(without_frames(run))]

    def describe(self) -> str:
        return f"host {self.node.op.name}"


def located(node: Node, arrays: list[np.ndarray], error: Exception) -> Exception:
    """The error of an op's NumPy function, with the operands and the line that the op came from.

    An error of the user's own function stays what it is.
    """
    if node.op.name == "host_call":
        if isinstance(error, TracejitError) and not error.where and node.loc is not None:
            error.where = [node.loc, *node.loc.calls]
        return error
    shown = ", ".join(str(TensorType(as_dtype(a.dtype), a.shape)) for a in arrays)
    located = kernel_error(error)(f"{node.op.name}({shown}): {error}")
    located.where = [node.loc] if node.loc is not None else []
    return located


def _fixed(a: np.ndarray, frame: int) -> np.ndarray:
    return a


def viewer(
    slot: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> Callable[[int], np.ndarray]:
    """From the address of a frame to the array in one of its buffers."""
    if 0 in shape:
        return functools.partial(_fixed, np.empty(shape, dtype))
    low, size = _extent(dtype, shape, strides)
    word, part = ctypes.c_int64.from_address, (ctypes.c_char * size).from_address
    array, at = np.ndarray, 8 * slot

    def view(frame: int) -> np.ndarray:
        return array(shape, dtype, part(word(frame + at).value + low), -low, strides)  # type: ignore[arg-type]

    return view


def _extent(dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None) -> tuple[int, int]:
    """Where the first byte of an array lies, from that of its first element, and how many bytes it reaches over."""
    if strides is None:
        return 0, math.prod(shape) * dtype.itemsize
    low = sum(min(0, (d - 1) * s) for d, s in zip(shape, strides, strict=True))
    high = sum(max(0, (d - 1) * s) for d, s in zip(shape, strides, strict=True)) + dtype.itemsize
    return low, high - low


_WRITEABLE = 0x200  # PyBUF_WRITE
_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_memory.restype, _memory.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)


def array_at(
    address: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """The array at an address: as large as its last element needs."""
    if 0 in shape:
        return np.empty(shape, dtype)
    low, size = _extent(dtype, shape, strides)
    return np.ndarray(shape, dtype, _memory(address + low, size, _WRITEABLE), -low, strides)
