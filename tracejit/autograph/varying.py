"""Numbers of attributes and items that have another value in call after call: they become inputs of the trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autograph import places
from tracejit.autograph.places import Place
from tracejit.runtime.guards import Attribute, Guard, Guards, Item, own_dict

VALUES = 4  # for that many there are traces of their own


def varying(earlier: Sequence[Guards]) -> tuple[dict[tuple[Any, ...], Place], set[tuple[Any, ...]]]:
    """Where these traces, none of which holds, have found one number after another: what can be read as an input there,
    and the keys of all of them, which for what a trace also writes are those of its inputs."""
    found: dict[tuple[Any, ...], Place] = {}
    keys: set[tuple[Any, ...]] = set()
    for g in earlier[-1].guards if earlier else ():
        now = g.now() if g.owner() is not None else None
        if type(now) not in (int, float) or g.holds():
            continue
        values = [h.held.get() for e in earlier for h in e.guards if h.key == g.key]
        if len({x for x in values if type(x) is type(now)}) < VALUES:
            continue
        keys.add(g.key)
        if (place := place_of(g)) is not None:
            keys.add(place.key)
            found[place.key] = place.lasting()
    return found, keys


def place_of(g: Guard) -> Place | None:
    """Where the value lies, if converted code reads it in no other way than by asking for it there."""
    x, at = g.owner(), g.key[2]
    if type(g) is Attribute and at in (own_dict(x) or ()):
        return places.Attribute("attribute", f"{type(x).__name__}.{at}", x, at)
    return places.item_of(x, at) if type(g) is Item else None
