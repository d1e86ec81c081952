"""What stands in `with` statements of converted code: managers that are converted, and what none may swallow."""

from __future__ import annotations

import contextlib
import dis
import functools
import types
from collections.abc import Callable
from typing import Any

from tracejit.autograph import places, reads, watching
from tracejit.autograph.calls import WRAPPERS, called, callee, converted, replace
from tracejit.autograph.failures import NOT_CAUGHT, catching
from tracejit.autograph.hostcalls import Yields
from tracejit.autograph.owners import is_users
from tracejit.context import context
from tracejit.errors import Abandoned, ConversionError, locate
from tracejit.runtime.guards import raw


class _Entered:
    """A context manager. It sees the end of a trace that is given up, but cannot keep it from ending."""

    __slots__ = ("_of", "_enter", "_leave", "_tried", "_watches")

    def __init__(
        self, of: Any, enter: Callable[..., Any], leave: Callable[..., Any], tried: catching | None,
        watches: list[watching.Watch],
    ) -> None:  # fmt: skip
        self._of, self._enter, self._leave, self._tried, self._watches = of, enter, leave, tried, watches

    def __enter__(self) -> Any:
        value = self._enter(self._of)
        if self._tried is not None:
            self._tried.__enter__()
        return value

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> Any:
        if self._tried is not None:
            try:
                self._tried.__exit__(kind, *error)
            except ConversionError as e:
                self._leave(self._of, type(e), e, None)
                raise
        left = self._leave(self._of, kind, *error)
        for w in self._watches:
            w.fail(kind is not None and issubclass(kind, NOT_CAUGHT))
        return False if kind is not None and issubclass(kind, NOT_CAUGHT) else left


def entered(x: Any) -> Any:
    """What stands in a `with` statement."""
    cls = type(x)
    if context.trace is None or cls.__module__.startswith("tracejit."):
        return x
    if isinstance(x, contextlib.redirect_stdout | contextlib.redirect_stderr):
        raise locate(ConversionError("what it prints is sent elsewhere for a while"))
    reads.special(x, "__enter__", "__exit__")
    reads.asked(x, asks=("__enter__",))
    enter, leave = raw(cls, "__enter__"), raw(cls, "__exit__")
    if _is_for_others(x) or not all(isinstance(f, types.FunctionType) for f in (enter, leave)):
        if not (watching.is_own(x) or cls.__module__ in _OWN):
            raise locate(ConversionError(f"a {cls.__name__} from outside is entered, which is for all of the call"))
        return x
    if isinstance(x, contextlib.ExitStack):
        places.made(x)
    if isinstance(x, contextlib._GeneratorContextManager) and type(gen := x.gen) is Yields:
        gen.managed = True
    watches = [] if is_users(cls) else watching.entered(x, enter, leave)
    kinds: tuple[type, ...] = getattr(x, "_exceptions", ()) if isinstance(x, contextlib.suppress) else ()
    if not is_users(cls) and cls.__module__ != "contextlib" and _swallows(leave.__code__):
        kinds = (Exception,)
    if is_users(cls):
        kinds = (Exception,) if _swallows(leave.__code__) else ()
        enter, leave = callee(enter), callee(leave)
    return _Entered(x, enter, leave, catching(lambda: kinds) if kinds else None, watches)


def _is_for_others(x: Any) -> bool:
    """Whether something is held that others wait for, who would see what Python objects are before the call ends."""
    return type(x).__module__ in ("threading", "multiprocessing.synchronize", "_thread")


_OWN = {"numpy", "numpy.core", "_decimal", "builtins"}  # which give back what they have changed


# --- contextlib.ExitStack ---------------------------------------------------------------------------------------------
_callback, _push, _enter = contextlib.ExitStack.callback, contextlib.ExitStack.push, contextlib.ExitStack.enter_context


def _check(stack: Any) -> None:
    """Refuse to give a stack from outside what would be done once, or to give it something in a branch or loop."""
    listener = places.listener()
    if listener is not None and (id(stack) not in listener.made or places.is_of_steps_around(stack)):
        raise locate(ConversionError("an ExitStack is given something in a branch or loop, or is from outside"))


def _calls_back(stack: Any, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    _check(stack)
    _callback(stack, called(f), *args, **kwargs)
    return f


def _pushed(stack: Any, x: Any) -> Any:
    _check(stack)
    _push(stack, entered(x) if hasattr(type(x), "__exit__") else called(x))
    return x


def _entered_in(stack: Any, x: Any) -> Any:
    _check(stack)
    return _enter(stack, entered(x))


for _plain, _ours in ((_callback, _calls_back), (_push, _pushed), (_enter, _entered_in)):
    replace(_plain, converted(_ours))


class passing:
    """Lets what ends a trace pass the clauses of an `except*`, none of which is for it, until their `end`."""

    __slots__ = ("_error",)

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and issubclass(kind, NOT_CAUGHT):
            self._error = self._error or error
            raise Abandoned

    def end(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error


@functools.lru_cache(1024)
def _swallows(code: types.CodeType) -> bool:
    """Whether an `__exit__` may return something that counts as true, so that errors end there."""
    before: Any = None
    for i in dis.get_instructions(code):
        if i.opname == "RETURN_CONST" and i.argval:
            return True
        constant = before is not None and before.opname == "LOAD_CONST"
        if i.opname == "RETURN_VALUE" and not (constant and not before.argval):
            return True
        before = i
    return False


def _decorated(f: Any, *args: Any, **kwargs: Any) -> Any:
    """What a `contextlib.ContextDecorator` makes of a function."""
    own = dict(zip(f.__code__.co_freevars, [c.cell_contents for c in f.__closure__], strict=True))
    x = own["self"]
    if isinstance(x, contextlib._GeneratorContextManager):
        x = contextlib._GeneratorContextManager(callee(x.func), x.args, x.kwds)  # type: ignore[attr-defined]
    else:
        x = called(x._recreate_cm)()
    with entered(x):
        return called(own["func"])(*args, **kwargs)


WRAPPERS[contextlib.ContextDecorator()(len).__code__] = _decorated  # type: ignore[attr-defined]
