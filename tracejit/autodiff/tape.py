"""GradientTape: it listens at the door and differentiates what it heard."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracejit.autodiff.reverse import Record, backprop, zeros_like
from tracejit.autodiff.why import Notes, Trail, named, unwatched
from tracejit.context import context, listen, unlisten
from tracejit.errors import ArgumentError, ConversionError, GradientError, locate
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.operand import asks_which
from tracejit.tensor import Operand, Tensor, Variable, convert
from tracejit.tree import Structure, flatten, unflatten


class UnconnectedGradients(enum.Enum):
    """What `gradient` gives for a source that the target does not depend on."""

    NONE = "none"
    ZERO = "zero"
    RAISE = "raise"


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
        self._outside = False  # whether it listens to what is evaluated, not to a trace
        self._used = False
        self._used_in: Any = None  # the part of a trace, if it was one, which may be traced once more, or not run
        self._notes = Notes()
        self._missed: _Missed | None = None  # what is left of the record if a gradient was None

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise locate(GradientError("the tape is already recording"))
        self._recording, self._outside = True, context.trace is None
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
            asks_which(x)
            self._watched[id(x)] = x
            if isinstance(x, Variable):
                self._variables[id(x)] = x

    def record(self, op: Op, keys: tuple, values: tuple, attrs: dict[str, Any], outs: tuple) -> None:
        watched, notes = self._watched, self._notes
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
                else:
                    notes.add(op, keys, watched, (y,))
        elif hit or notes.found:
            notes.add(op, keys, watched, outs)

    def leave(self, x: Operand, what: str) -> None:
        """A tensor's value is read by Python or NumPy."""
        if id(x) in self._watched:
            self._notes.leave(x, what)

    def knows(self, x: Operand) -> bool:
        return id(x) in self._watched

    def watched_variables(self) -> tuple[Variable, ...]:
        """The Variables watched so far, in the order in which they were first read."""
        return tuple(self._variables.values())

    def reset(self) -> None:
        """Forget everything recorded and watched."""
        self._records, self._watched, self._variables, self._alias, self._used = [], {}, {}, {}, False
        self._notes, self._missed, self._used_in = Notes(), None, None

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

    def continued(self) -> GradientTape:
        """A persistent tape that has heard what this one has, and goes on listening."""
        made = GradientTape(persistent=True, watch_accessed_variables=False)
        made._records, made._watched, made._alias = list(self._records), dict(self._watched), dict(self._alias)
        return made

    # --- differentiating ----------------------------------------------------------------------------------------
    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = "none",
    ) -> Any:
        """The gradient of the sum of `target`'s elements with respect to each of `sources`.

        Parameters
        ----------
        target : tensor or nest of tensors
        sources : tensor, Variable or nest of them; the result has this structure
        output_gradients : cotangents of the targets; ones by default
        unconnected_gradients : for a source that target does not depend on "none" gives None, "zero" gives zeros, and
            "raise" raises `GradientError`, which tells why

        The gradient of a Variable that `tj.gather` reads rows of, and nothing else, is `IndexedSlices` unless another
        tape listens. Raises `GradientError` when a tape that is not persistent is used twice.
        """
        return self._gradient(target, sources, output_gradients, unconnected_gradients)

    def _gradient(
        self, target: Any, sources: Any, output_gradients: Any, unconnected_gradients: Any, dense: bool = False
    ) -> Any:
        mode = as_mode(unconnected_gradients)
        self._unused()
        targets = [convert(t) if not isinstance(t, Operand) else t for t in flatten(target)[0]]
        self._must_hear(targets)
        flat, structure = _sources(sources)
        seeds = self._seeds(targets, output_gradients)
        paused = self._recording and not self.persistent
        if paused:
            unlisten(self)
            self._recording = False
        live = [(t, s) for t, s in zip(targets, seeds, strict=True) if t.dtype.kind in "fc"]
        tables = () if dense or context.tapes else {id(s) for s in flat if isinstance(s, Variable)}
        dead: set[tuple[int, int]] = set()
        ys = [t for t, _ in live]
        out = backprop(list(self._records), ys, [s for _, s in live], flat, tables, dead)
        out = [x if id(s) in self._watched else None for x, s in zip(out, flat, strict=True)]
        missing = [s for x, s in zip(out, flat, strict=True) if x is None] if mode != "zero" else []
        if missing and mode == "raise":
            text = self._missed_by(targets, missing, dead).reason(targets[0], missing[0])
            raise locate(GradientError(f"there is no gradient: {text}"))
        if not self.persistent:
            self._missed = self._missed_by(targets, missing, dead) if missing else None
            if getattr(context.trace, "parent", None) is not None:
                self._used_in = context.trace
            else:
                self._used = True
                self._records, self._watched, self._alias, self._notes = [], {}, {}, Notes()
        grads = [zeros_like(s) if x is None and mode == "zero" else x for x, s in zip(out, flat, strict=True)]
        return unflatten(structure, grads)

    def _unused(self) -> None:
        trace: Any = context.trace
        while trace is not None and trace is not self._used_in:
            trace = trace.parent
        if self._used or trace is not None:
            raise locate(
                GradientError(
                    "a GradientTape that is not persistent gives one gradient only",
                    remedy="ask for all sources at once, or GradientTape(persistent=True)",
                )
            )

    def _must_hear(self, targets: list[Any]) -> None:
        """Refuse what a traced function has made while the tape listened outside of it only."""
        if self._outside and context.trace is not None:
            if any(type(t._a) is Value and id(t) not in self._watched for t in targets):
                text = "the tape was entered outside the traced function that asks it for a gradient"
                raise locate(ConversionError(text, remedy="enter the tape inside the function"))

    if TYPE_CHECKING:  # `autodiff.jacobians` installs them

        def jacobian(self, target: Any, sources: Any, unconnected_gradients: Any = "none", *more: Any) -> Any: ...
        def batch_jacobian(self, target: Any, source: Any, unconnected_gradients: Any = "none", *more: Any) -> Any: ...

    # --- explaining ---------------------------------------------------------------------------------------------
    def why(self, target: Any, source: Any) -> str:
        """Why there is a gradient of `target` with respect to `source`, or none: the operation that cuts the path.

        It tells that a source is not watched, that a value was taken by `.numpy()`, that a dtype on the way has no
        derivative, that `stop_gradient` or an operation without gradient stands between, with the user's line. It can
        be asked before `gradient` and, for sources whose gradient was None, after it.
        """
        if self._missed is not None and (text := self._missed.reason(target, source)):
            return text
        if self._used:
            raise locate(
                GradientError(
                    "the tape has given its gradient and forgotten what it heard; what it found then was not None",
                    remedy="GradientTape(persistent=True), or ask before tape.gradient",
                )
            )
        for z in (target, source):
            if not isinstance(z, Operand):
                raise locate(ArgumentError(f"tape.why takes tensors and Variables, not {type(z).__name__}"))
        dead: set[tuple[int, int]] = set()
        before, context.tapes = context.tapes, ()
        try:
            found = None
            if target.dtype.kind in "fc" and id(source) in self._watched:
                found = backprop(list(self._records), [target], self._seeds([target], None), [source], (), dead)[0]
        finally:
            context.tapes = before
        if found is not None:
            return Trail(self._records, self._notes, dead).connection(id(target), id(source))
        return self._missed_by([target], [source], dead).reason(target, source)

    def _missed_by(self, targets: list[Operand], sources: list[Operand], dead: set[tuple[int, int]]) -> _Missed:
        unknown = {id(s) for s in sources if id(s) not in self._watched}
        return _Missed(targets, sources, Trail(self._records, self._notes, dead), unknown, self.auto)

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


