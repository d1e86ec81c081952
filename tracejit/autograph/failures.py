"""Errors of the user's code in branches and loops: raised when the program comes there, not when it is traced."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tracejit.autograph.chosen import Chosen, mapped, refused
from tracejit.autograph.values import Optional
from tracejit.context import context
from tracejit.errors import (
    Abandoned,
    ControlFlowError,
    ConversionError,
    DivisionError,
    Location,
    OutOfRangeError,
    TracedValueError,
    TracejitError,
    ends_inside,
    is_internal,
    locate,
    location_at,
    user_frame,
)
from tracejit.ir.graph import Node
from tracejit.ir.text import walk
from tracejit.ops.check import ERRORS
from tracejit.ops.host import Noting, Text, host_call
from tracejit.pynumbers import LIMITS
from tracejit.tensor import Operand
from tracejit.tree import flatten

Catch = tuple[Any, tuple[type, ...], Location | None]  # the trace around a `try`, what it catches, where it stands


# what ends a trace, which the user's `except` clauses let pass: plain Python raises nothing there
NOT_CAUGHT = (Abandoned, ConversionError, TracedValueError)
MARK = "ag_raised"  # the attribute of an error that the user's code has raised
later: list[Callable[[Exception], None]] = []  # how an error is left to the run of the program


class Unreachable(ConversionError):
    """All ways through a branch or loop end with errors: what follows is not traced."""


class _State(threading.local):
    def __init__(self) -> None:
        self.catching: list[Catch] = []
        self.tentative = 0  # attempts around that may be given up
        self.counting = 0  # those of them that steps with a Python number each would take the place of
        self.in_region = False  # whether the latest recursion went through branches or loops


_state = _State()


# --- raising ----------------------------------------------------------------------------------------------------------
def raised(error: Any, *cause: Any) -> Any:
    """What a `raise` statement raises, `from` a cause perhaps."""
    if isinstance(error, type) and issubclass(error, BaseException):
        error = error()
    if type(error) is Chosen:
        raise refused(error, "is raised")
    if isinstance(error, Exception) and context.trace is not None:
        error.__dict__[MARK] = True
    if isinstance(error, BaseException):
        for c in cause:
            error.__cause__ = c() if isinstance(c, type) else c
    return error


def here() -> Any:
    """The trace at hand, where a `try` begins."""
    return context.trace


def thrown(error: Any, kinds: Callable[[], Sequence[Any]], trace: Any, keeps: bool, *cause: Any) -> Any:
    """What a `raise` in the body of a `try` does: where a tensor decides that it is met, it gives the number of the
    handler, of these kinds, that the program goes on with, and the error if that is wanted. Else it raises it."""
    error = raised(error, *cause)
    if context.trace is trace:
        raise error
    args = list(error.args)
    for k, kind in enumerate(kinds()):
        if isinstance(error, _flat(kind)):
            if not keeps:
                return k + 1
            if any(isinstance(x, (Text, Operand, Chosen)) for x in flatten(args)[0]):
                raise locate(ConversionError("an error that tells of tensors is caught and looked at"))
            return k + 1, error
    raise error


def caught(error: Any) -> Any:
    """The error in a handler that a tensor has chosen."""
    if type(error) is Chosen:
        some = next(v for v in error.values if v is not None)
        return mapped(error, lambda v: some if v is None else v)
    return error.value if type(error) is Optional else error


def meanwhile(error: Any, handled: Any) -> Any:
    """What such a handler raises."""
    if isinstance(error, type) and issubclass(error, BaseException):
        error = error()
    handled = caught(handled)
    if isinstance(error, BaseException) and isinstance(handled, BaseException) and error is not handled:
        error.__context__ = handled
    return error


@contextmanager
def tentative(counting: bool = False) -> Iterator[None]:
    """A block that is given up if something goes wrong: errors that the user's code does not ask for leave it.

    `counting` says that numbers will be known that are tensors in it.
    """
    _state.tentative += 1
    _state.counting += counting
    try:
        yield
    finally:
        _state.tentative -= 1
        _state.counting -= counting


def is_caught() -> bool:
    """Whether an error may be caught by the function at hand."""
    return bool(_state.catching)


def may_be_known() -> bool:
    """Whether numbers that are tensors now will perhaps be known in a later attempt."""
    return _state.counting > 0


def reaches_end(part: Callable[[], Any]) -> bool:
    """Run a part of a region; whether its end is reached. An error becomes one that the program raises there."""
    try:
        part()
    except Unreachable:
        return False
    except RecursionError:
        _state.in_region = True
        raise
    except Exception as e:
        if not is_users_error(e):
            raise
        _refuse_caught(e)
        later[-1](e)
        return False
    return True


def abandoned() -> bool:
    """Whether the block that is being left is left because its function is traced anew, or not at all."""
    return isinstance(sys.exception(), NOT_CAUGHT)


class leaving:
    """A `try` of which the `finally` may leave what is around it, and with that ends an error: `flags` says it."""

    __slots__ = ("_flags",)

    def __init__(self, flags: Callable[[], tuple[Any, ...]]) -> None:
        self._flags = flags

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> bool:
        if kind is None or not issubclass(kind, Exception) or issubclass(kind, NOT_CAUGHT):
            return False
        flags = self._flags()
        if not all(type(f) is bool for f in flags):
            raise locate(ConversionError(f"a tensor decides whether a `finally` ends {kind.__name__}"))
        return any(flags)


def is_users_error(e: Exception) -> bool:
    """Whether plain Python would raise the error too."""
    if MARK in e.__dict__:
        return True
    if _state.tentative or isinstance(e, (RecursionError, MemoryError, Warning)):
        return False
    if isinstance(e, TracejitError):
        return isinstance(e, (OutOfRangeError, DivisionError))
    return not ends_inside(e.__traceback__)


def frames_of(e: BaseException) -> list[Any]:
    """The frames of an error's traceback and where they are, the outermost first."""
    out, tb = [], e.__traceback__
    while tb is not None:
        out.append((tb.tb_frame, tb.tb_lasti))
        tb = tb.tb_next
    return out


