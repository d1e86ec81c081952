"""How much room the lists need that loops both add to and take from: what a step adds at most, and how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import places
from tracejit.autograph.growing import Pile, is_pile
from tracejit.autograph.piles import Retyped, Room, agreed, change, longer
from tracejit.errors import ConversionError, locate
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

class Rooms:
    """The lists among a loop's variables that are piles, while its steps are traced, with what these add to them."""

    def __init__(self, lists: Callable[[], list[list[Any]]]) -> None:
        self._lists = lists
        self._piles: list[Pile] = list({id(x[0]): x[0] for x in self.lists()}.values())
        self.own = [Room(p.room) for p in self._piles]
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
        """A step has been traced."""
        for r in self.own:
            r.most = r.pushes

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


def _is_zero(n: int | Dim) -> bool:
    return type(n) is int and n == 0


def _at_first(p: Pile) -> int:
    """For how many more items a list gets room in a loop that does not know how many it adds."""
    shapes = [tuple(r.shape)[1:] for r in p.rows]
    if not all(isinstance(n, int) for s in shapes for n in s):
        return 16
    return int(max(16, FIRST // max(1, sum(r.dtype.np.itemsize * product(s) for r, s in zip(p.rows, shapes)))))
