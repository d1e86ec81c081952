"""Calls in branches and loops that change containers from outside: left to the run of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autograph import effects, growing, places, reads
from tracejit.autograph.attempts import MadeHere, Site
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.effects import Effect, Late, Path, Pending
from tracejit.autograph.holders import Note, Outside
from tracejit.autograph.recipes import check_kept, refused
from tracejit.autograph.results import Own, Result, as_leaves
from tracejit.autograph.standins import StandIns
from tracejit.context import context
from tracejit.errors import ConversionError, Location, user_frame
from tracejit.ir.op import OPS
from tracejit.ops import host
from tracejit.ops.host import exact, python_kind
from tracejit.tensor import Operand, Variable, convert, wrap
from tracejit.tracing import unborn
from tracejit.tree import flatten

NO_RESULT = {
    "append", "extend", "insert", "update", "clear", "remove", "reverse", "sort", "add", "discard", "appendleft",
    "extendleft", "rotate", "move_to_end", "subtract", "difference_update", "intersection_update",
    "symmetric_difference_update",
}  # fmt: skip
_SAFE = {"append", "appendleft", "clear", "reverse", "rotate"}  # of these calls none fails


class Target(Note):
    """What a call in a branch or loop changes when the program runs, and the line of the call."""

    __slots__ = ("owner", "site", "given")

    def __init__(self, owner: Any, site: Site | None, given: Sequence[Any]) -> None:
        self.owner, self.site, self.given = owner, site, given


class Deferring(StandIns):
    """The part of a trace's listener that hears such calls."""

    elsewhere: Any
    pending: Pending
    detached: ConversionError | None
    _raws: list[Any]
    _on_arguments: set[Path]

    def __init__(self) -> None:
        super().__init__()
        self._deferred: list[Target] = []

    def own(self) -> list[Any]:
        return [*super().own(), self._deferred]

    def forget(self) -> None:
        super().forget()
        self._deferred = []

    def merged(self, x: Any) -> None:
        sites = {t.site for t in self._deferred if t.owner is x}
        if sites:
            raise MadeHere(sites)  # as part of the branch's state it is known what the container holds

    def carried(self, x: Any) -> None:
        """A container is part of the state of a branch or loop: a call that is given it would have that of before."""
        sites = {t.site for t in self._deferred if any(y is x for y in t.given)}
        if sites:
            raise MadeHere(sites)

    def defers(self, owner: Any, name: str, unused: bool) -> bool:
        """Whether a call in a branch or loop is left to the run of the program."""
        return (
            self.elsewhere and (unused or name in NO_RESULT) and id(owner) not in self.made
            and not context.trace.in_gradient  # type: ignore[union-attr]
            and not growing.is_grown(owner) and not growing.is_partial(owner)
            and _site(user_frame(2)) not in self.memory.local
        )  # fmt: skip

    def defer(self, owner: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        self.changes_several(owner)
        flat, structure = flatten(as_leaves((args, kwargs), self._is_kept))
        if any(isinstance(x, Variable) and x in unborn for x in flat):
            raise refused("a Variable made in a branch or loop is kept outside of it", user_frame(2))
        if growing.has_grown([*args, *kwargs.values()]) or any(
            type(x) is Result or id(x) in self.made for x in flat if not isinstance(x, Operand)
        ):
            raise MadeHere({_site(user_frame(2))})  # an object of this call; the branch's own state can hold it
        for x in flat:
            if not isinstance(x, Operand) and type(x) not in (Chosen, Own):
                check_kept(x, (), user_frame(2))
        flat = [self._later(x.container) if type(x) is Own else x for x in flat]
        taken = [i for i, x in enumerate(flat) if isinstance(x, Operand) and host.is_traced(x)]
        kinds = {i: python_kind(flat[i]) for i in taken}
        several = [i for i, x in enumerate(flat) if type(x) is Chosen]
        tensors = [convert(flat[i]) if kinds[i] is None else exact(flat[i]) for i in taken]
        tensors += [flat[i].index for i in several]
        target = Target(owner, _site(user_frame(2)), [x for x in flat if places.is_container(x)])
        if any(t.dtype.kind in "fc" for t in tensors):
            what = f"a tensor is given to a {type(owner).__name__} in a branch or loop"
            self.detached = refused(f"{what}, and tapes would not know its origin", user_frame(2))
        number, queue, path = len(self._raws), self.pending, self.given.get(id(owner))
        do = effects.call(name, len(args), list(kwargs))
        if path is not None:
            self._on_arguments.add(path)

        def run(*arrays: Any) -> tuple[()]:
            values = list(flat)
            for i, a in zip(several, arrays[len(taken) :], strict=True):
                values[i] = flat[i].values[int(a)]
            for i, a in zip(taken, arrays):
                python = kinds[i]
                values[i] = wrap(a.copy()) if python is None else python(a)
            step = Effect(do, target.owner, path, (), None)
            queue.queue.append((number, step, structure, values))
            return ()

        OPS["host_call"](*tensors, f=(host.Noting if name in _SAFE else host.Callback)(run, name), types=())
        self._deferred.append(target)
        def known_only_later() -> None:
            raise MadeHere({target.site})  # as part of the state of the branch or loop it can be read

        reads.defer(owner, known_only_later)

    def _is_kept(self, x: Any) -> bool:
        """Whether a container is that of others, or may be used again."""
        those = [id(x), *self._in_place_of.get(id(x), ())]
        return id(x) in self.given or self.theirs(x) is not None or self.is_reachable(those)

    def _later(self, x: Any) -> Any:
        """A container that a call in a branch or loop is given: what it holds when the function ends."""
        if id(x) not in self.given and self.theirs(x) is not None:
            return x
        if places.age(x) > 1:
            raise MadeHere({_site(user_frame(3))})
        self._late.append(x)
        return Late(len(self._late) - 1)

    def check_deferred(self, outside: Outside) -> None:
        """Raise `MadeHere` for calls that change what only the function holds."""
        sites = {t.site for t in self._deferred if id(t.owner) not in outside}
        if sites - self.memory.local:
            raise MadeHere(sites)


def _site(loc: Location | None) -> Site | None:
    return None if loc is None else (loc.file, loc.line)