# --- recursion --------------------------------------------------------------------------------------------------------
@contextmanager
def recursion_explained() -> Iterator[None]:
    """A trace: recursion without an end in it is an error that names the functions."""
    _state.in_region = False
    try:
        yield
    except RecursionError as e:
        raise _recursion(e) from None


def _recursion(e: RecursionError) -> ConversionError:
    found = [(f, at) for f, at in frames_of(e) if not is_internal(f.f_code.co_filename)]
    names = [f.f_code.co_name for f, _ in found]
    names = [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n][-64:]  # a function's parts are one
    period = next((p for p in range(1, 17) if names[-2 * p :] == 2 * names[-p:]), 1)
    cycle = " → ".join([*names[-period:], names[-period]]) if names else "?"
    if _state.in_region:
        text = f"the recursion {cycle} ends at a tensor's value, which is known only when the function runs"
        error = ConversionError(text, remedy="write it as a loop, or let a Python number that is known decide")
    else:
        error = ConversionError(f"the recursion {cycle} is too deep to be traced")
    error.where = [location_at(f, at) for f, at in found[-1:]]
    return error


# --- try --------------------------------------------------------------------------------------------------------------
class catching:
    """The body of a `try`: errors that only the program raises cannot be caught in it."""

    __slots__ = ("_kinds", "_caught", "_first")

    def __init__(self, kinds: Callable[[], Any]) -> None:
        self._kinds = kinds
        self._caught: Catch | None = None

    def __enter__(self) -> None:
        trace: Any = context.trace
        if trace is not None:
            self._caught = trace, _flat(self._kinds()), user_frame()
            self._first = len(trace.builder.nodes)
            _state.catching.append(self._caught)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        caught = self._caught
        if caught is None:
            return
        _state.catching.pop()
        if kind is None:
            nodes = caught[0].builder.nodes[self._first :]
            every = [m for n in nodes for m in [n, *[m for g in _regions(n) for m in g.nodes]]]
            if any(_may_raise(m, caught[1]) for m in every):
                raise _uncaught("an error that is known only when the program runs", caught)


@contextmanager
def ending(kind: type[Exception]) -> Iterator[None]:
    """A step of the user's iterator, which such an error ends: one that only the program raises would end none."""
    trace: Any = context.trace
    first = len(trace.builder.nodes) if trace is not None else 0
    _state.catching.append((trace, (kind,), None))
    try:
        yield
    finally:
        _state.catching.pop()
    for n in trace.builder.nodes[first:] if trace is not None else ():
        if n.op.name == "check" and _may_raise(n, (kind,)):
            raise locate(ConversionError(f"a tensor decides whether {kind.__name__} ends an iterator"))


def may_catch() -> bool:
    """Whether an error of a call would meet a handler."""
    return any(kind is not BaseException for _, kinds, _ in _state.catching for kind in kinds)


def _flat(kinds: Any) -> tuple[type, ...]:
    return tuple([k for x in kinds for k in _flat(x)]) if isinstance(kinds, tuple) else (kinds,)


def _regions(n: Node) -> list[Any]:
    return [g for _, a in n.attrs if hasattr(a, "nodes") for g in walk(a)]


def _may_raise(n: Node, kinds: tuple[type, ...]) -> bool:
    if n.op.name == "check":
        if n.attr("message").endswith(LIMITS):  # which plain Python does not have
            return False
        return issubclass(ERRORS[n.attr("error")], kinds)
    if n.op is not host_call or isinstance(n.attr("f"), Noting):
        return False
    return n.attr("f").name.split()[0] not in ("print", "raise")  # which say what they raise


def _refuse_caught(e: Exception) -> None:
    for caught in _state.catching:
        if isinstance(e, caught[1]):
            if caught[2] is None:
                raise locate(ConversionError(f"a tensor decides whether {type(e).__name__} ends an iterator")) from None
            raise _uncaught(f"the {type(e).__name__} of a branch or loop", caught) from None


def _uncaught(what: str, caught: Catch) -> ControlFlowError:
    error = ConversionError(f"{what} cannot be caught in compiled code: the `try` is at {caught[2]}")
    return locate(error)  # type: ignore[return-value]

