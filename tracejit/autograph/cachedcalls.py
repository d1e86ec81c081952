"""Calls of functions of `functools.lru_cache`: made as plain Python, while what they have kept is guarded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tracejit.autograph import calls, reads
from tracejit.autograph.backcalls import key
from tracejit.autograph.calls import callee
from tracejit.context import context, tracing
from tracejit.errors import ConversionError, locate
from tracejit.ops.host import is_traced
from tracejit.runtime import cachedcalls
from tracejit.tree import flatten


def _cached(f: Any) -> Callable[..., Any]:
    """What to call in the place of a cached function, or of one of its methods."""
    return functools.partial(_called if type(f) is cachedcalls.Cached else _asked, f)


def _called(f: Any, *args: Any, **kwargs: Any) -> Any:
    if context.trace is None or not reads.active():
        return f(*args, **kwargs)
    if f.cache_parameters()["maxsize"] == 0:
        return callee(f.__wrapped__)(*args, **kwargs)
    for x in flatten([args, kwargs])[0]:
        key(x)
        if is_traced(x):
            hash(x)  # which asks for a number to be known
            raise locate(ConversionError(f"{f.__name__}(), which keeps its results, is called with a traced tensor"))
    if not cachedcalls.known():
        raise locate(ConversionError(f"{f.__name__}() keeps its results where they cannot be looked at"))
    with tracing(None):  # it may have been called before
        made = f(*args, **kwargs)
    reads.cached(f, cachedcalls.key_of(f, args, kwargs), made)
    return made


def _asked(f: Any, *args: Any) -> Any:
    if context.trace is not None and f.__name__ in ("cache_info", "cache_clear"):
        raise locate(ConversionError(f"{f.__name__}() of a function that keeps its results is called"))
    return f(*args)


for _f in (_called, _asked):
    _f.ag_original = _f  # type: ignore[attr-defined]
calls.keep["cached"] = _cached
