"""Loops of converted code as nodes: a step is traced for nothing, which tells what is carried, then for the node."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tracejit.autograph import aliases, origins, piles, places, stores
from tracejit.autograph.branches import Box, Narrow, Part, State, decided, traced
from tracejit.autograph.chosen import MOST
from tracejit.autograph.failures import reaches_end
from tracejit.autograph.growing import Wanted, refused
from tracejit.autograph.logic import and_
from tracejit.autograph.parts import Carried
from tracejit.autograph.ranges import row_of, tensors_of, with_rows
from tracejit.autograph.rooms import LEVELS, Rooms, Short
from tracejit.autograph.state import Changes, Template, settle
from tracejit.context import context
from tracejit.errors import AliasError, ConversionError, locate, user_frame
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.types import int64
from tracejit.ops.counted import limit, limits_of
from tracejit.ops.regions import Region, as_test, stage_rows, stage_scan
from tracejit.tensor import Tensor
from tracejit.tracing import undoing


# --- loops with a condition -------------------------------------------------------------------------------------------
def staged(test: Part, body: Part, state: State, steps: int | Dim | None = None) -> None:
    """A loop, whose steps are `steps` at most, as one node; or as a few, if its lists may get longer than thought."""

    def tried(state: State) -> Any:
        return _tried(test, body, state)

    def node(state: State, after: Any, rooms: Rooms) -> None:
        if rooms.lengthen(steps):
            _while(test, body, state, after, rooms)
            return

        def go_on() -> Any:
            return and_(rooms.fits, lambda: decided(test()))

        rooms.lengthen_at_first()
        for times in (1, *LEVELS):
            if times > 1:
                rooms.lengthen_later(decided(test()), times)
            after = _tried(go_on, body, state)
            if isinstance(after, State):
                raise Narrow(after)
            _while(go_on, body, state, after, rooms)
        done = OPS["logical_not"](as_test(decided(test())))
        OPS["check"](done, error="OverflowError", message="a list in a loop gets longer than compiled code can hold it")

    _with_lists(state, tried, node)


def _while(test: Part, body: Part, state: State, after: Any, rooms: Rooms) -> None:
    def stage(template: Template, log: places.Log) -> tuple[Sequence[Any], Sequence[Tensor]]:
        def enter(leaves: Sequence[Any]) -> None:
            state.put(template.values(leaves))

        def check(*leaves: Any) -> Any:
            enter(leaves)
            go = decided(test())
            if not traced(go) and go:
                raise locate(ConversionError("nothing that is carried from one step to the next ends a loop"))
            return go

        def step(*leaves: Any) -> Any:
            rooms.begin()
            enter(leaves)
            if not reaches_end(body):
                enter(leaves)
            state.holds(log)
            new = state.get()
            left = [*template.leaves(new), *template.grown(new)]
            rooms.end()
            return left

        more = sum(p.more for p in template.parts)
        return stage_rows(check, step, template.first(), more, template.leaf_names())

    _settled(state, state.get(), after, stage, lambda: decided(test()))


# --- loops over all rows ----------------------------------------------------------------------------------------------
def counter(first: int) -> Tensor:
    """A row number, which stays below the number of rows and so cannot overflow."""
    return OPS["cast"](first, dtype=int64)  # type: ignore[no-any-return]


def as_number(i: Tensor) -> Tensor:
    """A row number as Python's own integer, which gives way to other dtypes."""
    return OPS["cast"](i, dtype=int64, weak=True)  # type: ignore[no-any-return]


def scanned(it: Any, n: Any, body: Part, state: State) -> None:
    """A loop that goes through all rows: one node, to whose steps rows are handed, and which stacks what lists get."""
    rows = tensors_of(it)

    def step() -> None:
        body(row_of(it, 0) if isinstance(it, builtins.range) else with_rows(it, [t[0] for t in rows], 0))

    def tried(state: State) -> Any:
        return _tried(lambda: None, step, state)

    def node(state: State, after: Any, rooms: Rooms) -> None:
        rooms.lengthen(n)
        _scan(it, rows, n, body, state, after, rooms)

    _with_lists(state, tried, node)


