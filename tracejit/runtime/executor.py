"""The native module that runs plans: it finds the plan for a call, binds the arguments and takes the steps.

The module is the same for every plan, so it is compiled once per machine. It knows functions and objects of the process
by name only; their addresses are given when it is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from tracejit.context import activity
from tracejit.errors import CompileWarning
from tracejit.lower.engine import Library
from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout, memory
from tracejit.runtime import threads as pool
from tracejit.runtime.boundary import (
    call,
    decref,
    define_allocate,
    define_bind,
    define_flatten,
    define_result,
    define_unshare,
    field,
    incref,
    inside,
    nonzero,
    slot,
    switch,
    sym,
    word,
)
from tracejit.runtime.cfunctions import address, builtin, complete, of_python
from tracejit.runtime.guardcode import define_holds, holds
from tracejit.runtime.modules import Recipe, begin, compile_soon, load, pending
from tracejit.runtime.steps import define_steps
from tracejit.runtime.table import Chain, Head, Result, Table

# What `run` returns besides an object: no object lies at these addresses.
MISS: Final = const("ptr", 1)
RETRY: Final = const("ptr", 2)
NO_MEMORY: Final = const("ptr", 3)  # before the first step
ATTEMPTS: Final = 16
_STAYS_SHARED: Final = "a variable that is to be updated in place stays shared"
# Frames up to this size live on the stack.
STACK_BYTES: Final = 2048

_OBJECTS: Final[dict[str, object]] = {
    "tj_ndarray": np.ndarray,
    "tj_float": float,
    "tj_int": int,
    "tj_tuple": tuple,
    "tj_list": list,
    "tj_dict": dict,
    "tj_str": str,
    "tj_true": True,
    "tj_false": False,
    "tj_none": None,
    "tj_not_implemented": NotImplemented,
    "tj_runtime_error": RuntimeError,
    "tj_dict_name": sys.intern("__dict__"),
    "tj_slow": "_slow",
    "tj_zero": 0,
}
_DATA: Final = (*_OBJECTS, "tj_busy")


# --- one call ---------------------------------------------------------------------------------------------------
def _open_frame(f: Fn, table: Val) -> tuple[Val, Val]:
    """A frame with the plan's initial contents, and whether it lies on the heap."""
    size = word(f, table, Head.FRAME_BYTES)
    large = f.cmp("sgt", size, i64(STACK_BYTES))
    f.br_if(large, "heap", "stack")
    f.label("heap")
    far = f.call("tj_alloc", [size], "ptr")
    f.br_if(nonzero(f, far), "framed", "memory")
    f.label("stack")
    near = f.emit(f"alloca i8, i64 {size}, align 64", "ptr")
    f.br("framed")
    f.label("framed")
    frame = f.emit(f"phi ptr [ {far}, %heap ], [ {near}, %stack ]", "ptr")
    name = f.module.declare("llvm.memcpy.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])
    f.call(name, [frame, inside(f, table, table, Head.FRAME_AT), size, const("i1", 0)])
    return frame, large


def _close_frame(f: Fn, table: Val, frame: Val, large: Val) -> None:
    refs = slot(f, frame, word(f, table, Head.REFS_AT))

    def drop(i: Val) -> None:
        obj = f.load("ptr", f.gep(refs, i, "ptr"))
        f.if_(nonzero(f, obj), lambda: decref(f, obj))

    f.loop(0, word(f, table, Head.REFS), drop)
    arena = f.load("ptr", slot(f, frame, word(f, table, Head.ARENA_WORD)))
    f.if_(nonzero(f, arena), lambda: call(f, "tj_free", arena))
    f.if_(large, lambda: call(f, "tj_free", frame))


def _define_run(m: Module, table_offset: int) -> None:
    """`ptr run(plan, args)`: one call of a plan whose number of arguments is known to fit."""
    f = m.function("run", [("plan", "ptr"), ("args", "ptr")], "ptr", internal=True, attrs="noinline")
    plan, args = f.args
    table = f.gep(field(f, plan, table_offset), layout.BYTES_DATA)
    incref(f, plan)
    out = f.alloca(8, 8)
    frame, large = _open_frame(f, table)

    def shared() -> None:
        failed = f.cmp("ne", f.call("unshare", [table], "i32"), const("i32", 0))
        f.store(f.select(failed, NULL, RETRY), out)

    def matched() -> None:
        f.store(NO_MEMORY, out)
        made = f.call("allocate", [table, frame], "i32")
        f.if_(f.cmp("eq", made, const("i32", 0)), execute, lambda: call(f, "PyErr_Clear"))

    def execute() -> None:
        f.store(NULL, out)
        result = f.call("result", [table, frame], "ptr")
        f.if_(nonzero(f, result), lambda: take_steps(result))

    def take_steps(result: Val) -> None:
        f.store(result, out)
        r = f.call("steps", [table, frame], "i32")

        def failed() -> None:
            f.store(NULL, out)
            decref(f, result)

        f.if_(f.cmp("ne", r, const("i32", 0)), failed)

    def finish() -> None:
        flat = f.load("ptr", out)
        f.store(f.call("PyObject_CallOneArg", [word(f, table, Head.FINISH, "ptr"), flat], "ptr"), out)
        decref(f, flat)

    f.store(MISS, out)
    arms = {0: matched, 1: lambda: None, 2: shared}
    switch(f, f.call("bind", [table, args, frame], "i32"), arms, "memory")
    _close_frame(f, table, frame, large)
    got = f.cast("ptrtoint", f.load("ptr", out), "i64")
    ends = f.and_(f.cmp("ugt", got, i64(3)), f.cmp("eq", word(f, table, Head.RESULT), i64(Result.CALL)))
    f.if_(ends, finish)
    decref(f, plan)
    f.ret_(f.load("ptr", out))
    f.label("memory")
    f.call("PyErr_NoMemory", [], "ptr")
    decref(f, plan)
    f.ret_(NULL)


def _define_run_form(m: Module, table_offset: int) -> None:
    """`ptr run_form(plan, args, count, names)`: one call whose arguments stand as the plan's form says."""
    params = [("plan", "ptr"), ("args", "ptr"), ("count", "i64"), ("names", "ptr")]
    f = m.function("run_form", params, "ptr", internal=True, attrs="noinline")
    plan, args, count, names = f.args
    table = f.gep(field(f, plan, table_offset), layout.BYTES_DATA)
    size = f.mul(word(f, table, Head.ARGS), i64(8))
    leaves = f.emit(f"alloca i8, i64 {size}, align 8", "ptr")
    name = m.declare("llvm.memcpy.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])
    f.call(name, [leaves, inside(f, table, table, Head.LEAVES_AT), size, const("i1", 0)])
    expected, keywords = inside(f, table, table, Head.FORM_AT), word(f, table, Head.KEYWORDS)

    def same(i: Val) -> None:
        given = f.load("ptr", f.gep(f.gep(names, layout.TUPLE_ITEMS), i, "ptr"))
        f.guard(f.cmp("eq", given, f.load("ptr", f.gep(expected, i, "ptr"), invariant=True)), "miss")

    f.loop(0, keywords, same)
    after = f.call("flatten", [f.gep(expected, keywords, "ptr"), args, count, leaves], "ptr")
    f.guard(nonzero(f, after), "miss")
    f.ret_(f.call("run", [plan, leaves], "ptr"))
    f.label("miss")
    f.ret_(MISS)


def _repeat(f: Fn, once: Callable[[], Val]) -> Val:
    """`once`, again while it says RETRY; if variables do not become free, null with RuntimeError set."""

    def more(k: Val, r: Val) -> Val:
        return f.and_(f.cmp("eq", r, RETRY), f.cmp("slt", k, i64(ATTEMPTS)))

    _, r = f.while_([i64(0), RETRY], more, lambda k, _: [f.add(k, i64(1)), once()])

    def give_up() -> list[Val]:
        f.call("PyErr_SetString", [sym("tj_runtime_error"), sym("stays_shared")])
        return [NULL]

    return f.if_(f.cmp("eq", r, RETRY), give_up, lambda: [r])[0]


def _define_vectorcall(m: Module, plans_offset: int, table_offset: int) -> None:
    """`ptr vectorcall(self, args, nargsf, names)`: the first plan that matches, else `self._slow(...)`."""
    params = [("self", "ptr"), ("args", "ptr"), ("nargsf", "i64"), ("names", "ptr")]
    f = m.function("vectorcall", params, "ptr")
    self, args, nargsf, names = f.args
    nargs = f.and_(nargsf, i64((1 << 63) - 1))
    named = f.if_(nonzero(f, names), lambda: [field(f, names, layout.SIZE, "i64")], lambda: [i64(0)])[0]
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), "slow")

    def chain() -> Val:
        plans = field(f, self, plans_offset)
        count = f.if_(nonzero(f, plans), lambda: [field(f, plans, layout.SIZE, "i64")], lambda: [i64(0)])[0]

        def attempt(i: Val, _: Val) -> list[Val]:
            plan = f.load("ptr", f.gep(f.gep(plans, layout.TUPLE_ITEMS), i, "ptr"))
            table = f.gep(field(f, plan, table_offset), layout.BYTES_DATA)
            fits = f.cmp("eq", word(f, table, Head.POSITIONAL), nargs)
            fits = f.and_(fits, f.cmp("eq", word(f, table, Head.KEYWORDS), named))
            guards = word(f, table, Head.GUARDS, "ptr")
            form = word(f, table, Head.FORM_AT)

            def call_plan() -> list[Val]:
                return f.if_(
                    nonzero(f, form),
                    lambda: [f.call("run_form", [plan, args, f.add(nargs, named), names], "ptr")],
                    lambda: [f.call("run", [plan, args], "ptr")],
                )

            fits = f.if_(fits, lambda: [holds(f, guards)], lambda: [const("i1", 0)])[0]
            return [f.add(i, i64(1)), f.if_(fits, call_plan, lambda: [MISS])[0]]

        missed = [i64(0), MISS]
        return f.while_(
            missed, lambda i, r: f.and_(f.cmp("slt", i, count), f.cmp("eq", r, MISS)), attempt
        )[1]

    r = _repeat(f, chain)
    f.guard(f.and_(f.cmp("ne", r, MISS), f.cmp("ne", r, NO_MEMORY)), "slow")  # there the error is made
    f.ret_(r)
    f.label("slow")
    slow = f.call("PyObject_GetAttr", [self, sym("tj_slow")], "ptr")
    f.guard(f.emit(f"icmp ne ptr {slow}, null", "i1"), "error")
    r = f.call("PyObject_Vectorcall", [slow, args, nargsf, names], "ptr")
    decref(f, slow)
    f.ret_(r)
    f.label("error")
    f.ret_(NULL)


