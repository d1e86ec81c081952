"""A Python value that is one of a few known ones: an integer tensor says which, and branches say which it cannot be."""

from __future__ import annotations

import enum
import functools
import gc
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tracejit.autograph import places
from tracejit.autograph.owners import is_users
from tracejit.autograph.values import Either, Optional, Undefined, forward_operators, several
from tracejit.context import context
from tracejit.errors import ConversionError, locate
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_, int32
from tracejit.ops.host import Text
from tracejit.ops.regions import Region, is_value, same
from tracejit.tensor import Operand, Tensor, Variable, convert
from tracejit.tracing import unborn
from tracejit.tree import LEAF, attributes_of, flatten

MOST = 16  # values of which one may be chosen
_LOOKED_AT = 1000  # objects that are looked at to know whether a value holds tensors
_NUMBERS = (bool, int, float, complex)
_CONSTANTS = (str, bytes, type(None), *_NUMBERS)
_CODE = (type, types.ModuleType, types.BuiltinFunctionType, types.FunctionType, types.MethodType, functools.partial)
_CONTAINERS = (list, dict, set, deque)


class Chosen:
    """One of `values`, that with the number `index`, a 0-d tensor. What needs to know which runs for each of them."""

    __slots__ = ("index", "values")

    def __init__(self, index: Any, values: Sequence[Any]) -> None:
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "values", tuple(values))
        several.there = True

    def fail(self, *_: Any) -> Any:
        raise refused(self, "is used by code that is not converted")

    __tensor__ = __iter__ = __next__ = __len__ = __bool__ = __float__ = __int__ = __index__ = __complex__ = fail
    __call__ = __contains__ = __getitem__ = __setitem__ = __delitem__ = __reversed__ = __enter__ = __exit__ = fail
    __copy__ = __deepcopy__ = __reduce_ex__ = __str__ = __format__ = __bytes__ = __setattr__ = __delattr__ = fail

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.fail()

    def __repr__(self) -> str:
        return f"one of {len(self.values)} values"


forward_operators(Chosen, Chosen.fail)
Chosen.__hash__ = Chosen.fail  # type: ignore[method-assign, assignment]


def refused(x: Chosen, why: str) -> Exception:
    kinds = sorted({type(v).__name__ for v in x.values})
    return locate(ConversionError(f"a value that is chosen by a tensor, one of {' and '.join(kinds)}, {why}"))


# --- what can be chosen -----------------------------------------------------------------------------------------------
def is_constant(x: Any) -> bool:
    """A value that says all by itself, and whose comparisons are Python's own."""
    if type(x) is tuple:
        return all(map(is_constant, x))
    return type(x) in _CONSTANTS or (isinstance(x, enum.Enum) and type(x).__eq__ in _OWN_EQUAL)


_OWN_EQUAL = (object.__eq__, str.__eq__, int.__eq__, float.__eq__)


def _is_other(x: Any) -> bool:
    """What has a meaning of its own in branches: tensors, arrays, sizes, and what stands for values in traces."""
    cls = type(x)
    if is_value(x) or isinstance(x, (Undefined, Optional, Either)):
        return True
    parts = cls.__module__.split(".")
    ours = parts[0] == "tracejit" and len(parts) > 1 and parts[1] in ("autograph", "ops", "ir", "slices", "operand")
    return (ours and not isinstance(x, _CODE)) or hasattr(cls, "__tree_fields__") or hasattr(cls, "grown_since")


def can_be_picked(x: Sequence[Any]) -> bool:
    """Whether a tensor may say which item of a sequence is meant: a few, none of which is a tensor."""
    if mixed(x) and not places.by_identity():
        return False
    plain = (*_NUMBERS, enum.Enum, Variable)
    some = any(type(v) is Chosen or (_is_other(v) and not isinstance(v, plain)) for v in x)
    return len(x) <= MOST and not some and not all(type(v) in _NUMBERS for v in x)


def mixed(x: Sequence[Any]) -> bool:
    """Whether they are Variables. Which one is meant is forgotten where they become a tensor, until one is assigned."""
    if not any(isinstance(v, Variable) for v in x) or not all(v is None or isinstance(v, Variable) for v in x):
        return False
    places.mixed([v for v in x if v is not None])
    return True


def picked_at(x: Sequence[Any], i: Any) -> Any:
    """The item with the number `i`, a tensor."""
    return mapped(Chosen(OPS["cast"](i, dtype=int32), list(x)), lambda v: v)


