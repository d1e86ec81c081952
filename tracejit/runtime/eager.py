"""Small eager operations in native code: it takes the place of Tensor's slot functions once a program has used many."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from tracejit.context import activity
from tracejit.fast import fast
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import ALL
from tracejit.lower.engine import Library
from tracejit.ops import define
from tracejit.ops.frequent import REPLACE
from tracejit.quiet import _silent, memory_handler
from tracejit.runtime import layout, memory
from tracejit.runtime.arithmetic import Row
from tracejit.runtime.attributes import EXPORTS, PROTOCOLS, Attributes, is_own, python_functions
from tracejit.runtime.cfunctions import builtin, complete, keep, of_python
from tracejit.runtime.modules import Recipe, await_turn, load
from tracejit.runtime.ufuncs import (
    MADE,
    WRAPPED,
    dtype_names,
    fill_row,
    promotions,
    types_table,
    ufunc_of,
    ufuncs_table,
)
from tracejit.runtime.variables import PARTS
from tracejit.tensor import WHEN_WARM, Operand, Tensor, TensorShape, Variable, run_silently
from tracejit.variable import _assign

# Methods and ops, each with the number of the slot in Python's stable ABI and its place in PyNumberMethods.
UNARY: Final = (("__neg__", "neg", 30, 48), ("__abs__", "abs", 6, 64), ("__invert__", "bit_not", 27, 80))
BINARY: Final = (
    ("__add__", "add", 7, 0),
    ("__sub__", "sub", 36, 8),
    ("__mul__", "mul", 29, 16),
    ("__mod__", "floormod", 34, 24),
    ("__lshift__", "shift_left", 28, 88),
    ("__rshift__", "shift_right", 35, 96),
    ("__and__", "bit_and", 8, 104),
    ("__xor__", "bit_xor", 38, 112),
    ("__or__", "bit_or", 31, 120),
    ("__floordiv__", "floordiv", 12, 232),
    ("__truediv__", "div", 37, 240),
)
PRODUCT: Final = ("__matmul__", "matmul", 75, 272)
POWER: Final = ("__pow__", "pow", 33, 40)
COMPARISONS: Final = (
    ("__lt__", "less"), ("__le__", "less_equal"), ("__eq__", "equal"), ("__ne__", "not_equal"),
    ("__gt__", "greater"), ("__ge__", "greater_equal"),
)  # fmt: skip  # in the order of Python's numbers for them
_RICHCOMPARE_SLOT: Final = 67
_RICHCOMPARE_PLACE: Final = 200
_ASSIGN: Final = sys.intern("assign")
_PUT_SLOT: Final = 3  # `a[key] = x`
_NUMBERS: Final = (*UNARY, *BINARY, PRODUCT, POWER)
CLASSES: Final = (Tensor, Variable)


# --- slots ------------------------------------------------------------------------------------------------------
def _slot(cls: type, number: int) -> int:
    """The function in a class's slot, by the slot's number."""
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)(("PyType_GetSlot", ctypes.pythonapi))
    return get(cls, number) or 0


def _with_methods() -> type:
    """A class that has all the operators as methods: its slots are Python's own functions."""
    names = [name for name, *_ in (*_NUMBERS, *COMPARISONS)] + [*PROTOCOLS]
    return type("Plain", (), {name: lambda self, *other: NotImplemented for name in names} | {"__hash__": None})


def _reflected(method: str) -> str:
    return "__r" + method[2:]


def _slot_places(cls: type, given: Attributes) -> dict[str, int]:
    """The addresses of a class's slots by method, of those that still lead to our own methods.

    Raises `RuntimeError` when the class is not laid out as expected.
    """
    plain = _with_methods()
    numbers = layout.word(id(cls) + layout.TYPE_NUMBERS)
    if not id(cls) < numbers < id(cls) + type.__basicsize__:  # type: ignore[operator]  # a number, not a method
        raise RuntimeError(f"the operators of {cls.__name__} do not lie where they are expected")
    slots = {name: (number, numbers + place) for name, _, number, place in _NUMBERS}
    slots["compare"] = (_RICHCOMPARE_SLOT, id(cls) + _RICHCOMPARE_PLACE)
    for name, (number, table, place) in PROTOCOLS.items():
        slots[name] = (number, layout.word(id(cls) + table) + place)
    for name, (number, address) in slots.items():
        if not 0 != _slot(cls, number) == _slot(plain, number) == layout.word(address):
            raise RuntimeError(f"{cls.__name__} has another function for {name}")
    mine = {n for n, f in define.INSTALLED.items() if inspect.getattr_static(cls, n, None) is f}
    taken = {n for n, *_ in UNARY if n in mine}
    taken |= {n for n, *_ in (*BINARY, PRODUCT, POWER) if n in mine and _reflected(n) in mine}
    if all(n in mine for n, _ in COMPARISONS):
        taken.add("compare")
    taken |= {n for n in PROTOCOLS if is_own(cls, n, given.given)}
    return {name: address for name, (_, address) in slots.items() if name in taken}


