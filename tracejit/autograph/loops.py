"""Loops of converted code: copies of the steps while Python knows whether to go on, from then on one node."""

from __future__ import annotations

import builtins
import contextlib
import functools
import itertools
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tracejit.autograph import growing, hostcalls, places, ranges, reads, yields
from tracejit.autograph.branches import Part, State, asks, branches, decided, ended_unevenly, if_, traced
from tracejit.autograph.failures import raised, tentative
from tracejit.autograph.logic import and_
from tracejit.autograph.numberloops import MANY, are_numbers, of_numbers
from tracejit.autograph.ranges import Counter, is_many, length_of, row_of
from tracejit.autograph.staging import as_number, counter, scanned, staged
from tracejit.autograph.values import Either, Optional, told_where
from tracejit.context import context
from tracejit.errors import (
    ControlFlowError,
    ConversionError,
    DivisionError,
    OutOfRangeError,
    ShapeError,
    TracedValueError,
    TracejitError,
    UnrollingWarning,
    ends_inside,
    locate,
    user_depth,
    user_frame,
)
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ops.counted import limit
from tracejit.ops.regions import as_test
from tracejit.tensor import Operand, Tensor
from tracejit.tracing import undoing

NESTED = 24  # steps of a Python loop that are branches within branches, once a tensor decides whether it goes on
UNROLL = 4  # rows of a tensor up to which a loop over it is unrolled
COPIES = 1024  # steps of which there may be copies where no loop can be made
LONG = 64  # steps of a Python range from which one loop is tried instead of as many copies
LARGE = 4096  # operations in copies of steps from which one loop is tried for the rest
HUGE = 50_000  # and from which users are told of them


def while_(
    test: Part, body: Part, get: Part, put: Part, names: Sequence[str], plain: Part | None = None,
    read: Part | None = None, more: Part | None = None,
) -> None:  # fmt: skip
    """A `while` statement. As long as the condition is known the steps are copies; then one loop follows.

    `plain` is the loop as it is written, if it can be that all it computes with are numbers, which `read` gives. `more`
    says whether no `break` was met.
    """
    if plain is not None and are_numbers(read):
        plain()
        return
    whole = test if more is None else functools.partial(and_, more, test)
    unrolled, earlier = Unrolled(), tuple[Any, ...]()
    while True:
        go, acts = with_acts(lambda: decided(whole()))
        if traced(go):
            break
        if not go:
            return
        far = 0 if acts else unrolled.looks_ahead()
        if far and _goes_on_for(far, whole, earlier, get, put) and _whole_loop(whole, body, get, put, names):
            return
        earlier = get()
        unrolled.run(body)
    if acts:
        _asked_once(go, whole, body, get, put, names)
    elif more is None:
        _loop(whole, body, get, put, names)
    else:
        _loop_or_copies(test, body, more, get, put, names)


class _Open(threading.local):
    loops = 0  # whose steps are being copied


_open = _Open()


class Unrolled:
    """The copies of a loop's steps that a trace has so far, and what becomes of the loop where they are many."""

    def __init__(self) -> None:
        self.steps, self.tried, self.first, self.said = 0, 0, self._nodes(), False

    def _nodes(self) -> int:
        trace: Any = context.trace
        return 0 if trace is None else len(trace.builder.nodes)

    def looks_ahead(self) -> int:
        """How many steps further to look, at those steps where one loop may be better: else 0."""
        if context.trace is None:
            return 0
        if self.steps == 1:
            return max(LONG >> 2 * _open.loops, UNROLL)
        if not self.tried and self._nodes() - self.first > LARGE:
            self.tried = self.steps
            return UNROLL
        return 0

    def run(self, body: Part) -> None:
        """One more copy. The more loops are around one, the fewer copies there are of its steps."""
        _open.loops += 1
        try:
            body()
        finally:
            _open.loops -= 1
        self.count()

    def count(self) -> None:
        """One more copy; that there are very many is said once."""
        self.steps += 1
        if context.trace is None or self.said:
            return
        nodes = self._nodes() - self.first
        if nodes > HUGE or (self.steps == COPIES and nodes > COPIES):
            self.said = True
            text = (
                f"a loop is traced step by step: {nodes} operations in {self.steps} steps, {user_frame()}\n"
                "  remedy: loop over tj.range(n), or count with a tensor, so that it becomes one loop"
            )
            warnings.warn(text, UnrollingWarning, stacklevel=user_depth())


def _goes_on_for(steps: int, test: Part, then: Sequence[Any], get: Part, put: Part) -> bool:
    """Whether a loop goes on for so many steps, should its numbers change as in the last one."""
    now = get()
    both = [(x, y) for x, y in zip(then, now, strict=True)]
    counts = [type(x) is type(y) and type(y) in (int, float) and x != y for x, y in both]
    if not any(counts):
        return False
    put([y + (y - x) * steps if c else y for (x, y), c in zip(both, counts, strict=True)])
    try:
        go = decided(test())
        return not traced(go) and bool(go)
    except Exception:  # there is no such item, perhaps
        return False
    finally:
        put(now)


