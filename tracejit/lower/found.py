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


def words_of(frame: int) -> Words:
    return ctypes.cast(frame, ctypes.POINTER(ctypes.c_int64))


def hold(words: Words, held: Held, x: object) -> None:
    """Keep an object until the call ends, or until another takes its place."""
    old, words[held.slot] = words[held.slot], id(x)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))
    if old:
        ctypes.pythonapi.Py_DecRef(ctypes.cast(old, ctypes.py_object))


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
        sizes, dynamic = b.sizes, b.dynamic
        node, ready = self.node, self.ready

        def run(frame: int) -> None:
            words = words_of(frame)
            now = {**sizes, **{s: words[slot] for s, slot in dynamic.items()}}
            arrays = [array_at(words[s], d, tuple([size_at(n, now) for n in shape])) for s, d, shape in ins]
            made = ready()(arrays)
            for (s, d, shape, held), x in zip(outs, made, strict=True):
                if held is None:
                    array_at(words[s], d, tuple([size_at(n, now) for n in shape]))[...] = x
                    continue
                a = np.ascontiguousarray(x, d)
                hold(words, held, a)
                words[s] = a.ctypes.data
                for n, k in zip(shape, a.shape, strict=True):
                    if isinstance(n, Dim) and str(n) in dynamic:
                        words[dynamic[str(n)]] = now[str(n)] = k

        def located_run(frame: int) -> None:
            try:
                run(frame)
            except TracejitError as e:
                e.where = e.where or ([node.loc] if node.loc is not None else [])
                raise
            except (TypeError, ValueError, IndexError) as e:
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