class Native:
    """The loaded module, with what it reads: the rows of the operations and the element types."""

    def __init__(self) -> None:
        payload = layout.slot_offset(Operand, "_a")
        if any(layout.slot_offset(cls, "_a") != payload for cls in CLASSES):
            raise RuntimeError("Tensor and Variable keep their arrays at different places")
        if any(layout.half(id(d.np) + layout.DESCR_NUMBER) != d.np.num for d in ALL):
            raise RuntimeError("NumPy's dtypes are not laid out as expected")
        self._attributes = Attributes()
        self.places = {cls: _slot_places(cls, self._attributes) for cls in CLASSES}
        plain = _with_methods()  # the slots of Tensor and Variable hold the same functions
        self.before = {name: _slot(plain, number) for name, _, number, _ in _NUMBERS}
        self.before["compare"] = _slot(plain, _RICHCOMPARE_SLOT)
        self.before |= {name: _slot(plain, number) for name, (number, *_) in PROTOCOLS.items()}
        self._ops = [OPS[name] for _, name, *_ in (*_NUMBERS, *COMPARISONS)]
        kinds = ["fc" if op.name == "pow" else op.dtypes for op in self._ops] + [OPS["square"].dtypes, "f", "iuf", "f"]
        self._ops += [OPS["square"], OPS["square"], OPS["pow"], OPS["sqrt"]]
        _load_rest()
        looped = [f.op for f, _ in define.FUNCTIONS if ufunc_of(f.op) or f.op in REPLACE]
        more = [op for op in looped if op not in self._ops and op.arity in (1, 2)]
        self._ops += dict.fromkeys(more)
        kinds += ["f" if op.name in WRAPPED else op.dtypes for op in self._ops[len(kinds) :]]
        self._rows = (ctypes.c_int64 * (Row.WORDS * len(self._ops)))()
        for k, (op, wanted) in enumerate(zip(self._ops, kinds, strict=True)):
            fill_row(self._rows, k, op, wanted)
        self._types, self._promotions = types_table(), promotions()
        self._dtypes, self._named = dtype_names()
        place = {op: ctypes.addressof(self._rows) + 8 * Row.WORDS * k for k, op in reversed([*enumerate(self._ops)])}
        self._ufuncs = ufuncs_table(place)
        self._names: list[object] = [sys.intern(n) for name, *_ in _NUMBERS for n in (name, _reflected(name))]
        self._recipe = _recipe(payload, layout.slot_offset(Operand, "_slice_of"))
        self._parts = (ctypes.c_int64 * len(PARTS))()
        self._library = load(self._recipe, self._addresses(), self._improve)
        self._complete_rows()

    def _addresses(self) -> dict[str, int]:
        from tracejit.runtime.slots import DATA, FUNCTIONS

        objects: dict[str, object] = {
            "tj_ndarray": np.ndarray, "tj_generic": np.generic, "tj_integer": np.integer, "tj_bool": bool,
            "tj_tensor": Tensor, "tj_variable": Variable, "tj_float": float, "tj_complex": complex, "tj_int": int,
            "tj_true": True, "tj_false": False, "tj_none": None, "tj_zero": 0, "tj_not_implemented": NotImplemented,
            "tj_shape": TensorShape, "tj_slice": slice, "tj_str": str, "tj_tuple": tuple,
            "tj_list": list, "tj_dots": Ellipsis, "tj_silent": _silent, "tj_int64": np.int64, "tj_int32": np.int32,
        }  # fmt: skip
        found = of_python(n for n in FUNCTIONS if n not in layout.API) | {n: id(o) for n, o in objects.items()}
        found["tj_array"] = memory.address_array()
        found["tj_richcompare"] = self.before["compare"]
        found |= {f"tj_before{name}": self.before[name] for name in PROTOCOLS}
        found |= {name: id(f) for name, f in python_functions().items()}
        found["tj_numpy_subscript"] = _slot(np.ndarray, PROTOCOLS["__getitem__"][0])
        found["tj_part_methods"] = ctypes.addressof(self._parts)
        found["tj_assign"], found["tj_assign_name"] = id(_assign), id(_ASSIGN)
        found["tj_numpy_put"] = _slot(np.ndarray, _PUT_SLOT)
        found["tj_busy"] = id(activity) + layout.slot_offset(type(activity), "busy")
        found["tj_rows"], found["tj_types"] = ctypes.addressof(self._rows), ctypes.addressof(self._types)
        found["tj_promotion"] = ctypes.addressof(self._promotions)
        found["tj_ufuncs"] = ctypes.addressof(self._ufuncs)
        found["tj_dtypes"] = ctypes.addressof(self._dtypes)
        api = layout.numpy_api()
        found |= {name: api[place] or 0 for name, place in layout.API.items() if name in FUNCTIONS}
        return complete(found, (*DATA, *FUNCTIONS))

    def _complete_rows(self) -> None:
        for k, name in enumerate(PARTS):
            function = builtin(name, self._library[f"part_{name}"], None, named=True)
            keep(function)
            self._parts[k] = id(function)
        for k, (name, _, _, place) in enumerate(_NUMBERS):
            at = Row.WORDS * k
            self._rows[at + Row.OLDER] = self._rows[at + Row.OWN] or self._library[name]
            self._rows[at + Row.OWN], self._rows[at + Row.PLACE] = self._library[name], place
            if k < len(UNARY):
                self._rows[at + Row.METHOD] = self.before[name]
            else:
                names = self._names[2 * k], self._names[2 * k + 1]
                self._rows[at + Row.METHOD], self._rows[at + Row.REFLECTED] = id(names[0]), id(names[1])

    def complete(self, op: Op) -> None:
        """Run the loops of a ufunc that there was not at first."""
        if op in self._ops:
            fill_row(self._rows, self._ops.index(op), op, op.dtypes)

    def function(self, op: Op) -> Callable[..., Any]:
        """The operation as a function that returns NotImplemented where it is not simple."""
        row = ctypes.addressof(self._rows) + 8 * Row.WORDS * self._ops.index(op)
        operation = "product" if op.name == PRODUCT[1] else "unary" if op.arity == 1 else "binary"
        return builtin(op.name, self._library[f"call_{operation}"], row.to_bytes(8, "little"))

    def install(self) -> None:
        """Put the functions into the classes' slots, and behind the public functions."""
        keep(self)
        self._attributes.install({name: self._library[name] for name in EXPORTS})
        for cls, places in self.places.items():
            if _slot_places(cls, self._attributes) != places:
                continue  # somebody gave the class another method meanwhile
            for name, address in places.items():
                ctypes.c_uint64.from_address(address).value = self._library[name]
        self._accelerate()

    def _accelerate(self) -> None:
        from tracejit.runtime.slots import QUICK

        for op in self._ops:
            op.native = self.function(op)
        for f, accelerate in define.FUNCTIONS:
            if f.op in self._ops:
                accelerate(self.function(f.op))
        for name in QUICK:
            setattr(fast, name, builtin(name, self._library[f"call_{name}"]))

    def _improve(self, code: bytes) -> None:
        """Go on with better code, in slots that still hold this module's functions."""
        old, new = self._library, Library(code, self._recipe.exports, self._addresses())
        for library in (old, new):
            keep(library)  # calls may still be in the old one
        self._library = new
        self._complete_rows()
        held = [(n, a) for places in self.places.values() for n, a in places.items() if layout.word(a) == old[n]]
        self._attributes.install({name: new[name] for name in EXPORTS})  # which resets slots
        for name, address in held:
            ctypes.c_uint64.from_address(address).value = new[name]
        self._accelerate()

    def installed(self) -> set[str]:
        """The methods of Tensor whose slots are native now."""
        return {n for n, a in self.places[Tensor].items() if layout.word(a) == self._library[n]}


