"""The loader for object files: it does what LLVM's linker does, and refuses what is unknown to it or damaged."""

import ctypes
import gc
import mmap
import os
import random
import struct

import numpy as np
import pytest

from tracejit.ir.types import as_dtype
from tracejit.lower import codegen, elf, engine, llvmpackage, matmul
from tracejit.lower.gemm import exports, library
from tracejit.lower.microkernel import tiles
from tracejit.runtime import heap, memory, pool, threads

pytestmark = pytest.mark.skipif(not elf.available(), reason="code is linked by LLVM here")

TEXT = """
@table = internal constant [4 x double] [double 1.0, double 2.0, double 4.0, double 8.0]
@functions = internal constant [2 x ptr] [ptr @double, ptr @half]
@counter = global i64 5
@zeros = internal global [100 x i64] zeroinitializer, align 64
@outside = external global i64
declare double @fmod(double, double)
declare ptr @memcpy(ptr, ptr, i64)
declare i64 @given(i64)
define internal double @double(double %x) { %y = fmul double %x, 2.0 ret double %y }
define internal double @half(double %x) { %y = fmul double %x, 0.5 ret double %y }
define double @constants(double %x, i64 %i) {
  %p = getelementptr double, ptr @table, i64 %i
  %a = load double, ptr %p
  %m = call double @fmod(double %x, double 3.25)
  %r = fmul double %m, %a
  %s = fadd double %r, 0.1
  ret double %s
}
define double @pick(double %x, i64 %i) {
  %p = getelementptr ptr, ptr @functions, i64 %i
  %f = load ptr, ptr %p
  %r = call double %f(double %x)
  ret double %r
}
define i64 @count() {
  %a = load i64, ptr @counter
  %b = add i64 %a, 1
  store i64 %b, ptr @counter
  %p = getelementptr i64, ptr @zeros, i64 99
  %c = load i64, ptr %p
  store i64 %b, ptr %p
  %d = load i64, ptr @outside
  %e = add i64 %c, %d
  ret i64 %e
}
define i64 @across(i64 %x) { %r = call i64 @given(i64 %x) ret i64 %r }
define void @lanes(ptr %to, ptr %from) {
  %a = load <8 x float>, ptr %from, align 4
  %b = fadd <8 x float> %a, <float 0.5, float 1.5, float 2.5, float 3.5, float 4.5, float 5.5, float 6.5, float 7.5>
  store <8 x float> %b, ptr %to, align 4
  ret void
}
define ptr @copy(ptr %to, ptr %from) { %r = call ptr @memcpy(ptr %to, ptr %from, i64 24) ret ptr %r }
"""
NAMES = ["constants", "pick", "count", "across", "lanes", "copy", "counter"]
DOUBLE, LONG, POINTER = ctypes.c_double, ctypes.c_int64, ctypes.c_void_p
GIVEN = ctypes.CFUNCTYPE(LONG, LONG)(lambda x: 3 * x + 1)


def imports():
    outside = LONG(1000)
    return {"outside": ctypes.addressof(outside), "given": ctypes.cast(GIVEN, POINTER).value}, outside


def results(addresses):
    """What the functions of TEXT give, and leave in memory."""
    constants = ctypes.CFUNCTYPE(DOUBLE, DOUBLE, LONG)(addresses["constants"])
    pick = ctypes.CFUNCTYPE(DOUBLE, DOUBLE, LONG)(addresses["pick"])
    count = ctypes.CFUNCTYPE(LONG)(addresses["count"])
    across = ctypes.CFUNCTYPE(LONG, LONG)(addresses["across"])
    found = [constants(x, i) for x in (0.5, 17.75, -3.0) for i in range(4)]
    found += [pick(3.0, i) for i in range(2)] + [across(7), across(-1)]
    found += [LONG.from_address(addresses["counter"]).value, count(), count()]
    found += [LONG.from_address(addresses["counter"]).value]
    x, y = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    for name in ("lanes", "copy"):
        ctypes.CFUNCTYPE(None, POINTER, POINTER)(addresses[name])(y.ctypes.data, x.ctypes.data)
        found += y.tolist()
    return found


