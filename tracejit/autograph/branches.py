"""Branches, conditions and comparisons of converted code: Python's own where values are known, nodes where not."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import chosen, growing, places, reads
from tracejit.autograph.attempts import Identities
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.failures import Unreachable, reaches_end
from tracejit.autograph.merging import merge
from tracejit.autograph.nests import is_record
from tracejit.autograph.owners import is_users
from tracejit.autograph.parts import only, zeros_like
from tracejit.autograph.values import Either, Optional, Undefined
from tracejit.context import context
from tracejit.errors import ControlFlowError, ConversionError, LeakedTensorError, ShapeError, locate
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ops.regions import Region, as_test, emit_cond
from tracejit.tensor import Operand, Tensor, Variable, convert
from tracejit.tracing import unborn
from tracejit.tree import attributes_of, flatten, made_of

Part = Callable[..., Any]
asks: dict[str, Callable[..., Any]] = {}  # what asks objects of the user's for their truth, and compares them


def decided(x: Any) -> Any:
    """What decides in the place of a condition: for objects of the user's, what they say of their truth."""
    if type(x) is Chosen:
        return asks["chosen"](x)
    if type(x) is Optional and x.none:
        return _is_there_and_true(x)
    if is_users(type(x)) or growing.is_grown(x) or growing.is_partial(x):
        return asks["truth"](x)
    reads.asked(x, asks=("__bool__", "__len__"))
    return x


def _is_there_and_true(x: Optional) -> Any:
    """What decides in the place of what is perhaps None, which is false."""
    given = decided(x.value)
    if traced(given):
        return OPS["logical_and"](x.flag, as_test(given))
    return x.flag if given else False


def asked(x: Any) -> Any:
    """A part of a condition: True or False, or a 0-d tensor."""
    x = decided(x)
    if isinstance(x, (Optional, Either)) or not isinstance(x, Operand):
        return x if traced(x) else bool(x)
    return x if not (x.shape or isinstance(x, Variable)) else as_test(x) if traced(x) else bool(x)


def traced(x: Any) -> bool:
    """Whether Python cannot know `x` while tracing. What follows from Python numbers is known, by tracing again."""
    if isinstance(x, Optional):
        return True
    if not isinstance(x, Operand):
        reads.length(reads.content(x))
        return False
    if context.trace is None:
        return False
    if isinstance(x, Variable):
        return True
    a = x._a
    if type(a) is not Value:
        return False
    context.trace.need_value(a, True)
    return True


def compared(x: Any) -> bool:
    """Whether what a comparison of a tensor says is known only when the program runs."""
    return traced(x) or context.trace is not None


def if_(
    test: Any, then: Part, orelse: Part, get: Part, put: Part, names: Sequence[str], dead: Sequence[str],
    uneven: bool = False,
) -> None:  # fmt: skip
    """An `if` statement: `then` and `orelse` change the variables that `get` and `put` see."""
    test = decided(test)
    if not traced(test):
        reads.entered(then if test else orelse)()
        return
    branches(test, then, orelse, State(get, put, names, places.recalled(then), uneven), dead)


def branches(test: Any, then: Part, orelse: Part, state: State, dead: Sequence[str]) -> None:
    before = state.get()
    log: dict[tuple, tuple[places.Place, Any]] = {}

    def branch(part: Part, taken: bool) -> Callable[[], Any]:
        def run() -> Any:
            places.restore(log)  # what the other branch has done
            state.put(before)
            with chosen.where(test, taken):
                return Box(state.get() if reaches_end(reads.entered(part)) else None)

        return run

    try:
        with places.watched(log):
            a, b = Region(branch(then, True), (), "then"), Region(branch(orelse, False), (), "orelse")
    finally:
        places.restore(log)
        state.put(before)
    if (wider := state.wider(log)) is not None:
        branches(test, then, orelse, wider, dead)
        return
    state = state.without(log, [a.leaves[0], b.leaves[0]])
    test = as_test(test)
    a.chosen_by, b.chosen_by = (test, True), (test, False)
    a.changed = b.changed = state.changed()
    state.check_swaps(a.leaves[0].values, b.leaves[0].values)
    state.check_births(a.leaves[0].values, b.leaves[0].values)
    _select(test, a, b, state.names, dead, state.set, state.uneven)


class Narrow(BaseException):
    """A step of a loop writes to places that its state lacks: numbers decide about them that are no longer known."""

    def __init__(self, wider: State) -> None:
        self.wider = wider


