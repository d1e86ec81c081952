"""Strings made of tensors: what Python does with them at once is done when the program runs, with their values."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from tracejit.autograph.branches import traced
from tracejit.autograph.calls import callee, keep, own_method, replace
from tracejit.autograph.reads import content, whole
from tracejit.autograph.values import Optional
from tracejit.ir.dim import Dim
from tracejit.ops import host
from tracejit.ops.found import as_open_number, is_open
from tracejit.ops.host import Piece, Text
from tracejit.tensor import Operand, convert
from tracejit.tree import flatten, unflatten

_CHANGES: dict[int, Callable[[Any], str]] = {114: repr, 115: str, 97: ascii}


def holds(x: Any) -> bool:
    """Whether there are traced tensors, sizes or texts of such in a nest."""
    return any(isinstance(y, (Text, Dim)) or (isinstance(y, Operand) and traced(y)) for y in flatten(x)[0])


def sized(x: Any) -> Any:
    """A nest with its sizes as numbers: known ones, or those that the program has when it runs."""
    leaves, structure = flatten(x)
    if not any(isinstance(y, Dim) for y in leaves):
        return x
    numbers = [int(y) if isinstance(y, Dim) and not is_open(y) else as_open_number(y) for y in leaves]
    return unflatten(structure, numbers)


def deferred(x: Any, make: Callable[[Any], str]) -> Any:
    """What `make` will make of a nest; the string if all in it is known."""
    x = sized(x)
    if not holds(x):
        return make(x)
    leaves, structure = flatten(x)
    counts = [1 if isinstance(y, Operand) else len(y.tensors()) if isinstance(y, Text) else 0 for y in leaves]
    kinds = [host.python_kind(y) if isinstance(y, Operand) else None for y in leaves]
    tensors: list[Any] = []
    for y, kind in zip(leaves, kinds, strict=True):
        if isinstance(y, Operand):
            tensors.append(convert(y) if kind is None else host.exact(y))
        elif isinstance(y, Text):
            tensors += y.tensors()

    def fill(values: Any) -> str:
        it, out = iter(values), []
        for y, n, kind in zip(leaves, counts, kinds, strict=True):
            own = [next(it) for _ in range(n)]
            value = host.as_printed(y, own[0]) if kind is None and own else kind and kind(own[0])
            out.append(value if isinstance(y, Operand) else y.filled(own) if isinstance(y, Text) else y)
        return make(unflatten(structure, out))

    return Text([Piece(tensors, fill)])


def formatted(x: Any, conversion: int = -1, spec: str = "") -> Any:
    """A replacement field of an f-string: a string, or a text that will be one when the program runs."""
    change = _CHANGES.get(conversion, lambda y: y)
    if isinstance(x, Optional):
        x = x.get()
    if conversion == -1 and (own := own_method(x, "__format__")) is not None:
        return callee(own)(x, spec)
    if (own := own_method(x, "__repr__" if conversion in (114, 97) else "__str__") or own_method(x, "__repr__")) and (
        conversion != -1 or not spec
    ):
        x, change = callee(own)(x), str
    if isinstance(spec, Text) or holds(x):
        return deferred([x, spec], lambda both: format(change(both[0]), both[1]))
    return format(change(whole(content(x))), spec)


def joined(*parts: Any) -> Any:
    return "".join(parts) if all(isinstance(p, str) for p in parts) else Text(parts)


def text_of(x: Any = "", *args: Any, **kwargs: Any) -> Any:
    """Python's `str`."""
    return str(x, *args, **kwargs) if args or kwargs else formatted(x, 115)


def filled(op: str, x: Any) -> Any:
    """`op % x`."""
    return deferred(x, lambda values: op % values)


def _of_string(f: Any) -> Callable[..., Any] | None:
    """What to call in the place of a method that puts values into a string."""
    name, s = f.__name__, f.__self__
    if name == "format":
        return lambda *args, **kw: (
            deferred((args, kw), lambda both: s.format(*both[0], **both[1])) if holds((args, kw)) else f(*args, **kw)
        )
    if name == "join":
        return lambda parts: _joined_by(s, list(keep["iterated"](parts)))
    return None


def _joined_by(s: str, parts: list[Any]) -> Any:
    if not any(isinstance(p, Text) for p in parts):
        return s.join(parts)
    return Text([q for i, p in enumerate(parts) for q in ([s, p] if i else [p])])


def _printed(*args: Any, **options: Any) -> None:
    """Python's `print`, of the texts that objects of the user's give of themselves now."""
    shown = [text_of(x) if own_method(x, "__str__") or own_method(x, "__repr__") else x for x in args]
    host.print_python(*shown, **options)


keep["string"] = _of_string
replace(builtins.str, text_of)
replace(builtins.repr, lambda x: formatted(x, 114))
replace(builtins.ascii, lambda x: formatted(x, 97))
replace(builtins.format, lambda x, spec="": formatted(x, -1, spec))
replace(builtins.print, _printed)
