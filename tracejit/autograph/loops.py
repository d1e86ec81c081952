"""Loops of converted code: copies of the steps while Python knows whether to go on, from then on one node."""

from __future__ import annotations

import builtins
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracejit.autograph import aliases, growing, hostcalls, places, ranges, reads, stores
from tracejit.autograph.branches import Box, Part, State, and_, asks, decided, if_, traced
from tracejit.autograph.failures import raised, reaches_end, tentative
from tracejit.autograph.growing import Wanted
from tracejit.autograph.ranges import Counter, is_many, length_of, row_of, tensors_of, with_rows
from tracejit.autograph.state import Changes, Template, settle
from tracejit.autograph.values import Optional
from tracejit.context import context
from tracejit.errors import (
    AliasError,
    ControlFlowError,
    ConversionError,
    DivisionError,
    OutOfRangeError,
    ShapeError,
    TracedValueError,
    TracejitError,
    ends_inside,
    locate,
    user_frame,
)
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.types import int64
from tracejit.ops.regions import Region, as_test, stage_rows, stage_scan
from tracejit.tensor import Operand, Tensor

NESTED = 24  # steps of a Python loop that are branches within branches, once a tensor decides whether it goes on
UNROLL = 4  # rows of a tensor up to which a loop over it is unrolled
COPIES = 1024  # steps of which there may be copies where no loop can be made
LONG = 64  # steps of a Python range from which one loop is tried instead of as many copies


def while_(test: Part, body: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    """A `while` statement. As long as the condition is known the steps are copies; then one loop follows."""
    while True:
        go, acts = _asked(lambda: decided(test()))
        if traced(go):
            break
        if not go:
            return
        body()
    if acts:
        _asked_once(go, test, body, get, put, names)
    else:
        _loop(test, body, get, put, names)


def _asked(test: Part) -> tuple[Any, bool]:
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
    _loop(lambda: box[0], step, lambda: (box[0], *get()), inner_put, ("the condition", *names))


def _loop(test: Part, body: Part, get: Part, put: Part, names: Sequence[str]) -> None:
    """One node for the steps that are left."""
    staged(test, body, State(get, put, names))


def staged(test: Part, body: Part, state: State) -> None:
    before = state.get()
    after = _tried(test, body, before, state)
    if isinstance(after, State):
        staged(test, body, after)
        return

    def stage(template: Template) -> tuple[Sequence[Any], Sequence[Tensor]]:
        def enter(leaves: Sequence[Any]) -> None:
            state.put(template.values(leaves))

        def check(*leaves: Any) -> Any:
            enter(leaves)
            return decided(test())

        def step(*leaves: Any) -> Any:
            enter(leaves)
            if not reaches_end(body):
                enter(leaves)
            new = state.get()
            return [*template.leaves(new), *template.grown(new)]

        more = sum(p.more for p in template.parts)
        return stage_rows(check, step, template.first(), more, template.leaf_names())

    _settled(state, before, after, stage)


def _settled(
    state: State, before: Sequence[Any], after: Sequence[Any],
    stage: Callable[[Template], tuple[Sequence[Any], Sequence[Tensor]]],
) -> None:  # fmt: skip
    """The node that `stage` makes once it is known which variables the steps change; they get their last values."""
    carried: set[tuple[str, int]] = set()
    for _ in builtins.range(8):
        template = settle(state.names, before, after, user_frame(2), carried)
        try:
            with places.watched() as log:
                last, made = stage(template)
        except Changes as e:
            carried |= e.which
            continue
        except Wanted as e:
            if e.before.of not in template.parts:  # a list of a loop around this one
                raise
            carried.add((e.before.of.name, -1 - e.count))
            continue
        finally:
            places.restore(log)
            state.put(before)
        state.set(template.values(last, made))
        return
    raise locate(ConversionError("the variables of a loop go on changing their types"))


def _tried(test: Part, body: Part, before: Any, state: State) -> Any:
    """The variables after a step, found by tracing one for nothing; or a state with the places that it writes to."""

    def once() -> Any:
        state.put(before)
        test()
        first = stores.count()
        after = state.get() if reaches_end(body) else before
        if stores.count() > first and aliases.among(after):  # what the next step assigns to may be what others hold
            _again(test, body)
        return Box(after)

    try:
        with places.watched() as log:
            region = Region(once, (), "trial")
    finally:
        places.restore(log)
        state.put(before)
    if log and not state.places:
        return state.wider(log)
    return region.leaves[0].values


def _again(test: Part, body: Part) -> None:
    """One more step, for the sake of what items are assigned of."""
    try:
        test()
        reaches_end(body)
    except AliasError:
        raise
    except Exception:  # the step that counts raises it
        pass


def for_(it: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]) -> None:
    """A `for` statement: `more` says whether no `break` was met."""
    if isinstance(it, Optional):
        it = it.get()
    it = asks["iterated"](it)
    it = ranges.items_of(it) if growing.is_grown(it) else it
    reads.whole(reads.content(it))
    hostcalls.check_iterator(it)
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
    place: list[Any] = [_counter(first)]

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
        body(row_of(it, _as_row(it, i)))
        place[0] = OPS["add"](i, 1)

    if (type(n) is int or (isinstance(n, Dim) and not n.is_found)) and not first < n:
        return
    go = more() if more is not None else True
    if not traced(go) and not go:
        return
    _loop(test, step, inner_get, inner_put, ("the row number", *names))