def can_be(x: Any, trace: Any = None, depth: int | None = None) -> bool:
    """Whether it may be one of several, chosen by a tensor: nothing of it is made inside of this trace, that at hand by
    default, or in branches and loops deeper than `depth`."""
    if type(x) is Chosen:
        return all(can_be(v, trace, depth) for v in candidates(x))
    if isinstance(x, tuple):
        return all(can_be(y, trace, depth) for y in x)
    if is_constant(x) or isinstance(x, enum.Enum):
        return True
    if isinstance(x, Variable):
        return places.by_identity() and x not in unborn
    if _is_other(x) or places.age(x) > (places.depth() if depth is None else depth):
        return False
    if isinstance(x, _CONTAINERS) or flatten(x)[1] is not LEAF:
        return places.by_identity()
    return not holds_inner(x, trace or context.trace)


def holds_inner(x: Any, trace: Any) -> bool:
    """Whether a function, or another value that may just have been made, holds tensors from inside of a trace."""
    seen, todo = {id(x): x}, [x]
    while todo:
        for y in parts_called(todo.pop()):
            if isinstance(y, Operand):
                if type(y._a) is Value and not (y._a.scope == trace.builder.scope or trace.within(y._a.scope)):
                    return True
            elif id(y) not in seen:
                seen[id(y)] = y
                todo.append(y)
                if len(seen) > _LOOKED_AT:
                    return True
    return False


def parts_called(x: Any) -> Sequence[Any]:
    """What functions, and values that may just have been made, hold."""
    if isinstance(x, types.FunctionType):
        return [*_contents(x), *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
    if isinstance(x, (types.MethodType, types.BuiltinFunctionType)):
        return [x.__self__]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    holding = (tuple, frozenset, *_CONTAINERS, slice, BaseException, Text)
    if isinstance(x, holding) or type(x).__module__ in ("operator", "itertools"):
        return gc.get_referents(x)
    return ()  # objects from before, whose attributes are guarded where they are read


def _contents(f: types.FunctionType) -> Iterator[Any]:
    for c in f.__closure__ or ():
        try:
            yield c.cell_contents
        except ValueError:
            pass


def equal(a: Any, b: Any) -> bool:
    """Whether two of the values are one."""
    if same(a, b):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, range):
        return a == b
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, (types.MethodType, types.BuiltinFunctionType)):
        return a.__self__ is b.__self__ and a == b
    if isinstance(a, types.FunctionType):
        one, other = (f.__closure__ or () for f in (a, b))
        plain = not (a.__defaults__ or b.__defaults__ or a.__kwdefaults__ or b.__kwdefaults__)
        return a.__code__ is b.__code__ and plain and len(one) == len(other) and all(c is d for c, d in zip(one, other))
    return False


def place(values: Sequence[Any], x: Any) -> int | None:
    return next((k for k, v in enumerate(values) if equal(v, x)), None)


def union(*each: Sequence[Any]) -> list[Any]:
    made: list[Any] = []
    for x in (x for xs in each for x in xs):
        if place(made, x) is None:
            made.append(x)
    return made


# --- what is known of it in a branch ----------------------------------------------------------------------------------
def left(x: Chosen) -> list[int]:
    """The numbers of the values that it may be where we are."""
    every = range(len(x.values))
    known = several.known.get(x.index._a, every)
    return [k for k in every if k in known] or list(every)  # where none is left the program never comes


def fact(test: Any, x: Chosen, which: Sequence[int]) -> Any:
    """`test`, of which is known that it asks whether the value is among these."""
    several.facts[test._a] = x.index._a, frozenset(which)
    return test


_NOTHING: tuple[Any, frozenset[int]] = None, frozenset()


@contextmanager
def where(test: Any, taken: bool) -> Iterator[None]:
    """The branch that a test chooses, or that which it does not choose."""
    asked = getattr(test, "_a", None)  # of a Variable, an array
    index, which = several.facts.get(asked, _NOTHING) if type(asked) is Value else _NOTHING
    if index is None:
        yield
        return
    before = several.known.get(index)
    among = frozenset(range(MOST)) if before is None else before
    several.known[index] = among & which if taken else among - which
    try:
        yield
    finally:
        if before is None:
            del several.known[index]
        else:
            several.known[index] = before


# --- tensors that tell of it ------------------------------------------------------------------------------------------
def number(k: int) -> Tensor:
    return OPS["cast"](k, dtype=int32)  # type: ignore[no-any-return]


