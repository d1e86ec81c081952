"""Steps whose results have sizes that the program finds out: arrays are made by Python and held until the call ends."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.errors import TracejitError, without_frames
from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.sizes import size_at
from tracejit.lower.binding import Binding, Held
from tracejit.lower.hostunit import array_at, located
from tracejit.lower.units import BasesUnit
from tracejit.passes.layout import Layouts
from tracejit.runtime.records import Host, StepRecord

Words = Any  # the slots of a frame
# concrete.py, which makes graphs ready to run, enters here what runs one: a function of its arrays
RUNNERS: list[Callable[[Graph, str], Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]]] = []


_Frame = ctypes.c_int64 * (1 << 40)  # as long as any: only its words are read
_let_go = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))


def words_of(frame: int) -> Words:
    return _Frame.from_address(frame)


def hold(words: Words, held: Held, x: object) -> None:
    """Keep an object until the call ends, or until another takes its place."""
    old, words[held.slot] = words[held.slot], id(x)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))
    if old:
        _let_go(old)


def _shape(shape: tuple[Any, ...], b: Binding) -> Callable[[Words], tuple[int, ...]]:
    """From the words of a frame to the sizes of a shape."""
    known = tuple([size_at(d, b.sizes) if not (symbols_in(d) - b.sizes.keys()) else d for d in shape])
    if not any(isinstance(d, Dim) for d in known):
        return lambda words: known
    # the slots of now: a loop that comes later may tell the same size in another one
    sizes, dynamic = dict(b.sizes), dict(b.dynamic)

    def now(words: Words) -> tuple[int, ...]:
        at = {**sizes, **{s: words[slot] for s, slot in dynamic.items()}}
        return tuple([size_at(d, at) for d in known])

    return now


class FoundUnit(BasesUnit):
    """An operation that tells a size, or a part of the program that has waited for one."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        self.run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]] | None = None
        super().__init__(index, node, layouts)

    def may_raise(self) -> bool:
        return True

    def ready(self) -> Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]:
        if self.run is None:
            n = self.node
            if n.op.name == "sized":
                self.run = RUNNERS[0](n.attr("body"), n.attr("numerics"))
            else:
                self.run = lambda arrays: [n.op.numpy(*arrays)]
        return self.run

    def steps(self, b: Binding) -> list[StepRecord]:
        ins = [(b.slot(base), v.dtype.np, tuple(v.shape)) for v, base in zip(self.node.inputs, self.bases, strict=True)]
        outs: list[tuple[int, np.dtype, tuple[Any, ...], Held | None]] = []
        for o in self.node.outs:
            held = None
            if found := symbols_in(tuple(o.shape)) - b.sizes.keys():
                held = Held()
                b.held.append(held)
                b.kept[o] = held
                b.moving.add(o)
                for s in found - b.dynamic.keys():
                    b.dynamic[s] = b.new_slot()
            outs.append((b.slot(o), o.dtype.np, tuple(o.shape), held))
        dynamic = b.dynamic
        node, ready = self.node, self.ready
        given = [(s, d, _shape(shape, b)) for s, d, shape in ins]
        told = [
            (s, d, _shape(shape, b), h, [(dynamic[str(n)], k) for k, n in enumerate(shape) if str(n) in dynamic])
            for s, d, shape, h in outs
        ]

        def run(frame: int) -> None:
            words = words_of(frame)
            made = ready()([array_at(words[s], d, shape(words)) for s, d, shape in given])
            for (s, d, shape, held, sizes), x in zip(told, made, strict=True):
                if held is None:
                    array_at(words[s], d, shape(words))[...] = x
                    continue
                a = np.ascontiguousarray(x, d)
                hold(words, held, a)
                words[s] = a.ctypes.data
                for slot, axis in sizes:
                    words[slot] = a.shape[axis]

        def located_run(frame: int) -> None:
            try:
                run(frame)
            except TracejitError as e:
                e.where = e.where or ([node.loc] if node.loc is not None else [])
                raise
            except (TypeError, ValueError, IndexError, MemoryError) as e:
                raise located(node, [], e) from None

        return [Host(without_frames(located_run))]

    def describe(self) -> str:
        if self.node.op.name != "sized":
            return f"host {self.node.op.name}"
        body: Graph = self.node.attr("body")
        return f"part with sizes found in the call: {', '.join(n.op.name for n in body.nodes)}"


def handed_over(b: Binding, results: Sequence[Value]) -> list[StepRecord]:
    """A last step that gives the caller arrays of found sizes: their addresses as objects, each with a reference."""
    items = [(b.slot(("handle", r)), b.slot(r), b.kept[r], r.dtype.np, tuple(r.shape)) for r in results]
    sizes, dynamic = b.sizes, b.dynamic

    def give(frame: int) -> None:
        words = words_of(frame)
        now = {**sizes, **{s: words[slot] for s, slot in dynamic.items()}}
        for handle, slot, held, d, shape in items:
            a = array_at(words[slot], d, tuple([size_at(n, now) for n in shape]))
            whole = ctypes.cast(words[held.slot], ctypes.py_object).value if words[held.slot] else None
            if whole is None or not 0 < whole.nbytes * 3 <= a.nbytes * 4:
                a = np.array(a)  # a buffer that has grown is larger than what it holds
            else:
                a = np.ndarray(a.shape, d, whole)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(a))
            ctypes.c_int64.from_address(words[handle]).value = id(a)

    return [Host(give)]


def received(handle: int) -> np.ndarray:
    """The array behind a handle, whose reference becomes the caller's."""
    a: np.ndarray = ctypes.cast(handle, ctypes.py_object).value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(a))
    return a
