"""What users ask of a traced function without calling it: its traces, their graphs, and what became of them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import tree
from tracejit.arguments import Arguments, TensorSpec
from tracejit.errors import ArgumentError, locate, without_frames
from tracejit.explain import explain, stats
from tracejit.ir.graph import Graph
from tracejit.ir.hooks import hooks
from tracejit.passes.pipeline import stages
from tracejit.tensor import wrap
from tracejit.tracer import Concrete


class Passes(dict[str, Graph]):
    """Graphs by the names of the passes that made them, in their order."""

    def __str__(self) -> str:
        out: list[str] = []
        before = ""
        for name, graph in self.items():
            after = str(graph)
            if after != before:
                out += [f"{name}:" if not out else f"after {name}:", after, ""]
            before = after
        still = f"no change by: {', '.join(self.without_effect())}" if self.without_effect() else ""
        return "\n".join([*out, still]).rstrip()

    def without_effect(self) -> list[str]:
        """The passes that have left the graph as it was."""
        names = list(self)
        return [name for last, name in pairwise(names) if str(self[name]) == str(self[last])]


class Inspectable:
    """The part of a traced function that shows what is made of it; finding and making traces is for the other part."""

    __slots__ = ()
    traces: dict[tuple, list[Concrete]]
    _arguments: Arguments
    _tracing_count: int

    if TYPE_CHECKING:

        def _find(
            self, leaves: list, structure: Any, specs: dict[int, TensorSpec] | None = None
        ) -> tuple[Concrete, list[Any], dict[str, int]]: ...

    _owner: tuple[Any, ...] = ()  # the object of a method, with which the arguments begin

    @without_frames
    def get_concrete_function(self, /, *args: Any, **kwargs: Any) -> Concrete:
        """The trace for arguments like these; a `TensorSpec` stands for a tensor of that shape and dtype.

        Calls of it may leave out Python values that are given here. Without arguments, the trace for the
        `input_signature`.
        """
        specs: dict[int, TensorSpec] = {}

        def example(x: Any) -> Any:
            if not isinstance(x, TensorSpec):
                return x
            if x.shape is None:
                raise locate(ArgumentError(f"a concrete function is of one rank, and {x} leaves it open"))
            t = wrap(np.zeros([2 if d is None or isinstance(d, str) else d for d in x.shape], x.dtype.np))
            specs[id(t)] = x
            return t

        if not args and not kwargs:
            args = self._arguments.signature_or_none()
        args, kwargs = tree.map_structure(example, (args, kwargs))
        leaves, structure = self._arguments.flatten((*self._owner, *args), kwargs)
        hooks.examples = bool(specs)
        try:
            found = self._find(leaves, structure, specs)[0]
        finally:
            hooks.examples = False
        numbers = {i: x for i, (x, k) in enumerate(zip(leaves, found.kinds)) if k.kind == "scalar"}
        return found.asked_with(self._owner, numbers)

    @without_frames
    def graph(self, /, *args: Any, stage: str = "traced", **kwargs: Any) -> Graph:
        """The graph for arguments like these: `stage` is "traced", "optimized", "prepared" (as fusion takes it), or the
        name of a pass, after which the graph was so."""
        known = ("traced", "optimized", "prepared")
        if stage not in known:
            names = [name for name, _ in stages(Graph("f", (), (), ()))]
            if stage not in names:
                either = f"one of {', '.join(map(repr, known))} and the passes {', '.join(map(repr, names))}"
                raise locate(ArgumentError(f"stage is {either}, not {stage!r}"))
        c = self.get_concrete_function(*args, **kwargs)
        if stage == "traced":
            return c.parts.graph
        if stage in known:
            return c.executable.optimized if stage == "optimized" else c.executable.prepared
        return next(g for name, g in stages(c.parts.graph, c.executable.numerics) if name == stage)

    @without_frames
    def passes(self, /, *args: Any, **kwargs: Any) -> Passes:
        """The graph for arguments like these as it was traced and after each pass, by the names of the passes.

        Printed, it shows each graph that a pass has changed.
        """
        c = self.get_concrete_function(*args, **kwargs)
        return Passes({"traced": c.parts.graph, **dict(stages(c.parts.graph, c.executable.numerics))})

    @without_frames
    def explain(self, /, *args: Any, **kwargs: Any) -> str:
        """What became of the function for arguments like these: graph, dtypes that are promoted in branches, rewrites,
        kernels, plan."""
        return explain(self.get_concrete_function(*args, **kwargs))

    @without_frames
    def source(self, /, *args: Any, **kwargs: Any) -> str:
        """The program for arguments like these as a Python module: kernels for Numba, and `main`, which calls them."""
        from tracejit.backends import numba_source

        return numba_source.source(self.get_concrete_function(*args, **kwargs)).text

    def experimental_get_tracing_count(self) -> int:
        """How often the Python function was traced."""
        return self._tracing_count

    @property
    def concrete_functions(self) -> list[Concrete]:
        return [c for cs in self.traces.values() for c in cs]

    def pretty_printed_concrete_signatures(self, verbose: bool = True) -> str:
        """What each trace takes and gives."""
        return "\n\n".join([c.pretty_printed_signature(verbose) for c in self.concrete_functions])

    def stats(self) -> dict[str, Any]:
        """Numbers about the latest trace: milliseconds of tracing and compiling, nodes, kernels unfused and fused.

        `kernels_unfused` counts the operations left that compute something (no constants, changes of shape or checks),
        `kernels` the steps of the program that do; `explain` tells them apart.
        """
        cs = self.concrete_functions
        return stats(cs[-1], self._tracing_count) if cs else {"traces": 0}


class OfObject(Inspectable):
    """The traced method of an object, which it holds."""

    def __init__(self, method: Inspectable, instance: Any) -> None:
        self._owner = (instance,)
        self.traces, self._arguments, self._tracing_count = method.traces, method._arguments, method._tracing_count
        self._find = method._find  # type: ignore[method-assign]