@pytest.mark.parametrize("level", [0, 2])
def test_both_linkers_give_the_same(level):
    given, _keep = imports()
    code = engine.compile_ir(TEXT, 0, level)
    ours = elf.Image(code, NAMES, given)
    theirs = llvmpackage.Linked(code, NAMES, given)
    assert ours.addresses.keys() == theirs.addresses.keys()
    got = results(ours.addresses)
    assert got == results(theirs.addresses)
    assert got[12:18] == [6.0, 1.5, 22, -2, 5, 1000] and got[18:20] == [1006, 7]


def module_texts():
    machine = threads.target()[1]
    for system in ("linux", "posix", "none"):
        yield f"allocator {system}", memory.module_text(system, machine), heap.EXPORTS, {}
        yield f"pool {system}", threads.module_text(system, machine), pool.EXPORTS, {}
    for name in ("float32", "float64", "float16", "bfloat16"):
        t = tiles(as_dtype(name), "generic")
        yield f"products {name}", library(t), exports(t), matmul.imports()


MODULES = {name: parts for name, *parts in (module_texts() if elf.available() else ())}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("level", [0, 2])
def test_the_packages_own_modules_load(name, level):
    text, names, given = MODULES[name]
    image = elf.Image(engine.compile_ir(text, 0, level), list(names), given)
    assert set(image.addresses) == set(names)


def mappings(start, end):
    """(first, last, permissions) of the memory between two addresses."""
    with open("/proc/self/maps") as file:
        for line in file:
            span, permissions = line.split()[:2]
            low, high = (int(x, 16) for x in span.split("-"))
            if low < end and high > start:
                yield low, high, permissions


def test_no_memory_is_both_written_and_executed():
    given, _keep = imports()
    image = elf.Image(engine.compile_ir(TEXT), NAMES, given)
    code, data = image.addresses["constants"], image.addresses["counter"]
    assert next(mappings(code, code + 1))[2] == "r-xp"
    assert next(mappings(data, data + 1))[2] == "rw-p"
    assert image.start <= code < data
    assert {p for *_, p in mappings(image.start, data + 1)} <= {"r-xp", "rw-p"}


def test_memory_is_given_back():
    given, _keep = imports()
    code = engine.compile_ir(TEXT)

    def size():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0])

    images = [elf.Image(code, NAMES, given) for _ in range(50)]
    full = size()
    del images
    gc.collect()
    assert full - size() >= 50 * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_data_of_its_own():
    given, _keep = imports()
    image = elf.Image(engine.compile_ir(TEXT), NAMES, given)
    count = ctypes.CFUNCTYPE(LONG)(image.addresses["count"])
    child = os.fork()
    if not child:
        count()
        os._exit(0 if LONG.from_address(image.addresses["counter"]).value == 6 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert LONG.from_address(image.addresses["counter"]).value == 5


def test_functions_that_are_far_away_are_called_through_a_stub():
    low = 0x40  # MAP_32BIT: far from where libraries are
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | low
    far = mmap.mmap(-1, 4096, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    far[:8] = bytes.fromhex("488d047fc3") + b"\x90" * 3  # lea rax, [rdi + 2 * rdi]; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(far))
    given, _keep = imports()
    image = elf.Image(engine.compile_ir(TEXT), NAMES, {**given, "given": address})
    assert abs(image.start - address) > 1 << 31
    assert ctypes.CFUNCTYPE(LONG, LONG)(image.addresses["across"])(14) == 42


# --- objects made by hand ------------------------------------------------------------------------------------------
def section(kind, flags, content, link=0, info=0, align=8, entry=0):
    return kind, flags, content, link, info, align, entry


def symbol(name, where, value=0, bind=1, kind=0):
    return struct.pack("<IBBHQQ", name, bind << 4 | kind, 0, where, value, 0)


DATA = 3  # the number of the section that relocations are made in


def make(relocations=(), symbols=(), more=(), data=bytes(64), flags=3):
    """An object with the symbols `start` (of its data), `outside` (nowhere) and more."""
    strings = b"\0start\0outside\0"
    table = symbol(0, 0, bind=0) + symbol(1, DATA) + symbol(7, 0) + b"".join(symbols)
    rela = b"".join(struct.pack("<QQq", at, s << 32 | kind, addend) for at, kind, s, addend in relocations)
    sections = [
        section(0, 0, b""),
        section(3, 0, strings, align=1),
        section(2, 0, table, link=1, info=1, entry=24),
        section(1, flags, data, align=16),
        section(4, 0, rela, link=2, info=DATA, entry=24),
        *more,
    ]
    body, headers = b"", b""
    for kind, f, content, link, info, align, entry in sections:
        at = 64 + len(body)
        headers += struct.pack("<IIQQQQIIQQ", 0, kind, f, 0, at, len(content), link, info, align, entry)
        body += content + b"\0" * (-len(content) % 8)
    rest = (0, 64, 0, 0, 64, len(sections), 1)
    head = struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), *rest)
    return b"\x7fELF\x02\x01\x01" + bytes(9) + head + body + headers