def _define_execute(m: Module, table_offset: int) -> None:
    """`ptr execute(_, args, 2)`, a C function for Python: `args` are a plan and the sequence of its arguments."""
    f = m.function("execute", [("self", "ptr"), ("args", "ptr"), ("nargs", "i64")], "ptr")
    plan, sequence = f.load("ptr", f.args[1]), f.load("ptr", f.gep(f.args[1], 8))
    leaves = f.call("PySequence_Tuple", [sequence], "ptr")
    f.guard(nonzero(f, leaves), "error")
    table = f.gep(field(f, plan, table_offset), layout.BYTES_DATA)
    fits = f.cmp("eq", word(f, table, Head.ARGS), field(f, leaves, layout.SIZE, "i64"))
    items = f.gep(leaves, layout.TUPLE_ITEMS)
    r = f.if_(fits, lambda: [_repeat(f, lambda: f.call("run", [plan, items], "ptr"))], lambda: [MISS])[0]
    decref(f, leaves)

    def missed() -> list[Val]:
        incref(f, sym("tj_not_implemented"))
        return [sym("tj_not_implemented")]

    f.guard(f.cmp("ne", r, NO_MEMORY), "memory")
    f.ret_(f.if_(f.cmp("eq", r, MISS), missed, lambda: [r])[0])
    f.label("memory")
    f.call("PyErr_NoMemory", [], "ptr")
    f.ret_(NULL)
    f.label("error")
    f.ret_(NULL)