class State:
    """The variables of a branch or loop: those of the function, and places outside it, of which it tells a list that
    it is given. `uneven`: tensors may have other shapes in one branch than in the other."""

    def __init__(
        self, get: Part, put: Part, names: Sequence[str], also: Sequence[places.Place] = (), uneven: bool = False
    ) -> None:
        self.uneven = uneven
        self._latest: set[tuple[Any, ...]] = set()  # the keys of the places that it has more than the state before it
        self._spare = 2  # attempts that may write to none of these, but to others
        self._scopes = places.scopes()
        self._get, self._put, self._names, self.places, self._also = get, put, tuple(names), tuple(also), also
        self.names = (*names, *[p.name for p in also])

    def get(self) -> tuple[Any, ...]:
        return (*self._get(), *places.values(self.places))

    def put(self, new: Sequence[Any]) -> None:
        k = len(self._names)
        self._put(new[:k])
        places.set_values(self.places, new[k:])

    def set(self, new: Sequence[Any]) -> None:
        """As `put`, for good: branches and loops around this one take note of each place, and of what it then holds."""
        k = len(self._names)
        self._put(new[:k])
        for p, v in zip(self.places, new[k:], strict=True):
            places.note(p, True)
            p.put(v)

    def check_swaps(self, xs: Sequence[Any] | None, ys: Sequence[Any] | None) -> None:
        """A container that a branch changes is not put in the place of another one by it, or by the other branch."""
        changed = self.changed()
        todo = list(zip(xs or (), ys or (), self.names)) if changed else []
        while todo:
            x, y, name = todo.pop()
            x, y = [v.value if type(v) is Optional else v for v in (x, y)]
            if x is y or type(x) is not type(y) or not isinstance(x, (list, dict, tuple)):
                continue
            if chosen.can_be(x) and chosen.can_be(y):  # each of them stays what it is
                continue
            if id(x) in changed or id(y) in changed:
                if not (places.by_identity() or places.is_new(x) or places.is_new(y) or places.listener() is None):
                    raise Identities
                raise locate(ConversionError(f"{name} is one container in one branch, in the other another one"))
            keys = [k for k in x if k in y] if isinstance(x, dict) else range(min(len(x), len(y)))
            todo += [(x[k], y[k], name) for k in keys]

    def check_births(self, xs: Sequence[Any] | None, ys: Sequence[Any] | None) -> None:
        """A Variable that a branch or step makes does not get to places that outlive it: it would be a tensor there."""
        k = len(self._names)
        for x, y in zip((xs or ())[k:], (ys or ())[k:]):
            one, other = [{id(v) for v in flatten(z)[0] if isinstance(v, Variable) and v in unborn} for z in (x, y)]
            if one != other:
                text = "a Variable made in a branch or loop is kept outside of it"
                raise locate(ConversionError(text, remedy="make it before, or without a tensor's value deciding on it"))

    def changed(self) -> frozenset[int]:
        """The identities of the containers that are changed."""
        return frozenset([id(p.owner) for p in self.places if type(p) is places.Items])

    def owners(self, values: Sequence[Any]) -> list[Any]:
        """These values of the variables and places; containers of which all items are one of them, themselves."""
        k = len(self._names)
        both = zip(self.places, values[k:], strict=True)
        return [*values[:k], *[p.owner if type(p) is places.Items else x for p, x in both]]

    def lists(self, log: dict[tuple, tuple[places.Place, Any]] | None = None) -> list[list[Any]]:
        """The lists among the variables and places, and of a log, that the traced function has made."""
        listener = places.listener()
        every = [*self.owners(self.get()), *[p.owner for p, _ in (log or {}).values() if type(p) is places.Items]]
        found = {id(x): x for x in every if type(x) is list}
        return [x for k, x in found.items() if listener is not None and k in listener.made]

    def wider(self, log: dict[tuple, tuple[places.Place, Any]]) -> State | None:
        """The state with the places of a log that it lacks; None if there are none, or if each attempt has its own."""
        known = {p.key for p in self.places}
        more = [p for k, (p, _) in log.items() if k not in known]
        apart = bool(self._latest) and self._latest.isdisjoint(log)
        if apart:
            more = [p for p in more if places.was_there(p.owner, self._scopes, self._spare > 0)]
        if not more:
            return None
        for p in more:
            places.kept(p)
        made = State(self._get, self._put, self._names, [*self.places, *more], self.uneven)
        if isinstance(self._also, list):
            self._also[:], made._also = made.places, self._also
        made._latest, made._spare, made._scopes = {p.key for p in more}, max(self._spare - apart, 0), self._scopes
        return made

    def without(self, log: dict[tuple, tuple[places.Place, Any]], boxes: Sequence[Box]) -> State:
        """The state without places that were written to when the same was traced before, and this time are not."""
        if not (self.places and isinstance(self._also, places.Recalled)):
            return self
        there = [p.key in log for p in self.places]
        self._also[:] = itertools.compress(self.places, there)
        for p in self._also:
            places.kept(p)
        if all(there):
            return self
        for box in boxes:
            if box.values is not None:
                box.values = [*itertools.compress(box.values, [*[True] * len(self._names), *there])]
        return State(self._get, self._put, self._names, self._also, self.uneven)

    def fewer(self, log: dict[tuple, tuple[places.Place, Any]]) -> State | None:
        """The same for a step of a loop, which is traced again then; None if there are no such places."""
        there = self.without(log, ())
        if there is self:
            return None
        made = State(self._get, self._put, self._names, there.places, self.uneven)
        made._spare, made._scopes = self._spare, self._scopes
        return made

    def holds(self, log: dict[tuple, tuple[places.Place, Any]]) -> None:
        """Raises `Narrow` if a step has written to places that the state lacks."""
        if (wider := self.wider(log)) is not None:
            raise Narrow(wider)


