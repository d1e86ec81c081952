"""Python's `min`, `max`, `sorted`, `any` and `all`, of tensors too."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import Any

from tracejit.autograph import insides, orders, places, reads
from tracejit.autograph.branches import compared, decided, traced
from tracejit.autograph.calls import handed, keep, replace
from tracejit.autograph.hostcalls import check_iterator
from tracejit.autograph.loops import with_acts
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
    return list(keep["iterated"](x))


def _best(pick: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def best(*args: Any, **kwargs: Any) -> Any:
        """Python's min or max, of tensors too."""
        key = kwargs.pop("key", None)
        if key is not None and args:
            every = args if len(args) > 1 else args[0]
            return orders.at_end(_items(every), handed(key), plain, kwargs)
        if kwargs or not args:
            return plain(*(args if len(args) != 1 else [_items(args[0])]), **kwargs)
        if len(args) == 1:
            if isinstance(args[0], Operand) and args[0].shape:
                return OPS[f"reduce_{plain.__name__}"](args[0], axis=(0,))
            args = tuple(_items(args[0]))
        if any(isinstance(a, Optional) or (isinstance(a, Operand) and compared(a)) for a in args):
            return functools.reduce(lambda a, b: arithmetic(OPS[pick], (a, b), {}), args)
        reads.state(*args, asks=insides.ORDER)
        return plain(*args) if len(args) > 1 else args[0]

    return best


def sorted_(x: Any, /, *, key: Any = None, reverse: Any = False) -> list[Any]:
    """Python's sorted, of tensors too."""
    items = _items(x)
    reads.state(*items, asks=insides.ORDER)
    return places.made(orders.in_order(items, None if key is None else handed(key), reverse))  # type: ignore[no-any-return]


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