def _recipe(payload: int, slice_of: int) -> Recipe:
    from tracejit.runtime.slots import CALLS, QUICK, module_text

    names = tuple([n for n, *_ in UNARY]), tuple([n for n, *_ in BINARY]), PRODUCT[0], POWER[0]
    exports = [n for n, *_ in _NUMBERS] + ["compare", *[f"call_{name}" for name in (*CALLS, *QUICK)], *EXPORTS]
    exports += [f"part_{name}" for name in PARTS]
    return Recipe(module_text, (payload, slice_of, *names), tuple(exports), optimize=2)


# --- memory -----------------------------------------------------------------------------------------------------
def _set_handler(capsule: object) -> bool:
    """Make this the memory handler of the context that we are in. Whether it is that of the kernels' context then."""
    function = layout.numpy_api()[layout.API_SET_HANDLER] or 0
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(function)(capsule)
    return any(value is capsule for _, value in memory_handler())


def _align_kernels(capsule: object) -> None:
    """Let NumPy's functions, where the ops call them, make their results with this memory handler.

    NumPy has its handler in a context variable, and the ops call its functions in a context of their own.
    """
    for _ in range(1000):
        try:
            run_silently(_set_handler, capsule)
            return
        except RuntimeError:
            if _first is not None:  # another thread is in that context, perhaps for long: it shall do it
                _first.ask(lambda: _set_handler(capsule))
                return
            time.sleep(0.001)