class Box:
    """Values of variables, which are not to be taken apart."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any] | None) -> None:
        self.values = values


def _select(
    test: Tensor, a: Region, b: Region, names: Sequence[str], dead: Sequence[str], put: Part, uneven: bool
) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []
    xs, ys = a.leaves[0].values, b.leaves[0].values
    if xs is None or ys is None:  # where a branch ends with an error, the other one's values are what there is
        ends, gone = (b, a) if xs is None else (a, b)
        values = ends.leaves[0].values or []
        makers = [only(n, ends, v, gone, pairs) for n, v in zip(names, values, strict=False)]
        pairs = [(x, y) if ends is a else (y, x) for x, y in pairs]
    else:
        both = zip(names, xs, ys, strict=True)
        when = {n: (x, y) for n, x, y in zip(names, xs, ys) if type(x) is type(y) is bool and x is not y}
        join = functools.partial(_either, test, when) if uneven else _merged
        makers = [_nothing(n) if n in dead else join(n, a, x, b, y, pairs) for n, x, y in both]
    try:
        made = emit_cond(test, a, b, pairs)
    except LeakedTensorError:  # it is in an object that one of the branches has made
        raise locate(ConversionError("a tensor of a branch or loop is kept outside of it")) from None
    if xs is None and ys is None:
        raise Unreachable("all branches end with errors")
    put(tuple([m(made) for m in makers]))
    a.joined.clear()  # which holds what was made


def _merged(
    name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]
) -> Callable[[Any], Any]:
    """As `merge`; objects of one class that the branches make become one."""
    cls = type(x)
    if x is y or cls is not type(y) or not (places.is_new(x) and places.is_new(y)) or cls.__new__ is not object.__new__:
        return merge(name, a, x, b, y, pairs)
    if is_record(x):
        return merge(name, a, x, b, y, pairs)
    if (x_y := (id(x), id(y))) in a.joined:
        return a.joined[x_y][0]  # type: ignore[no-any-return]
    own = merge(name, a, attributes_of(x), b, attributes_of(y), pairs)
    box: list[Any] = []

    def make(made: Any) -> Any:
        if not box:
            items = own(made)
            box.append(made_of(cls, items, items.values()))
            places.born(box[0])
        return box[0]

    a.joined[x_y] = make, x, y
    return make


def _either(
    test: Tensor, when: dict[str, Any], name: str, a: Region, x: Any, b: Region, y: Any,
    pairs: list[tuple[Tensor, Tensor]],
) -> Callable[[Any], Any]:  # fmt: skip
    """As `_merged`, where tensors may have two shapes."""
    if type(x) is not Either and type(y) is not Either:
        try:
            return _merged(name, a, x, b, y, pairs)
        except (ShapeError, ConversionError) as e:
            if not (e.of_branches and isinstance(x, Operand) and isinstance(y, Operand)):
                raise
            error: ControlFlowError = ended_unevenly(e)
    elif x is y:
        return lambda made: x
    else:
        error = next(v.error for v in (x, y) if type(v) is Either)
    first, second = _carried(a, x, b, pairs, True), _carried(b, y, a, pairs, False)
    return lambda made: Either(test, first(made), second(made), error, when)


def _carried(
    r: Region, x: Any, other: Region, pairs: list[tuple[Tensor, Tensor]], first: bool
) -> Callable[[Any], Any]:
    """How what one branch gives leaves it; the other one gives zeros."""
    if type(x) is Either:
        flag, one, two = [_carried(r, v, other, pairs, first) for v in (x.flag, x.first, x.second)]
        return lambda made: Either(flag(made), one(made), two(made), x.error, x.when)
    if type(x) is Chosen:
        return chosen.carried(x, other, pairs, first)
    if not isinstance(x, Operand):
        return lambda made: x
    k, mine, zero = len(pairs), r.call(convert, x), other.call(zeros_like, x)
    pairs.append((mine, zero) if first else (zero, mine))
    return lambda made: made[k]


def ended_unevenly(e: ShapeError | ConversionError) -> ConversionError:
    """What a loop over Python objects leaves behind has one shape where it ends early, another where it does not."""
    error = ConversionError(f"{e.message}, depending on the step in which a loop ends")
    error.where, error.remedy = e.where, "let what is used after the loop have one shape"
    return error


def _nothing(name: str) -> Callable[[Any], Any]:
    return lambda made: Undefined(name)


def if_exp(test: Any, then: Part, orelse: Part, uneven: bool = False, also: Sequence[places.Place] = ()) -> Any:
    """`a if test else b`, both as functions, which may give tensors of two shapes if that is `uneven`."""
    test = decided(test)
    if not traced(test):
        return then() if test else orelse()
    box: list[Any] = [None]

    def keep_result(f: Part) -> Part:
        def run() -> None:
            box[0] = f()

        return run

    def put(new: Sequence[Any]) -> None:
        box[0] = new[0]

    state = State(lambda: tuple(box), put, ["the expression"], places.recalled(then) if also == () else also, uneven)
    branches(test, keep_result(then), keep_result(orelse), state, ())
    return box[0]