def _scan(it: Any, rows: list[Tensor], n: Any, body: Part, state: State, after: Any, rooms: Rooms) -> None:
    def stage(template: Template, log: places.Log) -> tuple[Sequence[Any], Sequence[Tensor]]:
        def step(states: list[Any], xs: list[Any]) -> tuple[Any, ...]:
            rooms.begin()
            start = template.values(states[1:])
            state.put(start)
            limit(states[0], (0, n - 1))
            for t, x in zip(rows, xs, strict=True):
                limit(x, limits_of(t))
            i = as_number(states[0])
            row = row_of(it, i) if isinstance(it, builtins.range) else with_rows(it, xs, i)
            if not reaches_end(lambda: body(row)):
                state.put(start)
            state.holds(log)
            new = state.get()
            left = (OPS["add"](states[0], 1), *template.leaves(new), *template.grown(new))
            rooms.end()
            return left

        last, made = stage_scan(
            step, [counter(0), *template.first()], rows, n, False, ["", *template.leaf_names()]
        )
        return last[1:], made

    _settled(state, state.get(), after, stage, lambda: OPS["less"](0, n))


# --- what is carried --------------------------------------------------------------------------------------------------
def _with_lists(
    state: State, tried: Callable[[State], Any], node: Callable[[State, Any, Rooms], None],
    known: Mapping[int, int | Dim] = MappingProxyType({}), tries: int = 4,
) -> None:  # fmt: skip
    """Trace a step for nothing, then make the node. Lists of which more is asked than that become piles, to which a
    step adds what is `known`, or what the step that was traced for nothing adds."""
    before, told = state.get(), context.refused
    undo = undoing(context.trace)
    after: Any = None
    log: places.Log = {}
    rooms = Rooms(state.lists, known)
    try:
        with places.watched(log):
            after = tried(state)
            rooms.count()
            if not isinstance(after, State):
                node(state, after, rooms)
    except Narrow as e:
        places.restore(log)
        state.put(before)
        after = e.wider
    except Short as e:
        places.restore(log)
        state.put(before)
        if not tries:
            raise refused("the steps of a loop add ever more to a list") from None
        after, known, tries = state, e.most, tries - 1
    except piles.Retyped as e:
        places.restore(log)
        state.put(before)
        if not rooms.retyped(e):
            raise
        after = state
    except (ConversionError, IndexError) as e:
        taken = type(e) is IndexError and bool(state.lists(log))  # from a list that is empty only while traced, perhaps
        if not (taken or (isinstance(e, ConversionError) and e.of_lists)):
            raise
        places.restore(log)
        state.put(before)
        if not piles.become_piles(state.lists(log), _examples(state, before, after)):
            if taken:
                raise refused("an item is taken from a list that may be empty") from None
            raise
        after = state
    finally:
        rooms.leave(state.lists(log))
    if isinstance(after, State):
        context.refused = told
        undo()
        rooms.take_back()
        _with_lists(after, tried, node, known, tries)


def _examples(state: State, before: Sequence[Any], after: Any) -> dict[int, list[Any]]:
    """What lists that are empty before a step hold after it, where that is known."""
    if after is None or isinstance(after, State):
        return {}
    return {id(x): y for x, y in zip(state.owners(before), after, strict=True) if type(x) is list and type(y) is list}


def _settled(
    state: State, before: Sequence[Any], after: Sequence[Any],
    stage: Callable[[Template, places.Log], tuple[Sequence[Any], Sequence[Tensor]]], runs: Callable[[], Any],
) -> None:  # fmt: skip
    """The node that `stage` makes once it is known which variables the steps change; they get their last values. `runs`
    says whether there is a step."""
    state.check_births(before, after)
    ran = as_test(runs()) if origins.are_told_apart(before) else None
    carried = Carried()
    for _ in builtins.range(8 + MOST):
        template = settle(state.names, before, after, user_frame(2), carried)
        try:
            with places.watched() as log:
                last, made = stage(template, log)
        except Changes as e:
            carried.learn(e)
            continue
        except Wanted as e:
            if e.before.of not in template.parts:  # a list of a loop around this one
                raise
            carried.add((e.before.of.name, -1 - e.count))
            continue
        finally:
            places.restore(log)
            state.put(before)
        values = template.values(last, made)
        if ran is not None:
            origins.after_loop(ran, state.names, before, template.last, values)
        template.forget()
        state.set(values)
        return
    raise locate(ConversionError("the variables of a loop go on changing their types"))


def _tried(test: Part, body: Part, state: State) -> Any:
    """The variables after a step, found by tracing one for nothing; or a state with the places that it writes to."""

    before = state.get()

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
    other = state.wider(log) or state.fewer(log)
    return region.leaves[0].values if other is None else other


def _again(test: Part, body: Part) -> None:
    """One more step, for the sake of what items are assigned of."""
    try:
        test()
        reaches_end(body)
    except AliasError:
        raise
    except Exception:  # the step that counts raises it
        pass