def _load_heap() -> None:
    with contextlib.suppress(RuntimeError, OSError, ImportError):
        await_turn(memory.recipe())
        _align_kernels(memory.handler_capsule())


_imported = False


def imported() -> None:
    """The package has been imported: from now on, the first array that is made sets off a thread."""
    global _imported
    _imported = True


def _begin_loading_heap() -> bool:
    """Have the handler replaced by that of our own allocator, whose big blocks are in huge pages."""
    if _imported:
        # no daemon: it must not be inside LLVM while the process ends
        with contextlib.suppress(RuntimeError):  # the process is ending, or has all the threads that it may have
            threading.Thread(target=_load_heap, name="tracejit memory").start()
    return _imported


def _first_handler() -> memory.FirstHandler | None:
    try:
        first = memory.FirstHandler()
    except (OSError, AttributeError, ImportError):
        return None
    first.ask(_begin_loading_heap)
    return first


# --- loading ----------------------------------------------------------------------------------------------------
_lock = threading.RLock()
_loaded: list[Native | None] = []
_started = False


def unsupported() -> str | None:
    """Why the operators stay as they are, or None if nothing is known against it."""
    if hasattr(sys, "gettotalrefcount"):
        return "the interpreter counts references for debugging"
    return layout.unsupported()


def activate() -> Native | None:
    """Make eager operations native now; None where that is not possible."""
    with _lock:
        if not _loaded:
            _loaded.append(_load())
        return _loaded[0]


def _load() -> Native | None:
    if unsupported() is not None:
        return None
    try:
        native = Native()
    except (RuntimeError, OSError, ImportError):
        return None  # the operators' methods do the same
    if memory.address_array():
        _align_kernels(memory.handler_capsule())
    native.install()
    return native


def take_ufunc(op: Op, ufunc: np.ufunc) -> None:
    """Let the native form of an operation that NumPy has no ufunc for run this one's loops."""
    with _lock:
        MADE[op.name] = ufunc
        if _loaded and _loaded[0] is not None:
            _loaded[0].complete(op)


def _load_rest() -> None:
    """What the import of the package has left for later: not in a thread, since a fork could cut that off."""
    importlib.import_module("tracejit.ops.specialmath")  # rows that get native functions too
    importlib.import_module("tracejit.runtime.slots")


def start() -> None:
    """Make eager operations native in the background, once."""
    global _started
    if _started:
        return
    _started = True
    _load_rest()
    try:
        # no daemon: it must not be inside LLVM while the process ends
        threading.Thread(target=activate, name="tracejit operators").start()
    except RuntimeError:
        pass  # the process is ending, or has all the threads that it may have


def _after_fork_in_child() -> None:
    global _lock, _started
    _lock, _started = threading.RLock(), bool(_loaded)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
WHEN_WARM.append(start)
_first = _first_handler()
if _first is not None:
    _align_kernels(_first.capsule)
