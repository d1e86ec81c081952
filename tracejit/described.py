"""What a concrete function takes and gives, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import tree
from tracejit.arguments import TensorSpec
from tracejit.autograph.effects import Effects, Moving
from tracejit.concrete import Parts
from tracejit.fitting import Taken
from tracejit.ir.dim import Dim
from tracejit.ir.types import TensorType
from tracejit.leaves import Kind
from tracejit.operand import TensorShape

_NUMBERS = {"int": int, "float": float}


def _spec(t: TensorType, name: str | None = None) -> TensorSpec:
    return TensorSpec([None if isinstance(d, Dim) else d for d in t.shape], t.dtype, name)


def _each(x: Any, f: Callable[[TensorSpec], Any]) -> Any:
    return tree.map_structure(lambda y: f(y) if isinstance(y, TensorSpec) else y, x)


class Described:
    """The part of a concrete function that says what it takes and gives.

    A `TensorSpec` stands for a tensor, with None for each size that is open. Python values that are part of the trace
    are themselves. For a Python number that is an input stands the one that `get_concrete_function` was given, else its
    type; types stand too for objects that are made anew for each call.
    """

    __slots__ = ()
    function: Any
    kinds: tuple[Kind, ...]
    parts: Parts
    taken: Taken
    given: dict[int, Any]  # the numbers for which it was asked, by the leaves that they are
    effects: Effects | None
    structured_outputs: Any

    @property
    def name(self) -> str:
        return str(self.function.__name__)

    @property
    def structured_input_signature(self) -> tuple[tuple, dict[str, Any]]:
        """The positional arguments and the named ones."""
        rest = iter(self.parts.graph.params)
        leaves: list[Any] = []
        for i, (kind, label) in enumerate(zip(self.kinds, self.taken.labels, strict=True)):
            if kind.kind == "tensor":
                leaves.append(_spec(next(rest).type, label))
            elif kind.kind == "scalar":
                next(rest)
                leaves.append(self.given.get(i, _NUMBERS[kind.detail]))
            else:
                leaves.append(kind.detail.value)
        args, kwargs = tree.unflatten(self.taken.given, leaves)
        return args[self.function._arguments.leading :], kwargs

    output_shapes = property(lambda self: _each(self.structured_outputs, lambda s: TensorShape(s.shape or ())))
    output_dtypes = property(lambda self: _each(self.structured_outputs, lambda s: s.dtype))

    @property
    def inputs(self) -> list[TensorSpec]:
        """The tensors and numbers among the arguments, then the captured inputs."""
        names = [n for n, k in zip(self.taken.labels, self.kinds, strict=True) if k.kind in ("tensor", "scalar")]
        given = [_spec(p.type, n) for p, n in zip(self.parts.graph.params, names)]
        captured = [*self.parts.captures, *self.parts.reads]
        return [*given, *[_spec(p.type, getattr(x, "name", None)) for p, x in captured]]

    @property
    def outputs(self) -> list[TensorSpec]:
        """The tensors in the result, from left to right."""
        effects = self.effects.outputs if self.effects is not None else 0
        return [_spec(r.type) for r in self.parts.graph.results[: self.parts.outputs - effects]]

    @property
    def captured_inputs(self) -> list[Any]:
        """The tensors, arrays and numbers from outside that the function reads, then its Variables."""
        owners = [o.place.get() if isinstance(o, Moving) else o for _, o in self.parts.captures]
        return [*owners, *[v for _, v in self.parts.reads]]

    def pretty_printed_signature(self, verbose: bool = True) -> str:
        """The parameters and the result as text; with `verbose` a line for each, and what is captured."""
        signature = self.function._arguments.signature
        args, kwargs = self.structured_input_signature
        rows: list[tuple[str, str, str]]
        if signature is None:
            rows = [(str(i), "POSITIONAL_ONLY", repr(x)) for i, x in enumerate(args)]
        else:
            own = [None] * self.function._arguments.leading
            bound = signature.bind(*own, *args, **kwargs).arguments
            kinds = [(n, signature.parameters[n].kind) for n in list(bound)[len(own) :]]
            rows = [(n, kind.name, repr(bound[n])) for n, kind in kinds]
        result = repr(self.structured_outputs)
        if not verbose:
            return f"{self.name}({', '.join(f'{n}: {x}' for n, _, x in rows)}) -> {result}"
        lines = ["Input Parameters:", *[f"  {n} ({kind}): {x}" for n, kind, x in rows], "Output Type:", f"  {result}"]
        captured = self.inputs[len(self.inputs) - len(self.captured_inputs) :]
        return "\n".join([*lines, "Captures:" if captured else "", *[f"  {s.name}: {s}" for s in captured]]).rstrip()