_SIGNATURES: Final[dict[str, tuple[str, Sequence[str]]]] = {
    "PyDict_GetItemWithError": ("ptr", ["ptr", "ptr"]),
    "PyDict_Next": ("i32", ["ptr", "ptr", "ptr", "ptr"]),
    "PyErr_CheckSignals": ("i32", []),
    "PyErr_Clear": ("void", []),
    "PyErr_NoMemory": ("ptr", []),
    "PyErr_SetString": ("void", ["ptr", "ptr"]),
    "PyEval_RestoreThread": ("void", ["ptr"]),
    "PyEval_SaveThread": ("ptr", []),
    "PyList_New": ("ptr", ["i64"]),
    "PyList_SetItem": ("i32", ["ptr", "i64", "ptr"]),
    "PyLong_AsLongLongAndOverflow": ("i64", ["ptr", "ptr"]),
    "PyLong_FromVoidPtr": ("ptr", ["ptr"]),
    "PyObject_CallOneArg": ("ptr", ["ptr", "ptr"]),
    "PyObject_GenericGetDict": ("ptr", ["ptr", "ptr"]),
    "PyObject_GetAttr": ("ptr", ["ptr", "ptr"]),
    "PyObject_RichCompareBool": ("i32", ["ptr", "ptr", "i32"]),
    "PyObject_Vectorcall": ("ptr", ["ptr", "ptr", "i64", "ptr"]),
    "PySequence_Tuple": ("ptr", ["ptr"]),
    "PyTuple_New": ("ptr", ["i64"]),
    "PyType_GenericAlloc": ("ptr", ["ptr", "i64"]),
    "Py_DecRef": ("void", ["ptr"]),
    "Py_IncRef": ("void", ["ptr"]),
    "_Py_Dealloc": ("void", ["ptr"]),
    "tj_array": ("ptr", ["ptr", "i32", "ptr", "i64"]),
    "tj_alloc": ("ptr", ["i64"]),
    "tj_free": ("void", ["ptr"]),
    "tj_time": ("i64", ["ptr"]),
}