def _counter(first: int) -> Tensor:
    """A row number, which stays below the number of rows and so cannot overflow."""
    return OPS["cast"](first, dtype=int64)  # type: ignore[no-any-return]


def _as_row(it: Any, i: Tensor) -> Tensor:
    """A row number in the type of a range of tensors, else as a number."""
    start = getattr(it, "start", None)
    return OPS["cast"](i, dtype=start.dtype) if isinstance(start, Operand) else _as_number(i)


def _as_number(i: Tensor) -> Tensor:
    """A row number as Python's own integer, which gives way to other dtypes."""
    return OPS["cast"](i, dtype=int64, weak=True)  # type: ignore[no-any-return]


def _python_for(it: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]) -> None:
    try:
        _steps(it, body, more, get, put, names)
    except ShapeError as e:
        if more is None or not e.of_branches:
            raise
        raise _uneven(e) from None


def _steps(it: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]) -> None:
    if isinstance(it, builtins.range) and len(it) >= LONG and context.trace is not None and _rolled(
        it, len(it), body, more, get, put, names
    ):
        return
    steps = iter(it)
    done = 0
    for row in steps:
        body(row)
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


def _rolled(
    it: Any, n: Any, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str], first: int = 0
) -> bool:
    """Whether a loop over a known number of rows could be made one node; if not, as many copies do as well."""
    before, told = get(), context.refused
    log: dict[tuple, tuple[places.Place, Any]] = {}
    must = isinstance(n, int) and n > COPIES
    try:
        with places.watched(log), contextlib.nullcontext() if must else tentative(isinstance(it, builtins.range)):
            if more is None:
                _scanned(it, n, body, State(get, put, names))
            else:
                _indexed(it, n, first, body, more, get, put, names)
    except Exception as e:
        ours = isinstance(e, TracejitError) or ends_inside(e.__traceback__)
        if must or (ours and not isinstance(e, _RETRIED)):
            raise
        places.restore(log)
        put(before)
        context.refused = told
        return False
    return True


_RETRIED = (ControlFlowError, ShapeError, TracedValueError, OutOfRangeError, DivisionError)


def _scanned(it: Any, n: Any, body: Part, state: State) -> None:
    """A loop that goes through all rows: one node, to whose steps rows are handed, and which stacks what lists get."""
    before = state.get()
    rows = tensors_of(it)

    def tried() -> None:
        body(row_of(it, 0) if isinstance(it, builtins.range) else with_rows(it, [t[0] for t in rows], 0))

    after = _tried(lambda: None, tried, before, state)
    if isinstance(after, State):
        _scanned(it, n, body, after)
        return

    def stage(template: Template) -> tuple[Sequence[Any], Sequence[Tensor]]:
        def step(states: list[Any], xs: list[Any]) -> tuple[Any, ...]:
            start = template.values(states[1:])
            state.put(start)
            i = _as_number(states[0])
            row = row_of(it, i) if isinstance(it, builtins.range) else with_rows(it, xs, i)
            if not reaches_end(lambda: body(row)):
                state.put(start)
            new = state.get()
            return (OPS["add"](states[0], 1), *template.leaves(new), *template.grown(new))

        last, made = stage_scan(
            step, [_counter(0), *template.first()], rows, n, False, ["", *template.leaf_names()]
        )
        return last[1:], made

    _settled(state, before, after, stage)


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
            if_(go, functools.partial(_on, rows[i:], body, more, get, put, names), lambda: None, get, put, names, ())
            return
        else:
            if_(go, functools.partial(_taking, body, row), lambda: None, get, put, names, ())
        go = more()


def _on(rows: Sequence[Any], body: Part, more: Part, get: Part, put: Part, names: Sequence[str]) -> None:
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


def _uneven(e: ShapeError) -> ConversionError:
    """What a loop over Python objects leaves behind has one shape where it ends early, another where it does not."""
    error = ConversionError(f"{e.message}, depending on the step in which a loop ends")
    error.where, error.remedy = e.where, "let what is used after the loop have one shape"
    return error


_EXAMPLES: list[Any] = [range(1), range(1 << 70), [], (), set(), "", b"", {}, {}.values(), {}.items()]
_PLAIN: tuple[type, ...] = (*[type(iter(x)) for x in _EXAMPLES], zip, enumerate, reversed)