def load(*args, outside=0x123456789A, **kwargs):
    image = elf.Image(make(*args, **kwargs), ["start"], {"outside": outside})
    start = image.addresses["start"]
    return image, start, ctypes.string_at(start, 64)


def test_relocations_one_by_one():
    start_symbol, outside_symbol = 1, 2
    _, start, raw = load([(0, 1, start_symbol, 24), (8, 1, outside_symbol, -1), (16, 24, outside_symbol, 5)])
    assert struct.unpack_from("<QQ", raw) == (start + 24, 0x123456789A - 1)
    assert struct.unpack_from("<q", raw, 16)[0] == 0x123456789A + 5 - (start + 16)
    _, _, raw = load([(0, 10, 2, 1), (4, 11, 2, -2)], outside=0x70000000)
    assert struct.unpack_from("<Ii", raw) == (0x70000001, 0x6FFFFFFE)
    _, _, raw = load([(0, 2, 1, 40)])
    assert struct.unpack_from("<i", raw)[0] == 40
    for kind in (9, 41, 42):
        _kept, start, raw = load([(8, kind, 2, -4)])
        slot = start + 8 + 4 + struct.unpack_from("<i", raw, 8)[0]
        assert ctypes.c_uint64.from_address(slot).value == 0x123456789A


def test_an_absolute_symbol_and_a_weak_one():
    image = elf.Image(make([(0, 1, 3, 1)], [symbol(7, 0xFFF1, 99)]), ["start"], {})
    assert ctypes.c_uint64.from_address(image.addresses["start"]).value == 100
    assert elf.Image(make(symbols=[symbol(7, DATA, 8, bind=2)]), ["outside"], {}).addresses["outside"] % 16 == 8


