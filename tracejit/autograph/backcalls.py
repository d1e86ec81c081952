"""Code of C's that calls special methods of the user's by itself, and bodies of classes: what they change is found."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracejit.autograph import places, specials
from tracejit.autograph.owners import is_users
from tracejit.autograph.watching import Watch
from tracejit.context import context


def calling(names: Iterable[str], f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls code of C's, which may call the special methods with these names of what it is given."""
    return calling_back(specials.among((*args, *kwargs.values()), frozenset(names)), f, *args, **kwargs)


def calling_back(
    methods: Sequence[Any], f: Callable[..., Any], /, *args: Any, ag_but: Any = None, **kwargs: Any
) -> Any:
    """Calls code of C's, which may call these methods. What it does to `ag_but`, which it then changes, is told
    elsewhere."""
    if not methods or places.listener() is None or context.trace is None:
        return f(*args, **kwargs)
    watch = Watch(None, methods, {}, False, " or ".join(sorted({getattr(m, "__name__", "") for m in methods} - {""})))
    watch.strict = True
    watch.parts = [p for p in watch.parts if p.of is not ag_but]
    try:
        made = f(*args, **kwargs)
    except Exception:
        watch.fail()
        raise
    watch.end(made, _not_again if ag_but is not None else lambda: f(*args, **kwargs))
    return made


def _is_eq(m: Any) -> bool:
    return isinstance(m, types.MethodType) and m.__name__ == "__eq__"


def key(x: Any) -> Any:
    """`x`, about to be a key: whether Python finds it changes something is tried before."""
    found = specials.among([x], specials.KEY) if is_users(type(x)) or type(x) is tuple else []
    if found and places.listener() is not None:
        calling_back(found, lambda: _tried(x, [m for m in found if _is_eq(m)]))
    return x


def _tried(x: Any, equal: Sequence[types.MethodType]) -> None:
    hash(x)
    for m in equal:
        with contextlib.suppress(Exception):  # which Python raises where it does compare
            m(m.__self__)


def class_starts(body: types.FunctionType, bases: tuple[Any, ...]) -> Watch | None:
    """The body of a class in a function is about to run, after those of its bases' methods that make classes."""
    if places.listener() is None or context.trace is None:
        return None
    named = [body.__globals__.get(n) for n in body.__code__.co_names]
    users = specials.of_bases(bases, [k for k in named if isinstance(k, type)])
    return Watch(None, (body, *users), {}, False, "the body of a class")


def class_ends(watch: Watch | None) -> None:
    if watch is not None:
        watch.end(None, _not_again)


def _not_again() -> None:
    raise TypeError