def is_among(x: Chosen, which: Sequence[int]) -> Any:
    """Whether the value is one of those with these numbers: True, False, or a tensor that counts as Python's."""
    every = left(x)
    which = [k for k in every if k in which]
    if len(which) in (0, len(every)):
        return len(which) > 0
    few = which if 2 * len(which) <= len(every) else [k for k in every if k not in which]
    hit = functools.reduce(lambda s, t: OPS["logical_or"](s, t), [OPS["equal"](x.index, number(k)) for k in few])
    hit = hit if few is which else OPS["logical_not"](hit)
    return fact(OPS["cast"](hit, dtype=bool_, weak=True), x, which)


def is_below(x: Chosen, k: int) -> Any:
    """Whether the number is less than k."""
    return fact(OPS["less"](x.index, number(k)), x, range(k))


def index_in(x: Any, values: Sequence[Any]) -> Tensor:
    """The number that the value has among these."""
    if type(x) is not Chosen:
        return number(place(values, x) or 0)
    return _mapped(x, {k: place(values, x.values[k]) or 0 for k in left(x)})


def _mapped(x: Chosen, to: dict[int, int]) -> Tensor:
    if all(k == n for k, n in to.items()):
        return x.index  # type: ignore[no-any-return]
    shifts = {n - k for k, n in to.items()}
    if len(shifts) == 1:
        return OPS["add"](x.index, number(shifts.pop()))  # type: ignore[no-any-return]
    *first, last = to.items()
    out = number(last[1])
    for k, n in reversed(first):
        out = OPS["where"](OPS["equal"](x.index, number(k)), number(n), out)
    return out


def mapped(x: Chosen, f: Callable[[Any], Any]) -> Any:
    """What `f` gives for the value, where that is one of a few known values again."""
    made = {k: f(x.values[k]) for k in left(x)}
    values = union([*made.values()])
    if len(values) == 1:
        return values[0]
    return Chosen(_mapped(x, {k: place(values, v) or 0 for k, v in made.items()}), values)


# --- branches and loops -----------------------------------------------------------------------------------------------
def candidates(x: Any) -> list[Any]:
    return [x.values[k] for k in left(x)] if type(x) is Chosen else [x]


def _are_several(xs: Sequence[Any]) -> bool:
    """Whether these need to be told apart by their number, which tensors, numbers and None do not."""
    return any(type(x) is Chosen or not (x is None or type(x) in _NUMBERS) for x in xs)


def merged(
    a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]
) -> Callable[[Sequence[Tensor]], Any] | None:
    """How a value is made that is one in one branch and another in the other; None if it is not for us to say."""
    mixed([x, y])
    each = [_within(r, candidates, v) for r, v in ((a, x), (b, y))]
    known = [type(x) is Chosen, type(y) is Chosen]  # values of which nothing ends here have left other branches
    if not (_are_several([x, y]) and all(_can_be_left(v, k) for vs, k in zip(each, known) for v in vs)):
        return None
    values = union(*each)
    if len(values) > MOST:
        return None
    if len(values) == 1:
        return lambda made: values[0]
    k = len(pairs)
    pairs.append((_within(a, index_in, x, values), _within(b, index_in, y, values)))
    leave = [_leaving(a, v, b, pairs, True) for v in each[0]] + [_leaving(b, v, a, pairs, False) for v in each[1]]

    def make(made: Sequence[Tensor]) -> Any:
        for f in leave:
            f(made)
        return Chosen(made[k], values)

    return make


def _can_be_left(x: Any, known: bool) -> bool:
    return (known and _is_left(x)) or can_be(x) or _can_leave(x)


def _is_left(x: Any) -> bool:
    """Whether it is what a branch has made of which nothing ends with the branch that ends now."""
    return _is_own(x) and not any(map(_has_ended, _held(x, {})))


def _has_ended(x: Any) -> bool:
    if isinstance(x, Chosen):
        return _has_ended(x.index) or _holds_ended(x)
    if isinstance(x, Operand):
        trace: Any = context.trace
        return type(x._a) is Value and not (x._a.scope == trace.builder.scope or trace.within(x._a.scope))
    return not (isinstance(x, tuple) or _is_own(x) or _is_around(x))


def _can_leave(x: Any) -> bool:
    """Whether it is an object that a branch has made, whose attributes can be told apart from those of others."""
    if not (_is_own(x) and is_users(type(x))):
        return False
    return all(
        isinstance(v, (Operand, tuple)) or _is_own(v) or (_is_around(v) and not _holds_ended(v)) for v in _held(x, {})
    )


def _holds_ended(x: Any) -> bool:
    return type(x) is Chosen and not all(_is_left(v) or can_be(v) for v in x.values)


def _is_around(x: Any) -> bool:
    return can_be(x) or (isinstance(x, _CONTAINERS) and not places.is_new(x))


