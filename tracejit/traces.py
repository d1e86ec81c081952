"""The traces of one function: found by the kinds of its arguments, made where there is none, forgotten if too many."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

from tracejit import forks, tree
from tracejit.arguments import TensorSpec
from tracejit.autograph import places
from tracejit.autograph.attempts import Items, Memory
from tracejit.autograph.failures import recursion_explained
from tracejit.autograph.varying import VALUES, varying
from tracejit.context import context
from tracejit.errors import RetracingWarning, user_depth
from tracejit.fitting import Taken
from tracejit.inspection import Inspectable
from tracejit.leaves import Kind, kinds_of
from tracejit.symbols import axes_of, from_specs, guesses, known_small, refreshed, why, widened
from tracejit.tracer import Concrete, trace_once
from tracejit.tracing import NeedStatic

TRACES = 64  # traces that a function keeps; those that were used least recently are forgotten
MANY_TRACES = 24  # traces at which a warning says why there are so many


class Numbers:
    """Of the arguments that are numbers and steer Python: those whose conditions the run decides, those where not."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.closed: set[int] = set()
        self.alone: set[tuple[int, Any]] = set()  # values of open ones that have a trace of their own all the same

    def constants(self, leaves: list) -> set[int]:
        """The arguments that are constants for their values in a call."""
        return {i for i, n in self.alone if type(leaves[i]) is type(n) and leaves[i] == n}


def _differ(a: tuple[Kind, ...], b: tuple[Kind, ...]) -> set[int]:
    """The leaves of which two keys of one structure say something else."""
    return {i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y}


