"""Functions whose frames are those of lines of the user's, for tracebacks and for what asks who calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from tracejit.errors import Location

_COLUMNS, _NO_COLUMNS = 14, 13  # kinds of entries in the tables of positions, see CPython's Objects/locations.md


def _handing_on(x, inner):  # type: ignore[no-untyped-def]
    return inner(x)


def _raising(x, make):  # type: ignore[no-untyped-def]
    error = make(x)
    if error is not None:
        raise error


def _calling(f, args, kwargs):  # type: ignore[no-untyped-def]
    return f(*args, **kwargs)


def placed(f: Any, at: Location, *defaults: Any) -> Callable[..., Any]:
    """A function of this module as one of which all stands at a line of the user's."""
    code = f.__code__.replace(
        co_filename=at.file, co_name=at.function, co_qualname=at.function, co_firstlineno=at.line or 1,
        co_linetable=_positions(len(f.__code__.co_code) // 2, at.columns), co_exceptiontable=b"",
    )  # fmt: skip
    return FunctionType(code, {"__builtins__": {}}, at.function, defaults)


def raiser(lines: Sequence[Location], make: Callable[[Any], BaseException | None]) -> Callable[[Any], None]:
    """A function that raises what `make` gives of its argument, with a frame for each line, the innermost last."""
    if not lines:
        lines = [Location(_raising.__code__.co_filename, _raising.__code__.co_firstlineno, _raising.__name__)]
    made = placed(_raising, lines[-1], make)
    for at in reversed(lines[:-1]):
        made = placed(_handing_on, at, made)
    return made


def raise_at(lines: Sequence[Location], error: BaseException) -> None:
    """Raise an error whose traceback goes through these lines of the user's code, the last of them innermost."""
    raiser(lines, lambda _: error)(None)


def call_at(at: Location, f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Call a function as the line of the user's does."""
    return placed(_calling, at)(f, args, kwargs)


def _positions(units: int, columns: tuple[int, int] | None) -> bytes:
    """The table of positions of code that stands in its function's first line."""
    out = bytearray()
    while units:
        n = min(units, 8)
        out.append(0x80 | (_NO_COLUMNS if columns is None else _COLUMNS) << 3 | (n - 1))
        for v in (0,) if columns is None else (0, 0, columns[0] + 1, columns[1] + 1):
            while v >= 64:
                out.append(v & 63 | 64)
                v >>= 6
            out.append(v)
        units -= n
    return bytes(out)