def module_text(plans_offset: int, table_offset: int) -> str:
    """The module's LLVM IR for objects that hold their plans and tables at these offsets."""
    m = Module()
    for name, (ret, params) in _SIGNATURES.items():
        m.declare(name, ret, params)
    for name in _DATA:
        m.global_(name, "external global i8")
    m.global_("stays_shared", f'internal constant [{len(_STAYS_SHARED) + 1} x i8] c"{_STAYS_SHARED}\\00"')
    define_bind(m)
    define_holds(m)
    define_unshare(m)
    define_flatten(m)
    define_allocate(m)
    define_result(m)
    define_steps(m)
    _define_run(m, table_offset)
    _define_run_form(m, table_offset)
    _define_vectorcall(m, plans_offset, table_offset)
    _define_execute(m, table_offset)
    return m.text()


# --- loading ----------------------------------------------------------------------------------------------------
class Native:
    """The loaded module: `vectorcall` is an address, `execute(plan, arguments)` a Python function."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.vectorcall = self._library["vectorcall"]
        self.execute: Callable[[Table, Sequence[object]], Any] = builtin("execute", self._library["execute"])


def _addresses() -> dict[str, int]:
    """Where the functions and objects that the module names are in this process."""
    found = of_python(_SIGNATURES) | {n: id(o) for n, o in _OBJECTS.items()}
    found["tj_alloc"], found["tj_free"] = memory.address_alloc(), memory.address_free()
    found["tj_array"] = memory.address_array()
    found["tj_time"] = address(ctypes.CDLL(None).time if os.name == "posix" else ctypes.CDLL("ucrtbase")._time64)
    found["tj_busy"] = id(activity) + layout.slot_offset(type(activity), "busy")
    return complete(found, found)


_lock = threading.Lock()
_loaded: list[Native | None] = []
# Called with the module when it is loaded, and with one that takes its place.
replaced: list[Callable[[Native], None]] = []
_superseded: list[Native] = []  # calls may still be in their code


def _recipe() -> Recipe:
    offsets = layout.slot_offset(Chain, "_native_plans"), layout.slot_offset(Table, "_table")
    return Recipe(module_text, offsets, ("vectorcall", "execute"), optimize=2)


@functools.cache
def _recipes() -> tuple[Recipe, ...]:
    """What every function needs, in the order in which a first call does."""
    return pool.recipe(), memory.recipe(), _recipe()


@functools.cache
def prepare() -> None:
    """Let another thread make ready what every function needs and the disk cache lacks."""
    if layout.unsupported() is None and not _loaded:
        compile_soon(_recipes())


def ready() -> bool:
    """Whether `native` has an answer at once; if not, another thread is compiling."""
    if _loaded or layout.unsupported() is not None:
        return True
    prepare()
    begin()
    return not pending(_recipes())


def loaded() -> Native | None:
    """The native module if it is in use already."""
    return _loaded[0] if _loaded else None


def native() -> Native | None:
    """The native module, loaded once; None, after a warning, where it cannot be used.

    If its code was made quickly, better code takes its place a little later.
    """
    if not _loaded:
        with _lock:
            first = not _loaded
            if first:
                _loaded.append(_load())
        module = loaded()
        if first and module is not None:
            for tell in replaced:
                tell(module)
    return _loaded[0]


def _load() -> Native | None:
    reason = layout.unsupported()
    if reason is None:
        try:
            return Native(load(_recipe(), _addresses(), _replace))
        except (RuntimeError, OSError) as e:
            reason = str(e)
    warnings.warn(f"calls go through Python, which is slower: {reason}", CompileWarning, stacklevel=3)
    return None


def _replace(code: bytes) -> None:
    """Run plans with this code from now on."""
    new = Native(Library(code, _recipe().exports, _addresses()))
    with _lock:
        old, _loaded[0] = _loaded[0], new
        if old is not None:
            _superseded.append(old)
    for tell in replaced:
        tell(new)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # the old one may belong to a thread that exists only in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