class Traces(Inspectable):
    """The part of a traced function that finds and makes its traces."""

    __name__: str
    input_signature: tuple | None
    memories: dict[tuple, Memory]  # what attempts at traces have found out
    _static: dict[Any, set[int]]
    _fixed: dict[Any, set[tuple[int, int]]]
    _lock: Any
    _clock: itertools.count

    def _start_traces(self) -> None:
        self.traces, self.memories, self._static, self._fixed = {}, {}, {}, {}
        self._numbers: dict[Any, Numbers] = {}
        self._lock, self._clock, self._tracing_count = forks.rlock(), itertools.count(), 0

    def _find(
        self, leaves: list, structure: Any, specs: dict[int, TensorSpec] | None = None
    ) -> tuple[Concrete, list[Any], dict[str, int]]:
        """The trace for these leaves, made if need be; `specs` says which of them only stand for such tensors."""

        def told(i: int) -> str:
            return f"{Taken(self.__name__, self._arguments, structure, (), ()).told(i)} of {self.__name__}"

        given_up: Items | None = None  # inputs that stand for tensors in containers
        while True:
            static = self._static.get(structure, ())
            if (numbers := self._numbers.get(structure)) is not None and numbers.alone:
                static = numbers.constants(leaves).union(static)
            kinds, shapes, inputs = kinds_of(leaves, static, told)
            key = (structure, kinds)
            if key not in self.traces and self._opened(structure, kinds, leaves):
                continue
            wanted = [specs.get(id(x)) for x in inputs] if specs else None
            with self._lock:
                for c in self.traces.get(key, ()):
                    if c.unasked and context.tapes:
                        continue
                    sizes = c.sizes(shapes)
                    if sizes is None or (wanted is not None and not c.is_open(wanted)):
                        continue
                    if c.takes(inputs) and c.still_holds():
                        c.used = next(self._clock)
                        return c, inputs, sizes
                try:
                    c = self._trace(key, leaves, structure, kinds, shapes, wanted)
                except NeedStatic as need:
                    params = {i for i in need.params if type(i) is int}  # of places the attempt has taken note
                    self._close(structure, params)
                    self._static.setdefault(structure, set()).update(params)
                    continue
                except Exception:
                    if self._as_constants(key, leaves):
                        continue  # as constants they may do
                    memory = self.memories[key]
                    if given_up is None and (given_up := memory.without_items()) is not None:
                        continue
                    memory.with_items(given_up)  # they were not the reason
                    raise
                self._keep(key, c)
                sizes = c.sizes(shapes)
                assert sizes is not None
                return c, inputs, sizes

    def open_numbers(self, structure: Any) -> set[int]:
        """Arguments that are numbers of which conditions are left to the run of the program."""
        numbers = self._numbers.get(structure)
        return set(numbers.open) if numbers is not None else set()

    def _opened(self, structure: Any, kinds: tuple[Kind, ...], leaves: list) -> bool:
        """Whether a number among the arguments, with a trace for each value so far, is now an input."""
        static = self._static.get(structure)
        if not static:
            return False
        numbers = self._numbers.setdefault(structure, Numbers())
        steering = [i for i in static if i not in numbers.closed and type(leaves[i]) in (int, float)]
        among = set(steering)
        like = [k for s, k in self.traces if s == structure and _differ(k, kinds) <= among] if steering else ()
        found = {i for i in steering if len({k[i] for k in like}) >= VALUES}
        self._static[structure] -= found
        numbers.open |= found
        return bool(found)

    def _as_constants(self, key: tuple, leaves: list) -> bool:
        """A trace with open numbers has failed: they are constants after all, where there is a trace for other places
        of slices only those of this call; whether one of them was none."""
        memory, numbers = self.memories[key], self._numbers.get(key[0])
        if not any(c.narrowed() for c in self.traces.get(key, ())):
            return memory.close(set(memory.open)) or self._close(key[0], None)
        now = {(i, leaves[i]) for i in numbers.open} - numbers.alone if numbers is not None else set()
        if numbers is not None:
            numbers.alone = numbers.alone | now  # another thread may go through those
        return memory.leave_alone() or bool(now)

    def _close(self, structure: Any, params: set[Any] | None) -> bool:
        """These arguments, or all, are constants after all; whether one of them was none."""
        numbers = self._numbers.get(structure)
        found = set() if numbers is None else numbers.open if params is None else numbers.open & params
        if numbers is not None and found:
            self._static.setdefault(structure, set()).update(found)
            numbers.closed |= found
            numbers.open = numbers.open - found
        return bool(found)

    def _keep(self, key: tuple, c: Concrete) -> None:
        """Add a trace, and forget those whose objects are gone."""
        self.traces.setdefault(key, []).append(c)
        c.used = next(self._clock)
        for k, kept in list(self.traces.items()):
            kept[:] = [x for x in kept if x is c or x.reads is None or not x.reads.ended]
            if not kept:
                self._forget(k)
        if len(self.concrete_functions) > TRACES:
            oldest = min(self.traces, key=lambda k: min(x.used for x in self.traces[k]))
            kept = self.traces[oldest]
            kept.remove(min(kept, key=lambda x: x.used))
            if not kept:
                self._forget(oldest)
        if self._tracing_count == MANY_TRACES:
            text = (
                f"{self.__name__} has been traced {MANY_TRACES} times, and each trace takes milliseconds; "
                f"the latest because: {c.reason}\n"
                "  remedy: pass tensors instead of Python objects made anew for each call, or give an input_signature"
            )
            warnings.warn(text, RetracingWarning, stacklevel=user_depth())

    def _forget(self, key: tuple) -> None:
        del self.traces[key]
        self._fixed.pop(key, None)
        self.memories.pop(key, None)

    def _patterns(
        self, key: tuple, shapes: list[tuple], fixed: set[tuple[int, int]], wanted: list[TensorSpec | None] | None
    ) -> tuple[list[tuple], str]:
        """Shapes for a new trace: where an earlier trace of this key differs, the size becomes a symbol."""
        if self.input_signature is not None:
            return from_specs(shapes, tree.flatten(self.input_signature)[0]), "input_signature"
        if wanted is not None:
            return from_specs(shapes, wanted), "get_concrete_function"
        earlier = self.traces.get(key, ())
        if not earlier:
            return [tuple(s) for s in shapes], "first call" if not self.traces else why(self.traces, key)
        stale = [c for c in earlier if c.sizes(shapes) is not None]
        if stale:
            stale.sort(key=lambda c: c.used)
            latest = stale[-1]
            found, changing = varying([c.reads for c in stale if c.reads is not None])
            self.memories[key].varying |= found
            self.memories[key].unfix(changing)
            self.memories[key].has_changed(latest.reads)
            changes = latest.reads.changes() if latest.reads is not None else []
            reason = "; ".join(changes[:3]) or (
                "a number says that a slice leaves its axis, or does so no longer"
                if latest.narrowed()
                else "a value that the function changes has another type"
            )
            reason = "a tape may ask for gradients" if latest.unasked and not changes else reason
            return refreshed(latest.shapes, shapes, fixed), reason
        return widened(earlier[-1].shapes, shapes, fixed)

    def _trace(
        self, key: tuple, leaves: list, structure: Any, kinds: tuple, shapes: list[tuple],
        wanted: list[TensorSpec | None] | None,
    ) -> Concrete:  # fmt: skip
        fixed, small = self._fixed.setdefault(key, set()), False
        while True:
            patterns, reason = self._patterns(key, shapes, fixed, wanted)
            open_by = reason if wanted is not None or self.input_signature is not None else ""
            if small:
                patterns, reason = known_small(patterns, shapes)
            try:
                with places.attempt(), recursion_explained():
                    made = trace_once(self, leaves, structure, kinds, patterns, shapes, reason, open_by)
                self._tracing_count += 1
                return made
            except Exception:
                if not guesses(patterns, shapes):
                    raise
                small = True  # what goes wrong for other sizes, or is decided otherwise, may be right for 0 and 1
            except NeedStatic as need:
                if not need.symbols:
                    raise
                fixed.update(axes_of(patterns, need.symbols))

    def _drop(self, concrete: Concrete) -> None:
        """A trace that makes Variables is for one call: the next finds them, or makes others."""
        with self._lock:
            self.traces = {k: rest for k, cs in self.traces.items() if (rest := [c for c in cs if c is not concrete])}
