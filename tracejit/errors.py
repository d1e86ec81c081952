"""The error classes, and where in the user's code we are."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_CONTEXTS = contextmanager.__code__.co_filename  # code that is this package's own where this package calls it
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_IN_PLACE_OF_USERS = (
    "operators", "calls", "branches", "protocols", "constructors", "contexts", "texts", "choices", "mutations",
    "stores", "backcalls",
)  # fmt: skip
_FOR_USERS = tuple([os.path.join(_HERE, "autograph", f"{n}.py") for n in _IN_PLACE_OF_USERS])
# what calls builtins for the user, whose errors are the user's, and is this package's own in all else
_OF_BUILTINS = ("numbers", "hostcalls", "orders", "ranges")
_FOR_BUILTINS = tuple([os.path.join(_HERE, "autograph", f"{n}.py") for n in _OF_BUILTINS])


class TracejitError(Exception):
    """What every error of tracejit derives from.

    `remedy` says what to do; it is printed on a line of its own. `call` is what the user called, with the arguments'
    types.
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        self.message, self.remedy = message, remedy
        self.call = ""
        self.where: list[Location] = []
        self.printed = False  # its lines stand above it already
        super().__init__(message)

    @property
    def __traceback__(self) -> TracebackType | None:  # type: ignore[override]
        """The traceback without this package's frames: errors of eager operations are raised far inside it, and a
        handler at each public function would slow all calls down."""
        settle(self)
        return trim(whole_traceback(self))

    @__traceback__.setter
    def __traceback__(self, tb: TracebackType | None) -> None:
        _slot.__set__(self, tb)

    def __str__(self) -> str:
        settle(self)
        lines = [f"{self.call}: {self.message}" if self.call else self.message]
        for loc in self.where[:3]:
            lines += loc.show()
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


class ShapeError(TracejitError, ValueError):
    """Shapes that do not fit: `tj.ones((2, 3)) @ tj.ones((4, 5))`."""

    of_branches = False  # whether two branches give them, both of which are right where there is no trace
    falls_back = False  # and whether the function that has them runs as plain Python instead


class DTypeError(TracejitError, TypeError):
    """Element types that do not fit, or a value that has none: `tj.constant("text")`."""


class ArgumentError(TracejitError, ValueError):
    """An argument outside its range, or one that does not go with another."""


class OutOfMemoryError(ArgumentError, MemoryError):
    """A tensor that there is no memory for, or that no machine has memory for: `tj.zeros((10**12,))`."""


class SignatureError(TracejitError, TypeError):
    """Arguments that the function does not take: too many, too few, or of another name."""


class OutOfRangeError(TracejitError, IndexError):
    """An index outside a tensor, or more indices than axes: `tj.ones((3,))[5]`."""


class UnsupportedError(TracejitError, TypeError):
    """What tensors do not do, though Python has a way to write it: `x[0] = 1.0`, `len()` of a tensor without axes."""


class MissingAttributeError(TracejitError, AttributeError):
    """A tensor has no such attribute: `tj.ones((3,)).assign(…)`."""


class DivisionError(TracejitError, ZeroDivisionError):
    """A Python number divided by zero in a traced function: `1 / n` with n = 0."""


class TracedValueError(TracejitError, TypeError):
    """A traced tensor's value was asked for while a function is being traced: `if x > 0:`, `float(x)`, `x.numpy()`.

    Also where a shape, a size or an axis is a traced tensor: eagerly the same call may be wrong in another way, and
    raises the error for that. All other errors have the same class eagerly and traced.
    """


class LeakedTensorError(TracejitError, RuntimeError):
    """A traced tensor was used after its trace had ended, for example because it was stored in a list outside."""


class ControlFlowError(TracejitError, TypeError):
    """Branches or steps of a loop that do not fit together, or a construct that cannot be compiled."""


class ConversionError(ControlFlowError):
    """A construct that cannot be compiled. The function that has it runs as plain Python; if it is strict, this is
    raised."""

    of_branches = False  # as that of shape errors, where it is sizes that only the running program knows
    of_lists = False  # whether it is that a list's items are asked for while it is not known how many there are


class UnsetError(ControlFlowError, UnboundLocalError):
    """A variable is used that a branch or loop has not set: `if x > 0: y = x`, then `y`."""


class UnsetAttributeError(ControlFlowError, AttributeError):
    """The same with an attribute of an object."""