def _whole_loop(test: Part, body: Part, get: Part, put: Part, names: Sequence[str]) -> bool:
    """Whether the steps that are left could be made one node, in which Python's counters are tensors."""
    return _attempted(lambda: _loop(test, body, get, put, names), True, False, get, put)


def _loop_or_copies(test: Part, body: Part, more: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    """One node for the steps that are left; where shapes change, copies of the steps while `test` is known."""
    before, told = get(), context.refused
    undo = undoing(context.trace)
    log: dict[tuple, tuple[places.Place, Any]] = {}
    try:
        with places.watched(log):
            _loop(functools.partial(and_, more, test), body, get, put, names)
    except ShapeError:
        places.restore(log)
        put(before)
        undo()
        context.refused = told
        if traced(decided(test())):
            raise
        _copies(NESTED, test, body, more, get, put, names)


def _copies(left: int, test: Part, body: Part, more: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    go = decided(test())
    if traced(go) or (go and not left):
        raise locate(ConversionError(f"shapes change in a loop that may have more than {NESTED - left} steps"))
    on = more() if go else False

    def step() -> None:
        _goes_on(more, get, put, names)
        body()
        _copies(left - 1, test, body, more, get, put, names)

    if traced(on):
        branches(on, step, lambda: None, State(get, put, names, (), True), ())
    elif on:
        step()


def with_acts(test: Part) -> tuple[Any, bool]:
    """A condition, and whether asking for it does anything else."""
    trace: Any = context.trace
    if trace is None:
        return test(), False
    first, before = len(trace.builder.nodes), _assigned(trace)
    with places.watched() as log:
        go = test()
    acts = bool(log) or any(not n.pure and n.op.name != "check" for n in trace.builder.nodes[first:])
    return go, acts or any(before.get(k) is not t for k, t in _assigned(trace).items())


def _assigned(trace: Any) -> dict[int, Any]:
    return {id(v): trace.env[id(v)] for v in trace.written()}


def _asked_once(go: Any, test: Part, body: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    """A loop whose condition does something: it is asked for after each step, and its answer carried."""
    box = [go]

    def inner_put(new: Any) -> None:
        box[0] = new[0]
        put(new[1:])

    def step() -> None:
        body()
        box[0] = as_test(decided(test()))

    box[0] = as_test(go)
    _loop(lambda: box[0], step, lambda: (box[0], *get()), inner_put, ("the condition", *names), own=body)


def _loop(
    test: Part, body: Part, get: Part, put: Part, names: Sequence[str], steps: int | Dim | None = None,
    own: Part | None = None,
) -> None:  # fmt: skip
    """One node for the steps that are left, `steps` at most. `own` is the user's part of the body."""
    staged(test, body, State(get, put, names, places.recalled(own or body)), steps)


def for_(
    it: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str], plain: Part | None = None,
    read: Part | None = None, flat: bool = False,
) -> None:  # fmt: skip
    """A `for` statement: `more` says whether no `break` was met; `plain` and `read` as in `while_`; `flat` says
    that there is no loop within it."""
    if isinstance(it, Optional):
        it = it.get()
    it = asks["iterated"](it)
    it = ranges.items_of(it) if growing.is_grown(it) else it
    reads.whole(reads.content(it))
    hostcalls.check_iterator(it)
    if plain is not None and of_numbers(it) and len(it) < (MANY if flat else LONG) and are_numbers(read):
        plain(it)
        return
    if type(it) is hostcalls.Yields and yields.go_through(it, body, more, get, put, names):
        return
    if not is_many(it):
        _python_for(it, body, more, get, put, names)
        return
    n = length_of(it)
    if isinstance(n, int) and n <= UNROLL:
        _python_for([row_of(it, i) for i in builtins.range(n)], body, more, get, put, names)
        return
    if isinstance(n, Operand):
        _indexed(it, n, 0, body, more, get, put, names)
    elif not _rolled(it, n, body, more, get, put, names):
        _python_for([row_of(it, i) for i in builtins.range(int(n))], body, more, get, put, names)


def _indexed(it: Any, n: Any, first: int, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]):
    """A loop over row numbers from `first` up to n, as one node."""
    place: list[Any] = [counter(first)]

    def inner_get() -> Any:
        return (place[0], *get())

    def inner_put(new: Any) -> None:
        place[0] = new[0]
        put(new[1:])

    def test() -> Any:
        left = n is None or place[0] < n
        return left if more is None else and_(lambda: left, more)

    def step() -> None:
        i = place[0]
        if isinstance(n, (int, Dim)):
            limit(i, (first, n - 1))
        body(row_of(it, _as_row(it, i)))
        place[0] = OPS["add"](i, 1)

    if (type(n) is int or (isinstance(n, Dim) and not n.is_found)) and not first < n:
        return
    go = more() if more is not None else True
    if not traced(go) and not go:
        return
    most = n - first if isinstance(n, (int, Dim)) else None
    _loop(test, step, inner_get, inner_put, ("the row number", *names), most, body)


def _as_row(it: Any, i: Tensor) -> Tensor:
    """A row number in the type of a range of tensors, else as a number."""
    start = getattr(it, "start", None)
    return OPS["cast"](i, dtype=start.dtype) if isinstance(start, Operand) else as_number(i)


def _python_for(it: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]) -> None:
    try:
        _steps(it, body, more, get, put, names)
    except (ShapeError, ConversionError) as e:
        if more is None or not e.of_branches:
            raise
        raise ended_unevenly(e) from None