class _Missed:
    """Gradients that are None, and what is needed to say why: no tensors."""

    __slots__ = ("targets", "sources", "trail", "unknown", "automatic")

    def __init__(
        self, targets: list[Operand], sources: list[Operand], trail: Trail, unknown: set[int], automatic: bool
    ) -> None:
        self.targets, self.sources = ({id(t): weakref.ref(t) for t in ts} for ts in (targets, sources))
        self.trail, self.unknown, self.automatic = trail, unknown, automatic

    def reason(self, y: Any, x: Any) -> str:
        """Why there is no gradient; "" if it was not asked for, or is there."""
        for z, known in ((y, self.targets), (x, self.sources)):
            if id(z) not in known or known[id(z)]() is not z:
                return ""
        if x.dtype.kind not in "fc":
            return f"the source is {x.type}, and only floating dtypes have derivatives"
        if id(x) in self.unknown:
            return unwatched(x, self.automatic)
        return self.trail.reason(id(y), id(x), named(y), named(x))


def as_mode(unconnected_gradients: Any) -> str:
    """"none", "zero" or "raise"."""
    mode = getattr(unconnected_gradients, "value", unconnected_gradients)
    if mode not in ("none", "zero", "raise"):
        message = f"unconnected_gradients is 'none', 'zero' or 'raise', not {unconnected_gradients!r}"
        raise locate(ArgumentError(message))
    return str(mode)


def _sources(sources: Any) -> tuple[list[Operand], Structure]:
    flat, structure = flatten(sources)
    for s in flat:
        if not isinstance(s, Operand):
            raise locate(ArgumentError(f"sources must be tensors or Variables, not {type(s).__name__}"))
    return flat, structure
