"""Kernels → machine code: one module for all kernels that are missing, kept in memory by text and on disk by key."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracejit import forks
from tracejit.ir.graph import Node
from tracejit.ir.types import DType
from tracejit.lower import engine, lanes, quicksort, registers
from tracejit.lower import matmul as mm
from tracejit.lower.gemm import OPERANDS
from tracejit.lower.kernel import Kernel
from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.lower.nested import OUTER
from tracejit.runtime import cache, modules
from tracejit.runtime.threads import get_threads


@dataclass(frozen=True)
class Source:
    """What one native function is made from. `text` is its identity."""

    text: str
    kernel: Kernel | None = None
    dtype: DType | None = None
    combine: str = ""
    routine: str = ""
    args: tuple[Any, ...] = ()
    sorter: int = 0  # bits of the integers that a routine has sorted
    apart: bool = False  # whether it is compiled and kept by itself, as long routines are that many programs share
    across: int = 0  # how many lines a routine has transformed at once, of its first argument's type
    region: Node | None = None
    rows: bool = False  # whether the region is a loop over many rows
    optimize: int = 0  # the level of LLVM's pipeline that the code goes through


def of_kernel(k: Kernel) -> Source:
    return Source(k.text(), k)


def of_combine(kind: str, dtype: DType, partial: DType | None = None) -> Source:
    """Partial results, kept as `partial`, put together."""
    of = partial or dtype
    return Source(f"combine {kind} {of.name} {dtype.name}", None, dtype, kind, args=(of,))


def of_routine(routine: str, *args: Any, sorter: int = 0, across: int = 0, apart: bool = False) -> Source:
    """One of the functions in `routines`; dtypes and plain values say which form of it."""
    shown = [a.name if isinstance(a, DType) else repr(a) for a in args]
    text = f"{routine} {' '.join(shown)}"
    return Source(text, routine=routine, args=args, sorter=sorter, across=across, apart=apart)


def of_region(n: Node) -> Source:
    return Source(registers.text(n), region=n, optimize=registers.pipeline_level(n))


def of_rows(n: Node) -> Source:
    return Source(lanes.text(n), region=n, rows=True)


def of_product(dtype: DType, epilogue: Kernel | None, two_loops: bool = False) -> Source:
    """A product with its epilogue; with `two_loops` its batch takes two loops."""
    how = "product in two loops" if two_loops else "product"
    text = f"{how} {dtype.name}\n{epilogue.text() if epilogue else 'store'}"
    return Source(text, epilogue, dtype, args=(two_loops,))


class Code:
    """Machine code of one source: addresses by suffix ("" for kernels). Keeps its library loaded."""

    __slots__ = ("addresses", "library", "steps", "__weakref__")

    def __init__(self, addresses: dict[str, int], library: engine.Library) -> None:
        self.addresses, self.library = addresses, library


@dataclass
class Compiled:
    """The code for some sources, and what it took."""

    code: dict[str, Code]
    milliseconds: float = 0.0
    compiled: int = 0
    from_disk: int = 0
    shared: int = 0
    names: list[str] = field(default_factory=list)


_lock = forks.rlock()
_known: weakref.WeakValueDictionary[str, Code] = weakref.WeakValueDictionary()
PRODUCT_STEPS = ("pack_step", "compute", "combine")


def _emit(module: Module, name: str, s: Source) -> None:
    from tracejit.lower import emit_llvm, routines  # what prints code is loaded only when something is compiled
    from tracejit.lower.epilogue import GroupEpilogue

    if s.region is not None:
        (lanes if s.rows else registers).emit(module, name, s.region)
    elif s.combine:
        assert s.dtype is not None
        emit_llvm.emit_combine(module, name, s.combine, s.dtype, *s.args)
    elif s.routine:
        routines.emit(module, name, s.routine, s.args)
    elif s.dtype is not None:
        (two_loops,) = s.args
        first = len(OPERANDS) + (len(OUTER) if two_loops else 0)
        epilogue = GroupEpilogue(s.kernel, first) if s.kernel is not None else mm.StoreEpilogue(s.dtype, first)
        mm.emit(module, name, s.dtype, epilogue, two_loops=two_loops)
    else:
        assert s.kernel is not None
        emit_llvm.emit(module, name, s.kernel)


def _butterflies() -> Any:
    from tracejit.lower import butterflies  # loaded where something is transformed

    return butterflies


def _exports(name: str, s: Source) -> list[str]:
    return [f"{name}_{k}" for k in PRODUCT_STEPS] if s.dtype is not None and not s.combine else [name]


def llvm(sources: Sequence[Source]) -> str:
    """The LLVM IR of all sources in one module."""
    module = Module()
    for i, s in enumerate(sources):
        _emit(module, f"k{i}", s)
    return module.text()


def compile_all(sources: Sequence[Source]) -> Compiled:
    """Machine code for the sources: from memory, from disk, or compiled now."""
    start = time.perf_counter()
    unique = list({s.text: s for s in sources}.values())
    with _lock:
        out = Compiled({})
        missing = []
        for s in unique:
            code = _known.get(s.text)
            if code is None:
                missing.append(s)
            else:
                out.code[s.text] = code
        out.shared = len(unique) - len(missing)
        for level in sorted({s.optimize for s in missing}):
            _load([s for s in missing if s.optimize == level], out, level)
    out.milliseconds = (time.perf_counter() - start) * 1e3
    return out


class _Part:
    """Sources whose code is one module: from disk, or compiled, maybe in a thread of its own."""

    def __init__(self, sources: list[Source], level: int) -> None:
        self.sources, self.level = sources, level
        self.key = cache.make_key("\n--\n".join(s.text for s in sources), "kernels", level)
        self.names = [f"k{i}" for i in range(len(sources))]
        self.exports = [e for n, s in zip(self.names, sources, strict=True) for e in _exports(n, s)]
        self.products = {s.dtype for s in sources if s.dtype is not None and not s.combine}
        self.transforms = {(s.args[0], s.across) for s in sources if s.across}
        self.imports: dict[str, int] | None = None
        self._data: bytes | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def from_disk(self) -> engine.Library | None:
        data = cache.shared().get(self.key)
        try:
            return self.library(data) if data is not None else None
        except RuntimeError:  # whole, but not loadable here
            return None

    def library(self, data: bytes) -> engine.Library:
        if self.imports is None:
            self.imports = _imports(self.products, {s.sorter for s in self.sources if s.sorter})
            for dtype, width in self.transforms:
                self.imports |= _butterflies().symbols(dtype, width)
        return engine.Library(data, self.exports, self.imports)

    def start(self, in_thread: bool) -> None:
        """Print the module, and compile it, or let a thread do that."""
        text = llvm(self.sources)
        modules.begin()
        self._thread = modules.in_thread(lambda: self._try(text)) if in_thread else None
        if self._thread is None:
            self._data = engine.compile_ir(text, self.level)

    def _try(self, text: str) -> None:
        try:
            with engine.inside:
                self._data = engine.compile_ir(text, self.level)
        except BaseException as e:  # raised by `compiled`
            self._error = e

    def compiled(self) -> engine.Library:
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._data is not None
        cache.shared().put(self.key, self._data)
        return self.library(self._data)


_ENOUGH = 30  # milliseconds of compilation, about, that are worth a thread
_MOST = 4  # parts


def _parts(sources: list[Source]) -> list[list[Source]]:
    """The sources in as many parts as threads can compile side by side, of about equal work, and those kept apart."""
    apart, sources = [[s] for s in sources if s.apart], [s for s in sources if not s.apart]
    work = [8 + len(s.text) / 80 for s in sources]
    # one thread is left for the package's own modules, which are compiled meanwhile
    parts: list[list[int]] = [[] for _ in range(max(1, min(get_threads() - 1, _MOST, int(sum(work) / _ENOUGH))))]
    for i in sorted(range(len(sources)), key=lambda i: -work[i]):
        min(parts, key=lambda p: sum(work[k] for k in p)).append(i)
    return [*apart, *([sources[i] for i in sorted(p)] for p in parts if p)]


def _load(missing: list[Source], out: Compiled, level: int) -> None:
    parts = [_Part(p, level) for p in _parts(missing)]
    for dtype in {d for p in parts for d in p.products}:
        mm.compile_ahead(dtype)
    if kinds := {t for p in parts for t in p.transforms}:
        _butterflies().compile_ahead(kinds)
    found = [p.from_disk() for p in parts]
    new = [p for p, library in zip(parts, found, strict=True) if library is None]
    for p in new:
        p.start(in_thread=p is not new[-1])
    for p, library in zip(parts, found, strict=True):
        out.from_disk += len(p.sources) if library is not None else 0
        out.compiled += len(p.sources) if library is None else 0
        library = library if library is not None else p.compiled()
        for n, s in zip(p.names, p.sources, strict=True):
            code = Code({e[len(n) :].lstrip("_"): library[e] for e in _exports(n, s)}, library)
            _known[s.text] = out.code[s.text] = code


def _imports(products: Iterable[DType], sorters: Iterable[int]) -> dict[str, int]:
    found = [mm.symbols(dtype) for dtype in products] + [quicksort.symbols(bits) for bits in sorters]
    return {name: address for one in found for name, address in one.items()}


_POINTER = "offset"
_pointer: list[Code] = []


def pointer_code() -> Code:
    """A kernel that sets `frame[idx[0]] = frame[idx[1]] + frame[idx[2]]`: a pointer into a buffer."""
    with _lock:
        if not _pointer:
            module = Module()
            f = module.function(_POINTER, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
            frame, idx = f.args[:2]
            at = [f.gep(frame, f.cast("zext", f.load("i32", f.gep(idx, 4 * i)), "i64"), "i64") for i in range(3)]
            f.store(f.add(f.load("i64", at[1]), f.load("i64", at[2])), at[0])
            f.ret_()
            library = cache.load_library(module.text(), [_POINTER])
            _pointer.append(Code({"": library[_POINTER]}, library))
        return _pointer[0]


def loop_code() -> Code:
    """Arithmetic on the slots of a frame, for loops; `idx` gives the slots.

    madd     frame[0] = frame[1] + frame[2] * frame[3]
    count    frame[0] -= 1; the bool at frame[1] says whether frame[0] was positive
    full     the bool at frame[0] says whether frame[1] == frame[2]
    put      the int64 at frame[0] becomes frame[1]
    settle   bring frame[1] buffers of frame[2] bytes, frame[3], frame[5], … to where they began, frame[4], frame[6], …;
             frame[0] is one more, which is free
    """
    with _lock:
        if not _loop:
            m = Module()
            names = list(_LOOPS)
            for name in names:
                f = m.function(name, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
                frame, idx = f.args[:2]
                at = [f.gep(frame, f.cast("zext", f.load("i32", f.gep(idx, 4 * i)), "i64"), "i64") for i in range(4)]
                _LOOPS[name](f, at)
                f.ret_()
            library = cache.load_library(m.text(), names)
            _loop.append(Code({n: library[n] for n in names}, library))
        return _loop[0]


def _madd(f: Fn, at: list[Val]) -> None:
    a, b, c = (f.load("i64", p) for p in at[1:])
    f.store(f.add(a, f.mul(b, c)), at[0])


def _count(f: Fn, at: list[Val]) -> None:
    n = f.load("i64", at[0])
    f.store(f.add(n, i64(-1)), at[0])
    f.store(f.cast("zext", f.cmp("sgt", n, i64(0)), "i8"), f.load("ptr", at[1]))


def _settle(f: Fn, at: list[Val]) -> None:
    free, count, nbytes = at[0], f.load("i64", at[1]), f.load("i64", at[2])
    copy = f.module.declare("llvm.memcpy.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])

    def slot(i: Val) -> Val:
        number = f.load("i32", f.gep(f.gep(f.args[1], 12), i, "i32"))
        return f.gep(f.args[0], f.cast("zext", number, "i64"), "i64")

    def move(k: Val, anywhere: bool) -> Val:
        """Bring a buffer's contents to where it began, if that is free, or to where is room; whether it was away."""
        p = slot(f.mul(k, i64(2)))
        now, home, room = f.load("ptr", p), f.load("ptr", slot(f.add(f.mul(k, i64(2)), i64(1)))), f.load("ptr", free)
        away = f.cmp("ne", now, home)

        def go() -> None:
            f.call(copy, [room, now, nbytes, const("i1", 0)])
            f.store(room, p)
            f.store(now, free)

        f.if_(away if anywhere else f.and_(away, f.cmp("eq", room, home)), go)
        return away

    def each(k: Val, left: Val) -> list[Val]:
        return [f.or_(left, move(k, False))]

    def turn(_: Val) -> list[Val]:
        def rounds(k: Val) -> None:
            f.loop(0, count, each, [const("i1", 0)])

        f.loop(0, count, rounds)
        (left,) = f.loop(0, count, each, [const("i1", 0)])

        def evict(k: Val, moved: Val) -> list[Val]:
            return [f.if_(moved, lambda: [const("i1", 1)], lambda: [move(k, True)])[0]]

        def circle() -> None:
            f.loop(0, count, evict, [const("i1", 0)])

        f.if_(left, circle)
        return [left]

    f.while_([const("i1", 1)], lambda left: left, turn)


def _full(f: Fn, at: list[Val]) -> None:
    same = f.cmp("eq", f.load("i64", at[1]), f.load("i64", at[2]))
    f.store(f.cast("zext", same, "i8"), f.load("ptr", at[0]))


def _put(f: Fn, at: list[Val]) -> None:
    f.store(f.load("i64", at[1]), f.load("ptr", at[0]))


_LOOPS = {"madd": _madd, "count": _count, "full": _full, "put": _put, "settle": _settle}
_loop: list[Code] = []
