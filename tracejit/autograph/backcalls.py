"""Code of C's that calls special methods of the user's by itself, and bodies of classes: what they change is found."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any

from tracejit.autograph import places, specials
from tracejit.autograph.reaching import is_library_code
from tracejit.autograph.watching import Watch
from tracejit.context import context
from tracejit.runtime.guards import raw


def calling(names: Iterable[str], f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls code of C's, which may call the special methods with these names of what it is given."""
    return calling_back(specials.among((*args, *kwargs.values()), frozenset(names)), f, *args, **kwargs)


def calling_back(
    methods: list[types.MethodType], f: Callable[..., Any], *args: Any, ag_but: Any = None, **kwargs: Any
) -> Any:
    """Calls code of C's, which may call these methods, but is no call that could be made once more. What it does to
    `ag_but` is told elsewhere."""
    if not methods or places.listener() is None or context.trace is None:
        return f(*args, **kwargs)
    watch = Watch(None, methods, {}, False, " or ".join(sorted({m.__name__ for m in methods})))
    watch.parts = [p for p in watch.parts if p.of is not ag_but]
    try:
        made = f(*args, **kwargs)
    except Exception:
        watch.fail()
        raise
    watch.end(made, _not_again)
    return made


def class_starts(body: types.FunctionType, bases: tuple[Any, ...]) -> Watch | None:
    """The body of a class in a function is about to run, after those of its bases' methods that make classes."""
    if places.listener() is None or context.trace is None:
        return None
    methods = [raw(b, "__init_subclass__") for b in bases if isinstance(b, type)]
    kinds = {k for b in bases if isinstance(b, type) for k in (type(b), b) if issubclass(k, type)}
    methods += [raw(k, n) for k in kinds for n in ("__prepare__", "__new__", "__init__", "__call__")]
    found = [getattr(m, "__func__", m) for m in methods]
    users = [m for m in found if type(m) is types.FunctionType and not is_library_code(m.__code__)]
    return Watch(None, (body, *users), {}, False, "the body of a class")


def class_ends(watch: Watch | None) -> None:
    if watch is not None:
        watch.end(None, _not_again)


def _not_again() -> None:
    raise TypeError
