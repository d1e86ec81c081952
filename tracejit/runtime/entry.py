"""The callable that reaches native code without a Python frame: the base class of compiled functions."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any

from tracejit.context import activity
from tracejit.errors import hide_frames
from tracejit.runtime import layout
from tracejit.runtime.executor import Native, loaded, native, ready, replaced
from tracejit.runtime.interpreter import flatten
from tracejit.runtime.program import Plan
from tracejit.runtime.table import ENTRY_OFFSET, Chain

_native_layout = layout.unsupported() is None
_set_plans = Chain._native_plans.__set__  # type: ignore[attr-defined]
_get_plans = Chain._native_plans.__get__  # type: ignore[attr-defined]


_lock = threading.RLock()
_entered: weakref.WeakValueDictionary[int, NativeCallable] = weakref.WeakValueDictionary()


def _enter(callable_: NativeCallable, module: Native) -> None:
    ctypes.c_uint64.from_address(id(callable_) + ENTRY_OFFSET).value = module.vectorcall


def _enter_all(module: Native) -> None:
    """Give all callables the entry of a module that has been loaded, or takes the place of theirs."""
    with _lock:
        for callable_ in list(_entered.values()):
            _enter(callable_, module)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # the old one may belong to a thread that exists only in the parent


replaced.append(_enter_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _accelerate(cls: type) -> None:
    """Let instances be called through their entry. Python gives this flag to classes that have no `__call__` only;
    here `__call__` does the same as the entry, so calls through either agree."""
    if not _native_layout or layout.half(id(cls) + layout.TYPE_FLAGS) & 0xFFFFFFFF != layout.type_flags(cls):
        return
    flags = ctypes.c_uint32.from_address(id(cls) + layout.TYPE_FLAGS)
    flags.value |= layout.HAVE_VECTORCALL


class NativeCallable(Chain):
    """Calls the first of its plans that fits the arguments, else `self._slow(*args, **kwargs)`.

    While something is traced or a tape listens, in any thread, all calls go to `_slow`, which a subclass defines.
    A subclass may define `__call__`, which then is what a call reaches.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__call__ is NativeCallable.__call__:
            _accelerate(cls)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            if not activity.busy and (r := self._by_plan(args, kwargs)) is not NotImplemented:
                return r
            return self._slow(*args, **kwargs)
        except Exception as e:
            hide_frames(e)
            raise

    def _by_plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the first plan gives that fits, or NotImplemented."""
        for plan in self.plans:
            if plan.guards is not None and not plan.guards.hold():
                continue
            leaves = flatten(plan, args, kwargs)
            r = NotImplemented if leaves is None else plan.run(leaves)
            if r is not NotImplemented:
                return r
        return NotImplemented

    def _slow(self, /, *args: Any, **kwargs: Any) -> Any:
        """What is called when no plan fits."""
        raise TypeError(f"no plan of this {type(self).__name__} fits the arguments")

    @property
    def plans(self) -> tuple[Plan, ...]:
        try:
            return _get_plans(self)  # type: ignore[no-any-return]
        except AttributeError:
            return ()

    def set_plans(self, plans: Iterable[Plan]) -> None:
        """Replace the plans, which are tried in this order. Calls that are running keep theirs."""
        new = tuple(plans)
        for p in new:
            if not isinstance(p, Plan):
                raise TypeError(f"{p!r} is not a Plan")
        _set_plans(self, new)
        if new and _native_layout:
            if ready():
                native()  # outside the lock: it may take long
            with _lock:
                _entered[id(self)] = self
                module = loaded()
                if module is not None:
                    _enter(self, module)


_accelerate(NativeCallable)