def _steps(it: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]) -> None:
    if isinstance(it, builtins.range) and len(it) >= LONG and context.trace is not None and _rolled(
        it, len(it), body, more, get, put, names
    ):
        return
    steps = iter(it)
    done, unrolled = 0, Unrolled()
    for row in steps:
        body(row)
        unrolled.count()
        done += 1
        if more is None:
            continue
        go = more()
        if traced(go):
            if isinstance(it, Counter):
                _indexed(it.taken(), None, 0, body, more, get, put, names)
                return
            counts = isinstance(it, builtins.range) and len(it) < LONG
            if not (counts and _rolled(it, len(it), body, more, get, put, names, done)):
                _guarded(_rest(steps), go, body, more, get, put, names)
            return
        if not go:
            return
    if not done and context.trace is not None:
        put(told_where(get(), names))


def _rolled(
    it: Any, n: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str], first: int = 0
) -> bool:
    """Whether a loop over a known number of rows could be made one node; if not, as many copies do as well."""
    must = isinstance(n, int) and n > COPIES

    def node() -> None:
        if more is None:
            scanned(it, n, body, State(get, put, names, places.recalled(body)))
        else:
            _indexed(it, n, first, body, more, get, put, names)

    return _attempted(node, isinstance(it, builtins.range), must, get, put)


def _attempted(node: Part, counting: bool, must: bool, get: Part, put: Part) -> bool:
    """Whether a node could be made; if not, all is as it was before. `counting` is that of `tentative`."""
    before, told = get(), context.refused
    undo = undoing(context.trace)
    log: dict[tuple, tuple[places.Place, Any]] = {}
    try:
        with places.watched(log), contextlib.nullcontext() if must else tentative(counting):
            node()
    except Exception as e:
        ours = isinstance(e, TracejitError) or ends_inside(e.__traceback__)
        if must or (ours and not isinstance(e, _RETRIED)):
            raise
        places.restore(log)
        put(before)
        undo()
        context.refused = told
        return False
    return True


_RETRIED = (ControlFlowError, ShapeError, TracedValueError, OutOfRangeError, DivisionError)


def _guarded(rows: Sequence[Any], go: Any, body: Part, more: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    """The rest of a Python loop once a tensor decides whether it goes on: each step within a branch.

    Long loops are one branch after the other, which no longer know what Python knows after a step.
    """
    for i, row in enumerate(rows):
        if not traced(go):
            if not go:
                return
            _taking(body, row)
        elif len(rows) - i <= NESTED:
            on = functools.partial(_on, rows[i:], body, more, get, put, names)
            branches(go, on, lambda: None, State(get, put, names, places.recalled(body), True), ())
            return
        else:
            if_(go, functools.partial(_taking, body, row), lambda: None, get, put, names, ())
        go = more()


def _goes_on(more: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    """In what follows no `break` has been met."""
    flags: Sequence[str] = more.__code__.co_freevars  # type: ignore[attr-defined]
    values = [False if n in flags else x for n, x in zip(names, get(), strict=True)]
    put([x.where_none(flags) if type(x) is Either else x for x in values])


def _on(rows: Sequence[Any], body: Part, more: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    _goes_on(more, get, put, names)
    _taking(body, rows[0])
    if len(rows) > 1:
        _guarded(rows[1:], more(), body, more, get, put, names)


def _rest(steps: Iterator[Any]) -> list[Any]:
    """What a Python loop has yet to go through. Taking it all must do nothing else: the loop may end before."""
    trace: Any = context.trace
    most = COPIES if isinstance(steps, _PLAIN) else NESTED
    first = len(trace.builder.nodes)
    with places.watched() as log:
        rows = list(itertools.islice(_until_failure(steps), most + 1))
    if log or any(not n.pure for n in trace.builder.nodes[first:]):
        said = "a tensor decides whether a loop goes on, over an iterator that has effects"
    elif len(rows) > most:
        said = f"a tensor decides whether a loop over Python objects goes on, and it has more than {most} steps"
    else:
        return rows
    raise locate(ConversionError(said, remedy="loop over tj.range or a tensor, or use `while`"))


class _Failure:
    """The error that an iterator raises in the place of a row."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _until_failure(steps: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from steps
    except TracejitError:
        raise
    except Exception as e:
        yield _Failure(e)


def _taking(body: Part, row: Any) -> None:
    if type(row) is _Failure:
        raise raised(row.error)
    body(row)


_EXAMPLES: list[Any] = [range(1), range(1 << 70), [], (), set(), "", b"", {}, {}.values(), {}.items()]
_PLAIN: tuple[type, ...] = (*[type(iter(x)) for x in _EXAMPLES], zip, enumerate, reversed)
