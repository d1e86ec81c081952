"""Public functions whose frequent eager calls are traced programs: the same bits in a native call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tracejit.function import Function
from tracejit.ops import quick
from tracejit.runtime.background import Background
from tracejit.runtime.eager import unsupported
from tracejit.tensor import Tensor

_MOST: Final = 16  # kinds of arguments for which a function is compiled
_SMALL: Final = 1 << 14  # bytes of arguments beyond which a call's own cost counts little
_TYPES: Final = "?bBhHiIlLfd"  # letters of NumPy's types of which single operations are the same everywhere


class EagerPlans(Function):
    """A function's programs, which a call tries; without one that fits it gives None."""

    def __init__(self, python: Callable[..., Any]) -> None:
        super().__init__(python, None, "exact", None, autograph=False, strict=True)
        self._kinds = 0

    def _slow(self, *args: Any, **kwargs: Any) -> Any:
        return None

    def learn(self, args: tuple[Any, ...]) -> None:
        """Make a program for such arguments. Raises whatever keeps it from being made."""
        self._kinds += 1
        if self._kinds <= _MOST:
            self._call(args, {})


def _tensors(args: Any) -> Iterator[Any]:
    for x in args:
        if type(x) is list or type(x) is tuple:
            yield from _tensors(x)
        elif type(x) is Tensor:
            yield x
        elif type(x) not in quick.PLAIN and type(x) is not float:
            raise TypeError  # a Variable's program would be that one's alone


_made: dict[Callable[..., Any], EagerPlans] = {}


def learn(form: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Let calls of a form with such arguments be native from now on; False where that is not possible."""
    if unsupported() is not None:
        return False
    try:
        arrays = [t._a for t in _tensors(args)]
        large = sum(a.nbytes for a in arrays) > _SMALL and form not in quick.ANY_SIZE
        if large or any(a.dtype.char not in _TYPES for a in arrays):
            return False
        plans = _made.setdefault(form, EagerPlans(quick.TRACED[form]))
        if plans(*args) is None:  # else it was asked for again before it was there
            plans.learn(args)
    except Exception:  # NumPy does it
        return False
    if plans.plans:
        quick.NATIVE[form] = plans
    return bool(plans.plans)


_background = Background[tuple[Callable[..., Any], tuple[Any, ...]]]("eager programs", lambda wanted: learn(*wanted))


def _begin(form: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _background.begin((form, args))


quick.WHEN_FREQUENT.append(_begin)
