"""Strings made of tensors: what Python does with them at once is done when the program runs, with their values."""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Callable
from typing import Any

from tracejit.autograph import growing, specials
from tracejit.autograph.backcalls import calling, calling_back
from tracejit.autograph.branches import traced
from tracejit.autograph.calls import callee, keep, own_method, replace
from tracejit.autograph.chosen import Chosen, is_constant, mapped
from tracejit.autograph.hostcalls import check_iterator
from tracejit.autograph.insides import TEXT
from tracejit.autograph.places import listener
from tracejit.autograph.reads import content, state, whole
from tracejit.autograph.values import Optional, several
from tracejit.ir.dim import Dim
from tracejit.ops import host
from tracejit.ops.found import as_open_number, is_open
from tracejit.ops.host import AsItIs, Piece, Shown, Text
from tracejit.tensor import Operand, convert
from tracejit.tree import flatten, unflatten

_CHANGES: dict[int, Callable[[Any], str]] = {114: repr, 115: str, 97: ascii}


class _Rows:
    """A list that has grown, in a nest."""

    __slots__ = ("rows", "kind")

    def __init__(self, x: list[Any]) -> None:
        self.rows, self.kind = growing.exact_rows(x), growing.kind_of(x)

    def items(self, rows: Any) -> list[Any]:
        each: list[Any] = rows.numpy().tolist() if self.kind is not None else [rows[i] for i in range(rows.shape[0])]
        return each


def _opened(x: Any) -> Any:
    """A nest with such lists as leaves."""
    if not growing.has_grown(x):
        return x
    if isinstance(x, dict):
        return {k: _opened(y) for k, y in x.items()}
    if isinstance(x, tuple):
        made = [_opened(y) for y in x]
        return type(x)(*made) if hasattr(type(x), "_fields") else type(x)(made)
    return [_opened(y) for y in x] if not growing.is_grown(x) or growing.settled(x) else _Rows(x)


def holds(x: Any) -> bool:
    """Whether there are traced tensors, sizes, texts of such or values that tensors choose in a nest."""
    kinds = (Text, Dim, Chosen, _Rows)
    return growing.has_grown(x) or any(
        isinstance(y, kinds) or (isinstance(y, Operand) and traced(y)) for y in flatten(x)[0]
    )


def sized(x: Any) -> Any:
    """A nest with its sizes as numbers: known ones, or those that the program has when it runs."""
    leaves, structure = flatten(x)
    if not any(isinstance(y, Dim) for y in leaves):
        return x
    numbers = [int(y) if isinstance(y, Dim) and not is_open(y) else as_open_number(y) for y in leaves]
    return unflatten(structure, numbers)


def deferred(x: Any, make: Callable[[Any], str]) -> Any:
    """What `make` will make of a nest; the string if all in it is known."""
    x = sized(_opened(x))
    if not holds(x):
        return make(x)
    leaves, structure = flatten(x)
    one = (Operand, Chosen, _Rows)
    counts = [1 if isinstance(y, one) else len(y.tensors()) if isinstance(y, Text) else 0 for y in leaves]
    kinds = [host.python_kind(y) if isinstance(y, Operand) else None for y in leaves]
    tensors: list[Any] = []
    for y, kind in zip(leaves, kinds, strict=True):
        if isinstance(y, Operand):
            tensors.append(convert(y) if kind is None else host.exact(y))
        elif type(y) is Chosen:
            tensors.append(y.index)
        elif type(y) is _Rows:
            tensors.append(y.rows)
        elif isinstance(y, Text):
            tensors += y.tensors()

    def fill(values: Any) -> str:
        it, out = iter(values), []
        for y, n, kind in zip(leaves, counts, kinds, strict=True):
            own = [next(it) for _ in range(n)]
            if type(y) is Chosen:
                out.append(y.values[int(own[0])])
                continue
            if type(y) is _Rows:
                out.append(y.items(own[0]))
                continue
            value = host.as_printed(y, own[0]) if kind is None and own else kind and kind(own[0])
            out.append(value if isinstance(y, Operand) else y.filled(own) if isinstance(y, Text) else y)
        return make(unflatten(structure, out))

    return Text([Piece(tensors, fill)])


def formatted(x: Any, conversion: int = -1, spec: str = "") -> Any:
    """A replacement field of an f-string: a string, or a text that will be one when the program runs."""
    change = _CHANGES.get(conversion, lambda y: y)
    if isinstance(x, Optional):
        x = x.get()
    if type(x) is Chosen:
        return _of_chosen(x, lambda v: formatted(v, conversion, spec))
    if conversion == -1 and (own := own_method(x, "__format__")) is not None:
        return callee(own)(x, spec)
    if (own := own_method(x, "__repr__" if conversion in (114, 97) else "__str__") or own_method(x, "__repr__")) and (
        conversion != -1 or not spec
    ):
        x, change = callee(own)(x), str
    x = _with_texts(x)
    if isinstance(spec, (Text, Chosen)) or holds(x):
        return deferred([x, spec], lambda both: format(change(both[0]), both[1]))
    if isinstance(x, (list, tuple, dict, set, deque)):
        state(x, asks=TEXT)
    return calling(TEXT, lambda y: format(change(y), spec), whole(content(x)))