class AliasError(ControlFlowError):
    """Items of a tensor are assigned in a traced function while something else holds the tensor: `y = x; x[0] = 1`."""


class GradientError(TracejitError, RuntimeError):
    """A gradient that cannot be taken: a tape used twice, a target that is no tensor."""


class NoDerivativeError(GradientError):
    """A derivative along an operand that an operation has none along."""


class GraphError(TracejitError, AssertionError):
    """A graph that breaks a rule of the IR; the verifier raises it. Always a fault of a pass, never of the user."""


class CompileWarning(UserWarning):
    """A function could not be compiled and runs in the reference interpreter."""


class ConversionWarning(UserWarning):
    """A function has a construct that cannot be compiled and runs as plain Python."""


class RetracingWarning(UserWarning):
    """A function is traced again and again, which is slow: its arguments differ in what is part of the key."""


class UnrollingWarning(UserWarning):
    """A loop whose steps Python counts is traced step by step, which is slow: it has very many operations."""


class Abandoned(BaseException):
    """What ends an attempt at a trace, which another follows."""


class Faults:
    """What went wrong in the compiler itself for one function: told once, and the function runs without it."""

    def __init__(self, name: str) -> None:
        self.name, self.errors = name, list[Exception]()

    def add(self, error: Exception) -> None:
        """Go on without what failed. With `config.check` the caller raises instead."""
        self.errors.append(error)
        if len(self.errors) == 1:
            text = (
                f"{self.name} could not be compiled and runs in the interpreter: {type(error).__name__}: {error}\n"
                f"  {blame(error)}\n"
                "  please report it with this line, the function, and the traceback that TRACEJIT_CHECK=1 gives"
            )
            warnings.warn(text, CompileWarning, stacklevel=user_depth())