REFUSED = {
    "unknown relocation": lambda: make([(0, 20, 1, 0)]),
    "relocation for threads": lambda: make([(0, 19, 1, 0)]),
    "relocation outside": lambda: make([(61, 1, 1, 0)]),
    "relocation of a symbol that is not there": lambda: make([(0, 1, 7, 0)]),
    "unknown symbol": lambda: make([(0, 1, 3, 0)], [symbol(2, 0)]),
    "too far": lambda: make([(0, 10, 1, 0)]),
    "too far, signed": lambda: make([(0, 11, 1, 0)]),
    "too far, relative": lambda: make([(0, 2, 2, 0)]),
    "symbol of a thread": lambda: make([(0, 1, 3, 0)], [symbol(7, DATA, kind=6)]),
    "indirect symbol": lambda: make([(0, 1, 3, 0)], [symbol(7, DATA, kind=10)]),
    "common symbol": lambda: make([(0, 1, 3, 0)], [symbol(7, 0xFFF2)]),
    "symbol beyond its section": lambda: make([(0, 1, 3, 0)], [symbol(7, DATA, 1000)]),
    "symbol of a section that is not loaded": lambda: make([(0, 1, 3, 0)], [symbol(7, 1)]),
    "name outside": lambda: make(symbols=[symbol(5000, DATA)]),
    "thread-local section": lambda: make(more=[section(1, 0x403, b"x")]),
    "compressed section": lambda: make(more=[section(1, 0x802, b"x")]),
    "written and executed": lambda: make(flags=7),
    "constructors": lambda: make(more=[section(14, 3, bytes(8))]),
    "group": lambda: make(more=[section(17, 0, bytes(8), link=2)]),
    "second table of symbols": lambda: make(more=[section(2, 0, bytes(24), link=1, entry=24)]),
    "alignment": lambda: make(more=[section(1, 2, b"x", align=1 << 20)]),
    "odd alignment": lambda: make(more=[section(1, 2, b"x", align=24)]),
    "nothing": lambda: b"",
    "text": lambda: b"whole, but no object code" * 10,
    "other machine": lambda: make()[:18] + struct.pack("<H", 183) + make()[20:],
    "executable": lambda: make()[:16] + struct.pack("<H", 2) + make()[18:],
    "big-endian": lambda: make()[:5] + b"\2" + make()[6:],
    "headers outside": lambda: make()[:40] + struct.pack("<Q", 1 << 62) + make()[48:],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(elf.UnsupportedObject):
        elf.Image(REFUSED[name](), ["start"], {"outside": 0x7FFF_FFFF_0000 // 2 if name != "too far" else 1 << 40})


def test_a_name_that_is_not_defined():
    with pytest.raises(elf.UnsupportedObject, match="other"):
        elf.Image(make(), ["start", "other"], {})
    with pytest.raises(elf.UnsupportedObject, match="outside"):
        elf.Image(make([(0, 1, 2, 0)]), ["start"], {})


def test_damaged_objects_never_crash():
    given, _keep = imports()
    code = engine.compile_ir(TEXT)
    chance = random.Random(7)
    refused = 0
    for k in range(1500):
        damaged = bytearray(code)
        if k % 3 == 0:
            del damaged[chance.randrange(len(code)) :]
        for _ in range(chance.randrange(1, 9)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        try:
            elf.Image(bytes(damaged), NAMES, given)
        except elf.UnsupportedObject:
            refused += 1
    assert refused > 700


def test_what_is_refused_goes_to_llvm():
    """Variables of a thread are beyond this loader."""
    text = "@mine = internal thread_local(localexec) global i64 7\ndefine i64 @f() { ret i64 3 }\n"
    text += "define ptr @g() { ret ptr @mine }\n"
    code = engine.compile_ir(text)
    with pytest.raises(elf.UnsupportedObject):
        elf.Image(code, ["f"], {})
    plain = engine.compile_ir("define i64 @f() { ret i64 3 }\n")
    real, elf.available = elf.available, lambda: False
    try:
        lib = engine.Library(plain, ["f"])
    finally:
        elf.available = real
    assert type(lib._image) is llvmpackage.Linked and lib.function("f", LONG)() == 3
    with pytest.raises(RuntimeError):
        engine.Library(b"no object", ["f"])


# --- the compiler without the package ------------------------------------------------------------------------------
@pytest.mark.skipif(codegen.host() is None, reason="this release of llvmlite is used through its package")
def test_the_library_is_called_as_the_package_does():
    ll = llvmpackage.ll

    def kind(t):
        if t in (None, ctypes.c_int):
            return t
        return ctypes.c_void_p if t is not ctypes.c_char_p and ctypes.sizeof(t) == 8 and t is not ctypes.c_size_t else t

    for name, (result, arguments) in codegen.signatures().items():
        theirs = getattr(ll.ffi.lib, name)
        if theirs.argtypes is not None:
            assert [kind(t) for t in theirs.argtypes] == [kind(t) for t in arguments], name
            assert kind(theirs.restype) == kind(result), name
    assert codegen.host() == llvmpackage.host()
    for text in (TEXT, memory.module_text(*threads.target())):
        for level, optimize in ((0, 0), (2, 0), (2, 1), (2, 3)):
            assert codegen.compile_ir(text, level, optimize) == llvmpackage.compile_ir(text, optimize, level)


def test_unknown_releases_are_used_through_the_package(monkeypatch):
    monkeypatch.setattr(codegen, "RELEASES", ("0.1.",))
    caches = (codegen.find, codegen._open)
    for c in caches:
        c.cache_clear()
    try:
        assert codegen.compile_ir(TEXT, 2) is None and codegen.host() is None
        assert engine.host() == llvmpackage.host()
        given, _keep = imports()
        lib = engine.load(TEXT, NAMES, given)
        assert results(lib.addresses)[1] == pytest.approx(1.1)
    finally:
        for c in caches:
            c.cache_clear()


@pytest.mark.parametrize("optimize", [0, 2])
def test_text_that_is_no_ir(optimize):
    with pytest.raises(RuntimeError, match="expected"):
        engine.compile_ir("garbage", optimize)


def test_threads_compile_at_once():
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"define i64 @f() {{\n  ret i64 {k}\n}}\n" for k in range(40)]
    with ThreadPoolExecutor(4) as workers:
        libs = list(workers.map(lambda t: engine.load(t, ["f"]), texts))
    assert [lib.function("f", LONG)() for lib in libs] == list(range(40))