def _of_chosen(x: Chosen, f: Callable[[Any], Any]) -> Any:
    """The text of one of a few known values, or a text that is one of as many."""
    texts = [f(v) for v in x.values]
    if all(map(is_constant, x.values)) and all(type(s) is str for s in texts):
        return mapped(x, f)
    tensors = [t for s in texts if isinstance(s, Text) for t in s.tensors()]

    def fill(values: Any) -> str:
        it = iter(values[1:])
        filled = [s.filled([next(it) for _ in s.tensors()]) if isinstance(s, Text) else s for s in texts]
        return filled[int(values[0])]

    return Text([Piece([x.index, *tensors], fill)])


def joined(*parts: Any) -> Any:
    if all(isinstance(p, str) for p in parts):
        return "".join(parts)
    several = [i for i, p in enumerate(parts) if type(p) is Chosen]
    if len(several) == 1 and not any(isinstance(p, Text) for p in parts):
        (i,) = several
        return mapped(parts[i], lambda v: "".join([*parts[:i], v, *parts[i + 1 :]]))
    return Text([_as_text(p) for p in parts])


def _as_text(x: Any) -> Any:
    return Text([Piece([x.index], lambda values: x.values[int(values[0])])]) if type(x) is Chosen else x


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

        def put(*args: Any, **kw: Any) -> Any:
            if holds((args, kw)):
                return deferred((args, kw), lambda both: s.format(*both[0], **both[1]))
            state(*args, *kw.values(), asks=() if "." in s or "[" in s else TEXT)
            return calling(specials.NAMES, f, *args, **kw)

        return put
    if name == "join":
        return lambda parts: _joined_by(s, _every(parts))
    return None


def _every(parts: Any) -> list[Any]:
    check_iterator(parts)
    return list(keep["iterated"](parts))


def _joined_by(s: str, parts: list[Any]) -> Any:
    if any(type(p) is Chosen for p in parts):
        return joined(*[q for i, p in enumerate(parts) for q in ([s, _letters(p)] if i else [_letters(p)])])
    if not any(isinstance(p, Text) for p in parts):
        return s.join(parts)
    return Text([q for i, p in enumerate(parts) for q in ([s, p] if i else [p])])


def _chooses(x: Any) -> bool:
    return several.there and any(type(y) is Chosen for y in flatten(x)[0])


def _letters(x: Any) -> Any:
    """Part of a text that is joined: a string."""
    if not (isinstance(x, (str, Text)) or (type(x) is Chosen and all(type(v) is str for v in x.values))):
        raise TypeError(f"expected str instance, {type(x).__name__} found")
    return x


def _with_texts(x: Any) -> Any:
    """A nest with what objects of the user's in it say of themselves now."""
    if not isinstance(x, (list, tuple, dict)) or growing.has_grown(x):
        return x
    leaves, structure = flatten(x)
    return unflatten(structure, [_itself(y) if _says(y) else y for y in leaves]) if any(map(_says, leaves)) else x


def _says(x: Any) -> bool:
    """Whether the user has written what an object says of itself, or those of which it is one."""
    return any(map(_says, x.values)) if type(x) is Chosen else own_method(x, "__repr__") is not None


def _itself(x: Any) -> Any:
    s = _as_text(formatted(x, 114))
    return Shown([s]) if isinstance(s, Text) else AsItIs(s)


def _printed(*args: Any, **options: Any) -> None:
    """Python's `print`, of the texts that objects of the user's give of themselves now."""
    args = tuple(map(_with_texts, args))
    own = [bool(own_method(x, "__str__") or own_method(x, "__repr__")) or _chooses(x) for x in args]
    shown = [text_of(x) if mine or growing.has_grown(x) else x for x, mine in zip(args, own, strict=True)]
    held = specials.among(shown, frozenset(TEXT))
    if held and listener() is not None:  # which then are called when the program runs
        calling_back(held, lambda: [str(x) for x in shown if not isinstance(x, Text)])
    host.print_python(*map(_as_text, shown), **options)


keep["string"] = _of_string
replace(builtins.str, text_of)
replace(builtins.repr, lambda x: formatted(x, 114))
replace(builtins.ascii, lambda x: formatted(x, 97))
replace(builtins.format, lambda x, spec="": formatted(x, -1, spec))
replace(builtins.print, _printed)
