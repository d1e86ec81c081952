"""How much room the lists need that loops both add to and take from: what a step adds at most, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracejit.autograph import places
from tracejit.autograph.growing import Pile, is_pile, refused
from tracejit.autograph.piles import Retyped, Room, agreed, change, longer
from tracejit.errors import Abandoned, ConversionError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.ir.types import int64
from tracejit.ops.found import told
from tracejit.ops.regions import as_test
from tracejit.tensor import convert

FIRST = 1 << 13  # bytes of a buffer for which a loop does not know how long it has to be
LEVELS = (1 << 10, 1 << 9)  # how many times as long it gets each time that this is too short


def _number(x: Any) -> Any:
    return OPS["cast"](convert(x), dtype=int64)


class Short(Abandoned):
    """A step adds more to lists than the one that was traced for nothing, in which Python knew more: how much, by the
    identities of the lists."""

    def __init__(self, most: Mapping[int, int | Dim]) -> None:
        self.most = most


class Rooms:
    """The lists among a loop's variables that are piles, while its steps are traced, with what these add to them.

    `known` says of some lists how much a step adds, by their identities.
    """

    def __init__(self, lists: Callable[[], list[list[Any]]], known: Mapping[int, int | Dim]) -> None:
        self._lists, self._known = lists, known
        self._at_first = {id(x[0]): x for x in self.lists()}
        self._piles: list[Pile] = [x[0] for x in self._at_first.values()]
        self.own = [Room(p.room) for p in self._piles]
        self._asked = False  # whether each step asks if there is room
        self._given = [(r.around, r.around.pushes) for r in self.own if r.around is not None]
        for p, room in zip(self._piles, self.own, strict=True):
            p.room = room

    def lists(self) -> list[list[Any]]:
        return [x for x in self._lists() if is_pile(x)]

    def leave(self, lists: Sequence[list[Any]]) -> None:
        """The loop is done: its lists belong to what is around it again."""
        for p in (*self._piles, *[x[0] for x in (*self.lists(), *lists) if is_pile(x)]):
            while p.room in self.own:
                p.room = p.room.around

    def count(self) -> None:
        """A step has been traced for nothing."""
        for x, r in zip(self._at_first.values(), self.own, strict=True):
            known = self._known.get(id(x), 0)
            r.most = known if _exceeds(known, r.pushes) else r.pushes

    def begin(self) -> None:
        """A step of the node is going to be traced."""
        for r in self.own:
            r.pushes = 0

    def end(self) -> None:
        """It has been traced: raises `Short` where it adds more than there is room for.

        What has come from another list is known only where each step asks whether there is room.
        """
        both = zip(self._at_first.values(), self.own, strict=True)
        more = {id(x): r.pushes for x, r in both if _exceeds(r.pushes, r.most)}
        if more:
            raise Short({**self._known, **more})
        if not self._asked and any(r.mixed and not _is_zero(r.most) for r in self.own):
            raise refused("steps add to a list that has got its items from another one")

    def take_back(self) -> None:
        """The loop is traced again: forget what it has added to lists of the loop around it."""
        for room, pushes in self._given:
            room.pushes = pushes

    def retyped(self, e: Retyped) -> bool:
        """Let a list have items of another type, if it is for this loop to say."""
        mine = [x for x in self.lists() if x[0].room is e.room]
        for x in mine:
            self._put(x, agreed(x[0], e.like))
        return bool(mine)

    def _put(self, x: list[Any], pile: Pile) -> None:
        places.remember(places.Items(x))
        change(x, pile)

    def _growing(self) -> list[list[Any]]:
        return [x for x in self.lists() if x[0].room in self.own and not _is_zero(x[0].room.most)]

    def lengthen(self, steps: int | Dim | None) -> bool:
        """Give the lists room for what so many steps add; whether it is known how much that is."""
        self._asked = steps is None
        for x in self._growing():
            room = x[0].room
            if room.around is not None and steps is None:
                said = "a loop adds to a list of the loop around it as often as only the program knows"
                raise locate(ConversionError(said, remedy="let one loop do both, or use a tj.TensorArray"))
            if room.around is not None:
                room.around.pushes = room.around.pushes + room.most * steps
            elif steps is not None:
                self._put(x, longer(x[0], room.most * steps))
        return steps is not None or not self._growing()

    def lengthen_at_first(self) -> None:
        for x in self._growing():
            self._put(x, longer(x[0], _at_first(x[0])))

    def lengthen_later(self, go_on: Any, times: int) -> None:
        """Make lists so many times as long as they are if the loop goes on."""
        for x in self._growing():
            n = OPS["mul"](_number(x[0].room_for()), times - 1)
            self._put(x, longer(x[0], told(OPS["where"](as_test(go_on), n, 0))))

    def fits(self) -> Any:
        """Whether one more step has room for all that it adds."""
        ok: Any = True
        for x in self._growing():
            p = x[0]
            left = OPS["less_equal"](OPS["add"](p.count, _number(p.room.most)), _number(p.room_for()))
            ok = left if ok is True else OPS["logical_and"](ok, left)
        return ok


def _exceeds(n: int | Dim, most: int | Dim) -> bool:
    """Whether n may be above another number."""
    more = n - most
    return more.compare(0, "<=") is not True if isinstance(more, Dim) else more > 0


def _is_zero(n: int | Dim) -> bool:
    return type(n) is int and n == 0


def _at_first(p: Pile) -> int:
    """For how many more items a list gets room in a loop that does not know how many it adds."""
    shapes = [tuple(r.shape)[1:] for r in p.rows]
    if not all(isinstance(n, int) for s in shapes for n in s):
        return 16
    return int(max(16, FIRST // max(1, sum(r.dtype.np.itemsize * product(s) for r, s in zip(p.rows, shapes)))))