def _is_own(x: Any) -> bool:
    """Whether a branch has made an object, or a list or dict."""
    return places.is_new(x) and (isinstance(x, (list, dict)) or (is_users(type(x)) and bool(attributes_of(x))))


def _held(x: Any, known: dict[int, Any]) -> Iterator[Any]:
    """What stands in an object that a branch has made, and in what it has made to stand there."""
    if id(x) not in known:
        known[id(x)] = x
        yield x
        if isinstance(x, tuple) or _is_own(x):
            for y in x if isinstance(x, tuple) else _items(x).values():
                yield from _held(y, known)


def _items(x: Any) -> dict[Any, Any]:
    return x if isinstance(x, dict) else dict(enumerate(x)) if isinstance(x, list) else attributes_of(x)


def _leaving(
    r: Region, x: Any, gone: Region, pairs: list[tuple[Tensor, Tensor]], first: bool
) -> Callable[[Sequence[Tensor]], None]:
    """What gives an object that a branch has made the values of its attributes where the branch has ended."""
    if can_be(x) or _is_left(x):
        return lambda made: None
    at: dict[int, int] = {}
    every: dict[int, Any] = {}
    for v in _held(x, every):
        if isinstance(v, Operand):
            at[id(v)], mine, zero = len(pairs), v if type(v) is Tensor else r.call(convert, v), gone.call(zeros_of, v)
            pairs.append((mine, zero) if first else (zero, mine))
        elif type(v) is Chosen:
            at[id(v)], zero = len(pairs), gone.call(number, 0)
            pairs.append((v.index, zero) if first else (zero, v.index))

    def left(v: Any, made: Sequence[Tensor]) -> Any:
        if id(v) in at:
            return Chosen(made[at[id(v)]], v.values) if type(v) is Chosen else made[at[id(v)]]
        if isinstance(v, tuple):
            items = [left(y, made) for y in v]
            return type(v)(*items) if hasattr(type(v), "_fields") else type(v)(items)
        return v

    def leave(made: Sequence[Tensor]) -> None:
        for v in every.values():
            if not isinstance(v, tuple) and _is_own(v):
                for k, y in _items(v).items():
                    if isinstance(v, (list, dict)):
                        v[k] = left(y, made)
                    else:
                        object.__setattr__(v, k, left(y, made))

    return leave


def _within(r: Region, f: Callable[..., Any], *args: Any) -> Any:
    """A call in a branch, with what is known there."""
    with where(*getattr(r, "chosen_by", (None, True))):
        return r.call(f, *args)


def carried(
    x: Chosen, gone: Region, pairs: list[tuple[Tensor, Tensor]], first: bool
) -> Callable[[Sequence[Tensor]], Any]:
    """How a value leaves one branch, where the other one has none."""
    k, zero = len(pairs), gone.call(number, 0)
    pairs.append((x.index, zero) if first else (zero, x.index))
    return lambda made: Chosen(made[k], x.values)


def zeros_of(x: Operand) -> Any:
    """A tensor of zeros of the same type."""
    zero = OPS["cast"](0, dtype=x.dtype, weak=True) if x.type.weak else OPS["cast"](0, dtype=x.dtype)
    return OPS["broadcast_to"](zero, shape=tuple(x.shape)) if x.shape else zero


def any_of(x: Any) -> Any:
    """One of the values, where it does not count which."""
    return x.values[0] if type(x) is Chosen else x


class Pick:
    """A leaf of a loop's state that is one of several values."""

    def __init__(self, x: Any, values: Sequence[Any], changed: Callable[[Any], Exception]) -> None:
        self.values, self.first, self._changed = tuple(values), index_in(x, values), changed
        self._trace, self._depth = context.trace, places.depth()

    def make(self, t: Tensor) -> Chosen:
        return Chosen(t, self.values)

    def take(self, y: Any) -> Tensor:
        if not can_be(y, self._trace, self._depth):
            raise refused(Chosen(None, self.values), f"becomes {type(y).__name__} in a loop")
        if any(place(self.values, v) is None for v in candidates(y)):
            raise self._changed(y)
        return index_in(y, self.values)


def picked(x: Any, y: Any, more: Sequence[Any], changed: Callable[[Any], Exception]) -> Pick | None:
    """The same for a leaf before and after a step, and what else it is known to be; None if it is none."""
    every = [x, y, *more]
    mixed(every)
    if not (_are_several(every) and all(map(can_be, every))):
        return None
    values = union(candidates(x), candidates(y), more)
    return Pick(x, values, changed) if len(values) <= MOST else None
