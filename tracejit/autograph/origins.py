"""Which container one is that stands in the place of two that branches leave: the tests of the branches say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import places
from tracejit.autograph.nests import is_mutable, is_new, item, keys_of
from tracejit.autograph.values import Contents
from tracejit.ops.regions import Region
from tracejit.tensor import Tensor, convert

Made = Callable[[Sequence[Tensor]], Any]


class Leaf:
    """A container; or a mark of one that a branch has made: behind it stand its items in what stands for it."""

    __slots__ = ("container", "fresh")

    def __init__(self, x: Any, fresh: bool) -> None:
        self.container, self.fresh = x, fresh

    def containers(self) -> list[Any]:
        """Those around the branches that it may be."""
        return [] if self.fresh else [self.container]


class Origin:
    """`one` where `flag`, a 0-d bool, is true, else `two`."""

    __slots__ = ("flag", "one", "two")

    def __init__(self, flag: Any, one: Origin | Leaf, two: Origin | Leaf) -> None:
        self.flag, self.one, self.two = flag, one, two

    def containers(self) -> list[Any]:
        return self.one.containers() + self.two.containers()


def at_join(a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """What tells which of two containers is meant behind two branches; None where nothing does. Adds to `pairs`."""
    test, known = a.chosen_by[0], getattr(places.listener(), "origins", None)
    one, two = [None if known is None else _leaving(known, v, a.marks) for v in (x, y)]
    if test is None or one is None or two is None:
        return lambda made: None
    first, second = _carried(one, b, pairs, True), _carried(two, a, pairs, False)
    return lambda made: Origin(test, first(made), second(made))


def _leaving(known: dict[int, Origin], x: Any, marks: dict[int, object]) -> Origin | Leaf | None:
    """What tells which container `x` is, of which those are fresh that a branch has made which ends now."""
    if isinstance(x, Origin):
        one, two = [_leaving(known, v, marks) for v in (x.one, x.two)]
        return None if one is None or two is None else Origin(x.flag, one, two)
    if isinstance(x, Leaf):
        return x if x.fresh else _leaving(known, x.container, marks)
    new = is_new(x)
    if not (new and places.is_one_of_several(x)):
        return _fresh(x, marks) if new or places.is_filler(x) else Leaf(x, False)
    return _leaving(known, known[id(x)], marks) if id(x) in known else None


def _fresh(x: Any, marks: dict[int, object]) -> Leaf:
    return Leaf(marks.setdefault(id(x), object()), True)


def _carried(x: Origin | Leaf, gone: Region, pairs: list[tuple[Tensor, Tensor]], first: bool) -> Made:
    """The same with tests that are known behind the branch."""
    if isinstance(x, Leaf):
        return lambda made: x
    k, no = len(pairs), gone.call(convert, False)
    pairs.append((x.flag, no) if first else (no, x.flag))
    one, two = [_carried(v, gone, pairs, first) for v in (x.one, x.two)]
    return lambda made: Origin(made[k], one(made), two(made))


def are_told_apart(values: Sequence[Any]) -> bool:
    """Whether there are containers among these that a loop may put others in the place of."""
    return places.listener() is not None and any(type(v) is tuple or is_mutable(v) for v in values)


def after_loop(
    ran: Tensor, names: Sequence[str], before: Sequence[Any], last: Sequence[Any], values: Sequence[Any]
) -> None:
    """Let it be known which containers these values are: those that the last step has made, or without one, those of
    before."""
    marks = dict[int, object]()
    for name, x, y, new in zip(names, before, last, values, strict=True):
        if type(name) is not Contents:
            _after_loop(ran, x, y, new, marks)


def _after_loop(ran: Tensor, x: Any, y: Any, new: Any, marks: dict[int, object]) -> None:
    if not ((type(new) is tuple or is_mutable(new)) and type(x) is type(y) is type(new)) or new is x:
        return
    if type(new) is not tuple and is_new(y) and not places.is_one_of_several(y):
        places.comes_from(new, Origin(ran, _fresh(y, marks), Leaf(x, False)))
    if len(keys_of(new)) == len(keys_of(x)) == len(keys_of(y)):
        for k in keys_of(new):
            if type(new) is not dict or (k in x and k in y):
                _after_loop(ran, item(x, k), item(y, k), item(new, k), marks)
