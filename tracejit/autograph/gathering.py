"""Python's `min`, `max`, `sorted`, `any` and `all`, of tensors too."""

from __future__ import annotations

import builtins
import collections
import functools
import itertools
import operator
import types
from collections.abc import Callable
from typing import Any

from tracejit.autograph import backcalls, insides, orders, places, reads, specials
from tracejit.autograph.branches import compared, decided, traced
from tracejit.autograph.calls import PREPARED, called, callee, handed, keep, own_method, replace
from tracejit.autograph.hostcalls import check_iterator
from tracejit.autograph.loops import with_acts
from tracejit.autograph.owners import is_users
from tracejit.autograph.ranges import range_
from tracejit.autograph.values import Optional
from tracejit.errors import ConversionError, locate
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_
from tracejit.ops.found import is_open
from tracejit.ops.regions import as_test
from tracejit.pynumbers import arithmetic
from tracejit.tensor import Operand


def _items(x: Any) -> list[Any]:
    check_iterator(x)
    reads.whole(x)
    return list(keep["iterated"](x))


def _best(pick: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def best(*args: Any, **kwargs: Any) -> Any:
        """Python's min or max, of tensors too."""
        key = kwargs.pop("key", None)
        if key is not None and args:
            every = args if len(args) > 1 else args[0]
            return orders.at_end(_items(every), handed(key), plain, kwargs)
        if kwargs or not args:
            items = _items(args[0]) if len(args) == 1 else args
            if items and (own := orders.ordered(items)) is not items:
                return plain(own).of
            return plain(*(args if len(args) != 1 else [items]), **kwargs)
        if len(args) == 1:
            if isinstance(args[0], Operand) and args[0].shape:
                return OPS[f"reduce_{plain.__name__}"](args[0], axis=(0,))
            args = tuple(_items(args[0]))
        if any(isinstance(a, Optional) or (isinstance(a, Operand) and compared(a)) for a in args):
            return functools.reduce(lambda a, b: arithmetic(OPS[pick], (a, b), {}), args)
        reads.state(*args, asks=insides.ORDER)
        if (own := orders.ordered(args)) is not args:
            return plain(own).of
        return backcalls.calling(specials.ORDER, plain, args) if args else plain(args)

    return best


def sorted_(x: Any, /, *, key: Any = None, reverse: Any = False) -> list[Any]:
    """Python's sorted, of tensors too."""
    items = _items(x)
    reads.state(*items, asks=insides.ORDER)
    return places.made(orders.in_order(items, None if key is None else handed(key), reverse))  # type: ignore[no-any-return]


# --- what C code is given that asks objects of the user's -------------------------------------------------------------
def _summed(x: Any, /, start: Any = 0) -> Any:
    """Python's sum of objects of the user's; of all else, what it is to go through."""
    items = _items(x) if isinstance(x, types.GeneratorType) or is_users(type(x)) else x
    if type(items) in (list, tuple) and any(map(is_users, {type(start), *map(type, items)})):
        return functools.reduce(callee(operator.add), items, start), None, {}
    return None, (items, start), {}


def _indices(*args: Any) -> Any:
    found = [None if isinstance(x, int) else own_method(x, "__index__") for x in args]
    return None, tuple([x if f is None else callee(f)(x) for x, f in zip(args, found, strict=True)]), {}


def _listed(*args: Any, **kwargs: Any) -> Any:
    """What the rows of a generator are is known before they are hashed."""
    return None, tuple([_rows(x) for x in args]), kwargs


def _rows(x: Any) -> Any:
    x = keep["keyed"](x)
    own = is_users(type(x)) and not isinstance(x, (tuple, list, dict, set)) and own_method(x, "__iter__") is not None
    return _items(x) if own or isinstance(x, types.GeneratorType) else x


def _applied(f: Any, *rows: Any) -> Any:
    """What `map` or `filter` calls, where that is C's code and there are objects of the user's."""
    plain = isinstance(f, types.BuiltinFunctionType | type | types.NoneType)
    if plain and (any(isinstance(x, types.GeneratorType) for x in rows) or specials.among(rows)):
        f = called(bool if f is None else f)
    return None, (callee(f) if own_method(f, "__call__") else f, *rows), {}


def _accumulated(x: Any, func: Any = None, **kwargs: Any) -> Any:
    return None, (x, callee(operator.add) if func is None else func), kwargs


def _grouped(x: Any, key: Any = None) -> Any:
    if key is None and isinstance(x, list | tuple):  # which is compared later, so it is tried before
        backcalls.calling_back(specials.among([x], specials.KEY), lambda: sum(1 for _ in itertools.groupby(x)))
    return None, (x, key), {}


PREPARED += [(itertools.groupby, _grouped), (sum, _summed), (range_, _indices), (itertools.accumulate, _accumulated)]
PREPARED += [(map, _applied), (filter, _applied)]
PREPARED += [(k, _listed) for k in (set, frozenset, dict, collections.Counter, collections.deque)]


def _every(join: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def every(x: Any) -> Any:
        """Python's any or all, of tensors too."""
        if isinstance(x, Operand) and len(x.shape) == 1 and is_open(x.shape[0]):
            hit = OPS[f"reduce_{plain.__name__}"](OPS["cast"](x, dtype=bool_), axis=(0,))
            return OPS["cast"](hit, dtype=bool_, weak=True)
        if isinstance(x, Operand):
            return joined([x[i] for i in range(len(x))])
        check_iterator(x)
        rows, found = iter(keep["iterated"](x)), list[Any]()
        ends = plain is builtins.any
        while True:
            y, acts = with_acts(lambda: decided(next(rows, ...))) if found else (decided(next(rows, ...)), False)
            if acts:
                raise locate(ConversionError(f"a tensor decides how far {plain.__name__}() goes"))
            if y is ...:
                return joined(found) if found else not ends
            if isinstance(y, Operand) and traced(y):
                found.append(y)
            elif bool(y) == ends:
                return ends

    def joined(found: list[Any]) -> Any:
        if any(isinstance(y, Operand) and traced(y) for y in found):
            return functools.reduce(lambda a, b: OPS[join](as_test(a), as_test(b)), found)
        return plain(found)

    return every


replace(builtins.min, _best("minimum", builtins.min))
replace(builtins.max, _best("maximum", builtins.max))
replace(builtins.any, _every("logical_or", builtins.any))
replace(builtins.all, _every("logical_and", builtins.all))
replace(builtins.sorted, sorted_)
