"""Functions in decorators: what is called, and which arguments it takes."""

from __future__ import annotations

import inspect
import types
from typing import Any

from tracejit.errors import is_internal


def called(f: Any) -> Any:
    """What a call of `f` runs first of the user's code: a decorator's wrapper, which may do more than what it wraps."""
    return inspect.unwrap(f, stop=_runs_users_code)


def _runs_users_code(f: Any) -> bool:
    f = getattr(f, "__func__", f)
    called = f if isinstance(f, types.FunctionType) else inspect.getattr_static(type(f), "__call__", None)
    code = getattr(called, "__code__", None)
    return code is not None and not is_internal(code.co_filename)


def signature(f: Any, named: bool = False) -> inspect.Signature:
    """The arguments that a call takes; if they are to be `named` and a wrapper takes any, those of what it wraps."""
    own = _own(f)
    return inspect.signature(f) if named and takes_any(own) else own


def _own(f: Any) -> inspect.Signature:
    if not isinstance(f, types.MethodType):
        return inspect.signature(called(f), follow_wrapped=False)
    own = _own(f.__func__)
    kept = list(own.parameters.values())
    return own.replace(parameters=kept[1:]) if kept and kept[0].kind is not kept[0].VAR_POSITIONAL else own


def takes_any(s: inspect.Signature) -> bool:
    kinds = [p.kind for p in s.parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


__all__ = ["called", "signature", "takes_any"]
