"""What one attempt at a trace finds out for the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph.places import Place
from tracejit.errors import Abandoned, ConversionError, locate

BIRTHS = 8  # calls for equal arguments that may make Variables before the function runs as plain Python


class MovingPlaces(Abandoned):
    """The function reads and writes numbers or tensors at these places, which become inputs: trace again."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places


class MadeHere(Abandoned):
    """What a line adds to in a branch or loop is the function's own, or is read afterwards: trace again."""

    def __init__(self, sites: set[Site | None]) -> None:
        self.sites = sites


Site = tuple[str, int]


class Memory:
    """What earlier attempts at a trace have found out."""

    def __init__(self) -> None:
        self.moving: dict[tuple, Place] = {}
        self.varying: dict[tuple, Place] = {}  # places that are only read, whose numbers are inputs too
        self.fixed: set[tuple] = set()  # places whose numbers steer Python control flow
        self.ahead: dict[int, Ahead] = {}
        self.births = 0  # traces that made Variables
        self.local: set[Site | None] = set()

    def learn(self, found: MovingPlaces | MadeHere) -> None:
        if isinstance(found, MadeHere):
            self.local |= found.sites
        else:
            self.moving.update({p.key: p.lasting() for p in found.places})

    def count_births(self) -> None:
        self.births += 1
        if self.births > BIRTHS:
            raise locate(
                ConversionError(
                    "Variables that outlive the call are made in each call",
                    remedy="make them once, and assign to them",
                )
            )

    def fix(self, params: set[Any]) -> bool:
        """Whether Python needs the values at places only, which are constants from now on."""
        places = {p for p in params if p in self.moving or p in self.varying}
        self.fixed |= places
        return len(places) == len(params) > 0


class Ahead:
    """What tracing took from an iterator, to know its type: the next runs get it."""

    def __init__(self, iterator: Any) -> None:
        self.iterator, self.values, self.seen = iterator, deque[Any](), 0

    def look(self, step: Callable[[], Any]) -> Any:
        if self.seen == len(self.values):
            self.values.append(step())
        self.seen += 1
        return self.values[self.seen - 1]

    def take(self, step: Callable[[], Any]) -> Any:
        return self.values.popleft() if self.values else step()