def _walked(tb: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """As `traceback.walk_tb`, for which a large module would have to be loaded."""
    while tb is not None:
        yield tb.tb_frame, tb.tb_lineno
        tb = tb.tb_next


def blame(error: BaseException) -> str:
    """Which pass an error came from, and from which of its lines."""
    inside = []
    for f, line in _walked(whole_traceback(error)):
        path = os.path.relpath(f.f_code.co_filename, _HERE) if is_internal(f.f_code.co_filename) else ""
        if path.startswith(("passes", "lower", "backends", "runtime", "autodiff")):
            inside.append((path, f.f_code.co_name, line))
    named = [x for x in inside if not x[0].endswith("pipeline.py")] or inside
    if not named:
        return "outside the passes"
    (path, name, _), (file, _, line) = named[0], named[-1]
    kind = {"passes": "pass", "lower": "lowering"}.get(path.split(os.sep)[0], "running")
    return f"in {kind} {os.path.basename(path).removesuffix('.py')}.{name} ({file}:{line})"


class CacheWarning(UserWarning):
    """The disk cache could not be read or written; the work was done without it."""


class Location:
    """A line of the user's code: file, line number, function, and the columns of the expression where known."""

    __slots__ = ("file", "line", "function", "columns", "calls")

    def __init__(self, file: str, line: int, function: str, columns: tuple[int, int] | None = None) -> None:
        self.file, self.line, self.function, self.columns = file, line, function, columns
        self.calls: tuple[Location, ...] = ()  # the lines of the calls that led here, where they are known

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"

    def show(self) -> list[str]:
        """The location with its source text, and carets under the expression."""
        text = linecache.getline(self.file, self.line).rstrip("\n")
        head = f"  {os.path.basename(self.file)}:{self.line} in {self.function}:"
        if not text.strip():
            return [head]
        indent = len(text) - len(text.lstrip())
        lines = [f"{head}   {text.strip()}"]
        if self.columns and self.columns[1] > self.columns[0]:
            lines.append(" " * (len(head) + 3 + self.columns[0] - indent) + "^" * (self.columns[1] - self.columns[0]))
        return lines


def defined(name: str, code: CodeType | None) -> str:
    """A function by name, with the line of its definition: that after the decorators."""
    return name if code is None else f"{name}, defined at {definition(code).show()[0].strip()}"


def definition(code: CodeType) -> Location:
    """The line on which a function is defined: that after the decorators."""
    first, texts = code.co_firstlineno, linecache.getlines(code.co_filename)
    starts = (i for i, text in enumerate(texts[first - 1 : first + 50], first) if text.lstrip().startswith(_DEFINING))
    line = next(starts, first) if code.co_name != "<lambda>" else first
    return Location(code.co_filename, line, code.co_name)


_DEFINING = ("def ", "async def ")


def is_internal(filename: str) -> bool:
    return filename.startswith((_HERE, "<frozen"))


def acts_for_users(filename: str) -> bool:
    """Whether code is the user's, or does what the user's code says in its place."""
    return not is_internal(filename) or filename.startswith(_FOR_USERS)


_positions: dict[tuple[CodeType, int], tuple[int | None, int | None, int | None, int | None]] = {}


def _location(frame: FrameType) -> Location:
    return location_at(frame, frame.f_lasti, frame.f_lineno)


def location_at(frame: FrameType, at: int, line: int | None = None) -> Location:
    """The line and columns of an instruction of a frame's code."""
    return location_in(frame.f_code, at, line)


def location_in(code: CodeType, at: int, line: int | None = None) -> Location:
    """The same where the frame is not at hand."""
    columns = None
    key = (code, at)
    if key not in _positions:
        _positions[key] = (None, None, None, None)
        for i, p in enumerate(code.co_positions()):
            if i * 2 == at:
                _positions[key] = p
                break
    first, last, c0, c1 = _positions[key]
    line = first if line is None else line
    if first is not None and c0 is not None and c1 is not None and first == last:
        columns = (c0, c1)
    return Location(code.co_filename, line or 0, code.co_name, columns)


def user_frame(skip: int = 1) -> Location | None:
    """The innermost frame outside this package, or None."""
    f: FrameType | None = sys._getframe(skip)
    while f is not None:
        if not is_internal(f.f_code.co_filename):
            return _location(f)
        f = f.f_back
    return None


entries = set[CodeType]()  # functions of ours in which traces begin
parts: weakref.WeakSet[CodeType] = weakref.WeakSet()  # code that stands in the user's function around it, as branches


def entered(frame: FrameType) -> FrameType:
    """The frame of the user's call that a frame belongs to: branches and steps of loops have frames of their own."""
    f: FrameType | None = frame
    while f is not None and f.f_code in parts:
        f = f.f_back
        while f is not None and is_internal(f.f_code.co_filename):
            f = f.f_back
    return frame if f is None else f


def calls(f: FrameType | None, inner: bool = False) -> list[Location]:
    """The user's lines from a frame out to where its trace began, innermost first. `inner`: a part has been left."""
    found = []
    while f is not None and f.f_code not in entries:
        if not is_internal(f.f_code.co_filename):
            if not inner:
                found.append(f)
            inner = f.f_code in parts
        f = f.f_back
    return [_location(x) for x in (found if f is not None else found[:1])]


def called_line(skip: int = 1) -> Location | None:
    """The innermost line of the user's, with those of the calls that led there."""
    lines = calls(sys._getframe(skip))
    if lines:
        lines[0].calls = tuple(lines[1:])
    return lines[0] if lines else None


def user_code(skip: int = 1) -> CodeType | None:
    """The code that the innermost frame outside this package runs."""
    f: FrameType | None = sys._getframe(skip)
    while f is not None and is_internal(f.f_code.co_filename):
        f = f.f_back
    return None if f is None else f.f_code


def user_depth() -> int:
    """The `stacklevel` with which a warning of the caller's names the innermost line outside this package."""
    depth, f = 1, sys._getframe(1)
    while f.f_back is not None and is_internal(f.f_code.co_filename):
        depth, f = depth + 1, f.f_back
    return depth


# Says which public function a frame of this package is the call of, with its arguments; the line is the user's.
# `publicnames` sets it.
describe_call: list[Callable[[FrameType, str], str]] = []


def kernel_error(error: Exception) -> type[TracejitError]:
    """The class for an error of a NumPy function, which is no error of the package's own."""
    if isinstance(error, MemoryError) or str(error).startswith(("array is too big", "Maximum allowed")):
        return OutOfMemoryError
    return OutOfRangeError if isinstance(error, IndexError) else ArgumentError


def locate(error: TracejitError) -> TracejitError:
    """Give an error the user's lines, and the public function that they call, once."""
    if not error.where:
        f: FrameType | None = sys._getframe(1)
        stack = []
        while f is not None:
            stack.append((f, f.f_lasti, f.f_lineno))
            f = f.f_back
        _place(error, stack)
    return error


def settle(error: TracejitError) -> None:
    """Do the same with an error that was raised without `locate`, from its traceback."""
    if error.where or error.printed or isinstance(error, GraphError):
        return
    stack, tb = [], whole_traceback(error)
    while tb is not None:
        stack.append((tb.tb_frame, tb.tb_lasti, tb.tb_lineno))
        tb = tb.tb_next
    _place(error, reversed(stack))


def _place(error: TracejitError, stack: Iterable[tuple[FrameType, int, int]]) -> None:
    """The lines and the call of an error, from frames and where they are, the innermost first."""
    ours: FrameType | None = None
    last: FrameType | None = None
    for f, at, line in stack:
        name = f.f_code.co_filename
        if not is_internal(name):
            around, last = last, entered(f)
            if last is not around:
                error.where.append(location_at(f, at, line))
        elif not error.where and name.startswith(_HERE) and not name.startswith(_FOR_USERS):
            ours = f
        if len(error.where) == 3:
            break
    if error.where and ours is not None and describe_call:
        loc = error.where[0]
        error.call = describe_call[0](ours, linecache.getline(loc.file, loc.line)) or error.call


def public_name() -> str:
    """The public function that the user's code has called and that runs now, "" where it is none with a name."""
    probe = locate(TracejitError(""))
    return probe.call.partition("(")[0]


_slot: Any = vars(BaseException)["__traceback__"]


def whole_traceback(error: BaseException) -> TracebackType | None:
    """The traceback with this package's frames."""
    return _slot.__get__(error)  # type: ignore[no-any-return]


def ends_inside(tb: TracebackType | None) -> bool:
    """Whether the innermost frame is this package's own: one that is not there in the place of the user's code."""
    inside = False
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if not name.startswith(_FOR_USERS + _FOR_BUILTINS):  # the caller's or the callee's frame tells
            inside = is_internal(name)
        tb = tb.tb_next
    return inside


def trim(tb: TracebackType | None) -> TracebackType | None:
    """The traceback without this package's own frames, with one of each of the user's calls; kept whole if
    TRACEJIT_FULL_TRACEBACK is set."""
    if os.environ.get("TRACEJIT_FULL_TRACEBACK", "").lower() not in ("", "0", "false", "off", "no"):
        return tb
    kept: list[TracebackType] = []
    inside, call = False, None
    t = tb
    while t is not None:
        name = t.tb_frame.f_code.co_filename
        inside = is_internal(name) or (inside and name == _CONTEXTS)
        if not inside:
            around, call = call, entered(t.tb_frame)
            if call is around:
                kept.pop()
            kept.append(t)
        t = t.tb_next
    out: TracebackType | None = None
    for t in reversed(kept):
        out = TracebackType(out, t.tb_frame, t.tb_lasti, t.tb_lineno)
    return out


def hide_frames(error: BaseException) -> None:
    """Leave the user's frames only in the tracebacks of errors of ours, or of the user's code, and of their causes.

    A fault of this package keeps all frames, which are of interest.

    An `except` clause that ends with a bare `raise` after it does not put its own frame back.
    """
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        if isinstance(chain, TracejitError) and chain is error:
            chain.__suppress_context__ = True
        deep = isinstance(chain, RecursionError)
        if deep and isinstance(chain.__context__, (TracejitError, RecursionError)):
            chain.__suppress_context__ = True
        if deep or isinstance(chain, TracejitError) or not ends_inside(chain.__traceback__):
            chain.with_traceback(trim(chain.__traceback__))  # for those, too, who do not ask the error for it
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def without_frames(f: Callable[P, R]) -> Callable[P, R]:
    """The function, with errors that show the user's frames only."""

    @functools.wraps(f)
    def g(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return f(*args, **kwargs)
        except Exception as e:
            hide_frames(e)
            raise

    return g


def show_user_frames_only() -> None:
    """Let an uncaught error of ours be printed without this package's frames; other errors are printed as before."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        if isinstance(error, TracejitError):
            settle(error)
            tb = trim(tb)
            error.__traceback__ = tb
            shown = {(f.f_code.co_filename, line) for f, line in _walked(tb)}
            error.where = [x for x in error.where if (x.file, x.line) not in shown]
            error.printed = True
        before(kind, error, tb)

    sys.excepthook = hook
