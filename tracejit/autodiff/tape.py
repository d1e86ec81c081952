"""GradientTape: it listens at the door and differentiates what it heard."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autodiff.reverse import Record, backprop, zeros_like
from tracejit.context import context, listen, unlisten
from tracejit.errors import ArgumentError, GradientError, locate
from tracejit.ir.op import OPS, Op
from tracejit.tensor import Operand, Tensor, Variable, convert
from tracejit.tree import flatten, unflatten


class UnconnectedGradients(enum.Enum):
    """What `gradient` gives for a source that the target does not depend on."""

    NONE = "none"
    ZERO = "zero"


class GradientTape:
    """Records operations so that they can be differentiated.

    Parameters
    ----------
    persistent : allow `gradient` more than once; otherwise the record is dropped after the first
    watch_accessed_variables : watch every trainable Variable that is read

    Inside a traced function the tape emits the backward operations into the same graph.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self.persistent, self.auto = persistent, watch_accessed_variables
        self._records: list[Record] = []
        self._watched: dict[int, Operand] = {}
        self._variables: dict[int, Variable] = {}
        self._alias: dict[int, Operand] = {}  # the value read from a Variable → the Variable
        self._recording = False
        self._used = False

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise locate(GradientError("the tape is already recording"))
        self._recording = True
        listen(self)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._recording:
            self._recording = False
            unlisten(self)

    # --- recording ----------------------------------------------------------------------------------------------
    def watch(self, *tensors: Any) -> None:
        """Differentiate with respect to these tensors or Variables (or nests of them).

        Raises `GradientError` for a tensor whose dtype has no derivative.
        """
        for x in flatten(list(tensors))[0]:
            if not isinstance(x, Operand):
                raise locate(ArgumentError(f"tape.watch takes tensors and Variables, not {type(x).__name__}"))
            if x.dtype.kind not in "fc":
                raise locate(GradientError(f"{x.type} has no derivative: only floating dtypes have"))
            self._watched[id(x)] = x
            if isinstance(x, Variable):
                self._variables[id(x)] = x

    def record(self, op: Op, keys: tuple, values: tuple, attrs: dict[str, Any], outs: tuple) -> None:
        watched = self._watched
        hit = False
        if self._alias:
            keys = tuple([self._alias.get(id(k), k) for k in keys])
        for k in keys:
            if id(k) in watched:
                hit = True
            elif self.auto and isinstance(k, Variable) and k.trainable and k.dtype.kind in "fc":
                watched[id(k)] = self._variables[id(k)] = k
                hit = True
        if hit and op.vjp is not None:
            self._records.append(Record(op, keys, values, attrs, outs))
            for k, v in zip(keys, values, strict=True):
                if k is not v:
                    self._alias[id(v)] = k
            for y in outs:
                if y.dtype.kind in "fc":
                    watched[id(y)] = y

    def watched_variables(self) -> tuple[Variable, ...]:
        """The Variables watched so far, in the order in which they were first read."""
        return tuple(self._variables.values())

    def reset(self) -> None:
        """Forget everything recorded and watched."""
        self._records, self._watched, self._variables, self._alias, self._used = [], {}, {}, {}, False

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Operations in this block are not recorded."""
        if not self._recording:
            raise locate(GradientError("stop_recording needs a tape that is recording"))
        unlisten(self)
        self._recording = False
        try:
            yield
        finally:
            self._recording = True
            listen(self)

    # --- differentiating ----------------------------------------------------------------------------------------
    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: str = "none",
    ) -> Any:
        """The gradient of the sum of `target`'s elements with respect to each of `sources`.

        Parameters
        ----------
        target : tensor or nest of tensors
        sources : tensor, Variable or nest of them; the result has this structure
        output_gradients : cotangents of the targets; ones by default
        unconnected_gradients : "none" (None for a source that target does not depend on) or "zero"

        Raises `GradientError` when a tape that is not persistent is used twice.
        """
        mode = getattr(unconnected_gradients, "value", unconnected_gradients)
        if mode not in ("none", "zero"):
            raise locate(ArgumentError(f"unconnected_gradients is 'none' or 'zero', not {unconnected_gradients!r}"))
        if self._used:
            raise locate(
                GradientError(
                    "a GradientTape that is not persistent gives one gradient only",
                    remedy="ask for all sources at once, or GradientTape(persistent=True)",
                )
            )
        targets = [convert(t) if not isinstance(t, Operand) else t for t in flatten(target)[0]]
        flat, structure = flatten(sources)
        for s in flat:
            if not isinstance(s, Operand):
                raise locate(ArgumentError(f"sources must be tensors or Variables, not {type(s).__name__}"))
        seeds = self._seeds(targets, output_gradients)
        paused = self._recording and not self.persistent
        if paused:
            unlisten(self)
            self._recording = False
        live = [(t, s) for t, s in zip(targets, seeds, strict=True) if t.dtype.kind in "fc"]
        records, watched = list(self._records), self._watched
        out = backprop(records, [t for t, _ in live], [s for _, s in live], flat)
        out = [x if id(s) in watched else None for x, s in zip(out, flat, strict=True)]
        if not self.persistent:
            self._used = True
            self._records, self._watched, self._alias = [], {}, {}
        grads = [zeros_like(s) if x is None and mode == "zero" else x for x, s in zip(out, flat, strict=True)]
        return unflatten(structure, grads)

    def _seeds(self, targets: list, output_gradients: Any) -> list[Tensor]:
        if output_gradients is None:
            given: list = [None] * len(targets)
        else:
            given = flatten(output_gradients)[0]
            if len(given) != len(targets):
                raise locate(ArgumentError(f"{len(given)} output_gradients for {len(targets)} targets"))
        seeds = []
        for t, s in zip(targets, given, strict=True):
            if s is None:
                one = OPS["cast"](1.0, dtype=t.dtype)
                seeds.append(OPS["broadcast_to"](one, shape=tuple(t.shape)))
            else:
                seeds.append(OPS["broadcast_to"](convert(s, t.dtype), shape=tuple(t.shape)))
        return seeds

    def jacobian(self, target: Any, sources: Any, unconnected_gradients: str = "none", **ignored: Any) -> Any:
        """d target / d source, of shape target.shape + source.shape, for each source."""
        kept, self.persistent = self.persistent, True
        try:
            shape = tuple(target.shape)
            flat_target = self._recorded_reshape(target)
            n = int(flat_target.shape[0])
            flat, structure = flatten(sources)
            rows = []
            for i in range(n):
                one = convert(np.eye(1, n, i, dtype=target.dtype.np)[0])
                rows.append(self.gradient(flat_target, flat, output_gradients=one, unconnected_gradients="zero"))
            linked = self.gradient(flat_target, flat) if n else [None] * len(flat)
        finally:
            self.persistent = kept
        if not kept:
            self._used = True
        mode = getattr(unconnected_gradients, "value", unconnected_gradients)
        outs: list[Tensor | None] = []
        for k, s in enumerate(flat):
            if linked[k] is None and mode != "zero":
                outs.append(None)
                continue
            full = shape + tuple(s.shape)
            stacked = OPS["concat"](*[OPS["reshape"](r[k], shape=(1, *s.shape)) for r in rows], axis=0)
            outs.append(OPS["reshape"](stacked, shape=full))
        return unflatten(structure, outs)

    def _recorded_reshape(self, t: Tensor) -> Tensor:
        before = context.tapes
        if self not in before:
            listen(self)
        try:
            n = 1
            for d in t.shape:
                n = n * d
            return OPS["reshape"](t, shape=(n,))
        finally:
            if self not in before:
                unlisten(self)
