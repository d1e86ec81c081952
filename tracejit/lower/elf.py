"""Loads relocatable ELF objects of x86-64 Linux into memory: a linker for what this project's own compiler makes."""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

PAGE: Final = mmap.PAGESIZE
_LARGEST: Final = 1 << 28  # bytes of one object in memory

# sections
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_IGNORED: Final = frozenset({0, 3, 7, 0x6FFF4C03})  # null, strings, notes, LLVM's address significance
_UNWIND: Final = 0x70000001
_WRITE, _ALLOC, _EXECUTE, _TLS, _COMPRESSED = 1, 2, 4, 0x400, 0x800
# symbols
_UNDEFINED, _ABSOLUTE, _LAST_INDEX = 0, 0xFFF1, 0xFF00
_GLOBAL, _WEAK = 1, 2
_DATA_KINDS: Final = frozenset({0, 1, 2, 3, 4})  # none, object, function, section, file: no TLS, no ifunc
# relocations
_R64, _PC32, _PLT32, _GOTPCREL, _R32, _R32S, _PC64 = 1, 2, 4, 9, 10, 11, 24
_GOTPCRELX, _REX_GOTPCRELX = 41, 42
_VIA_GOT: Final = frozenset({_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX})
_STUB: Final = 8  # jmp *[rip + d], padded


class UnsupportedObject(RuntimeError):
    """An object that this loader does not take, or one that is damaged."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class _Symbol(NamedTuple):
    name: bytes
    bind: int
    kind: int
    section: int
    value: int


class _Relocation(NamedTuple):
    section: int
    offset: int
    kind: int
    symbol: int
    addend: int


def available() -> bool:
    """Whether this loader is for this machine."""
    return (
        sys.platform == "linux"
        and platform.machine() == "x86_64"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and sys.implementation.name == "cpython"
    )


@functools.cache
def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _in_process(name: str) -> int:
    """The address of what the libraries of this process call `name`; 0 if none does."""
    try:
        return ctypes.cast(getattr(_process(), name), ctypes.c_void_p).value or 0
    except (AttributeError, ValueError):
        return 0


class _Object:
    """The parts of an object file, each checked to lie inside the file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        if len(data) < 64 or data[:7] != b"\x7fELF\x02\x01\x01":
            raise UnsupportedObject("not a 64-bit little-endian ELF file")
        kind, machine, version = struct.unpack_from("<HHI", data, 16)
        if (kind, machine, version) != (1, 62, 1):
            raise UnsupportedObject("not a relocatable object of x86-64")
        (start,) = struct.unpack_from("<Q", data, 40)
        size, count, _ = struct.unpack_from("<HHH", data, 58)
        if size != 64 or not 0 < count < _LAST_INDEX or start + 64 * count > len(data):
            raise UnsupportedObject("the section headers lie outside the file")
        self.sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", data, start + 64 * i)) for i in range(count)]
        for s in self.sections:
            self._check(s)
        self.symbols = self._symbols()
        self.relocations = list(self._relocations())

    def _check(self, s: _Section) -> None:
        if s.kind not in (_PROGBITS, _SYMTAB, _RELA, _NOBITS, _UNWIND) and s.kind not in _IGNORED:
            raise UnsupportedObject(f"a section of kind {s.kind:#x}")
        if s.flags & (_TLS | _COMPRESSED):
            raise UnsupportedObject("a thread-local or compressed section")
        if s.flags & _WRITE and s.flags & _EXECUTE:
            raise UnsupportedObject("a section that is both written and executed")
        if s.kind not in (_NOBITS, 0) and s.offset + s.size > len(self.data):
            raise UnsupportedObject("a section lies outside the file")
        if s.size > _LARGEST or s.align > PAGE or s.align & (s.align - 1):
            raise UnsupportedObject(f"a section of {s.size} bytes at multiples of {s.align}")

    def content(self, s: _Section) -> bytes:
        return self.data[s.offset : s.offset + s.size]

    def _symbols(self) -> list[_Symbol]:
        tables = [s for s in self.sections if s.kind == _SYMTAB]
        if len(tables) != 1 or tables[0].entry != 24 or tables[0].size % 24 or tables[0].link >= len(self.sections):
            raise UnsupportedObject("not exactly one table of symbols")
        strings = self.content(self.sections[tables[0].link])
        found = []
        for at, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", self.content(tables[0])):
            end = strings.find(b"\0", at)
            if end < 0:
                raise UnsupportedObject("a symbol's name lies outside the file")
            found.append(_Symbol(strings[at:end], info >> 4, info & 15, section, value))
        return found

    def _relocations(self) -> Iterator[_Relocation]:
        for table in self.sections:
            if table.kind != _RELA:
                continue
            if table.entry != 24 or table.size % 24 or table.info >= len(self.sections):
                raise UnsupportedObject("a table of relocations that is damaged")
            if not _loaded(self.sections[table.info]):
                continue
            target = self.sections[table.info]
            for offset, info, addend in struct.iter_unpack("<QQq", self.content(table)):
                kind, symbol = info & 0xFFFFFFFF, info >> 32
                width = 8 if kind in (_R64, _PC64) else 4
                if offset + width > target.size or target.kind == _NOBITS or symbol >= len(self.symbols):
                    raise UnsupportedObject("a relocation outside its section")
                yield _Relocation(table.info, offset, kind, symbol, addend)


def _loaded(s: _Section) -> bool:
    # tables for unwinding are left out: compiled code throws nothing, and nothing is thrown through it
    return bool(s.flags & _ALLOC) and s.kind in (_PROGBITS, _NOBITS) and s.size > 0


def _aligned(n: int, align: int) -> int:
    return n + -n % max(1, align)


class Image:
    """One object in memory, which is given back when this is collected.

    Code, constants and the table of addresses may be read and executed; from a page of its own on follows what is
    written.
    """

    def __init__(self, data: bytes, exports: Iterable[str], imports: Mapping[str, int]) -> None:
        if not available():
            raise UnsupportedObject("no loader for this machine")
        try:
            self._object = _Object(data)
            self._imports = imports
            self._lay_out()
            self._fill()
            self.addresses = self._exported(exports)
            self._protect()
        except (struct.error, IndexError, OSError, OverflowError) as e:
            raise UnsupportedObject(f"the object cannot be loaded: {e}") from None
        del self._object, self._imports, self._got, self._stubs, self._known

    def _lay_out(self) -> None:
        o = self._object
        self._offsets: dict[int, int] = {}
        end = 0

        def place(wanted: int) -> None:
            nonlocal end
            for i, s in enumerate(o.sections):
                if _loaded(s) and s.flags & (_WRITE | _EXECUTE) == wanted:
                    end = self._offsets[i] = _aligned(end, s.align)
                    end += s.size

        place(_EXECUTE)
        undefined = {r.symbol for r in o.relocations if r.kind == _PLT32 and not o.symbols[r.symbol].section}
        self._stubs, end = self._table(undefined, _aligned(end, 16), _STUB)
        place(0)
        got = {r.symbol for r in o.relocations if r.kind in _VIA_GOT} | undefined
        self._got, end = self._table(got, _aligned(end, 8), 8)
        self._fixed = end = _aligned(end, PAGE)
        place(_WRITE)
        if not 0 < end <= _LARGEST:
            raise UnsupportedObject(f"an object of {end} bytes")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, _aligned(end, PAGE), flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    @staticmethod
    def _table(symbols: Iterable[int], at: int, size: int) -> tuple[dict[int, int], int]:
        places = {s: at + size * k for k, s in enumerate(sorted(symbols))}
        return places, at + size * len(places)

    def _address(self, number: int) -> int:
        """Where a symbol is."""
        found = self._known.get(number)
        if found is None:
            found = self._known[number] = self._find(self._object.symbols[number])
        return found

    def _find(self, s: _Symbol) -> int:
        if s.kind not in _DATA_KINDS:
            raise UnsupportedObject(f"a symbol of kind {s.kind}")
        if s.section == _ABSOLUTE:
            return s.value
        if s.section == _UNDEFINED:
            name = s.name.decode("utf-8", "replace")
            found = (self._imports.get(name) or _in_process(name)) if name else 0
            if not found:
                raise UnsupportedObject(f"the symbol {name!r} is not defined anywhere")
            return found
        if s.section not in self._offsets or s.value > self._object.sections[s.section].size:
            raise UnsupportedObject("a symbol that is not in memory")
        return self.start + self._offsets[s.section] + s.value

    def _fill(self) -> None:
        self._known: dict[int, int] = {}
        o = self._object
        for i, at in self._offsets.items():
            if o.sections[i].kind != _NOBITS:
                self._memory[at : at + o.sections[i].size] = o.content(o.sections[i])
        for symbol, at in self._got.items():
            struct.pack_into("<Q", self._memory, at, self._address(symbol))
        for symbol, at in self._stubs.items():
            struct.pack_into("<HiH", self._memory, at, 0x25FF, self._got[symbol] - at - 6, 0xCCCC)
        for r in o.relocations:
            self._relocate(r)

    def _relocate(self, r: _Relocation) -> None:
        at = self._offsets[r.section] + r.offset
        place = self.start + at
        if r.kind in _VIA_GOT:
            value = self.start + self._got[r.symbol] + r.addend - place
        elif r.kind in (_R64, _R32, _R32S):
            value = self._address(r.symbol) + r.addend
        elif r.kind in (_PC32, _PLT32, _PC64):
            value = self._address(r.symbol) + r.addend - place
            if r.symbol in self._stubs and r.kind == _PLT32 and not -(1 << 31) <= value < 1 << 31:
                value = self.start + self._stubs[r.symbol] + r.addend - place
        else:
            raise UnsupportedObject(f"a relocation of kind {r.kind}")
        if r.kind == _R64:
            struct.pack_into("<Q", self._memory, at, value & 0xFFFFFFFFFFFFFFFF)
        else:
            # raises where the value does not fit
            struct.pack_into({_PC64: "<q", _R32: "<I"}.get(r.kind, "<i"), self._memory, at, value)

    def _exported(self, names: Iterable[str]) -> dict[str, int]:
        defined = {
            s.name: i
            for i, s in enumerate(self._object.symbols)
            if s.bind in (_GLOBAL, _WEAK) and s.section != _UNDEFINED
        }
        missing = [n for n in names if n.encode() not in defined]
        if missing:
            raise UnsupportedObject(f"the object does not define {', '.join(missing)}")
        return {n: self._address(defined[n.encode()]) for n in names}

    def _protect(self) -> None:
        if self._fixed:
            code = mmap.PROT_READ | mmap.PROT_EXEC
            failed = _process().mprotect(ctypes.c_void_p(self.start), ctypes.c_size_t(self._fixed), code)
            if failed:
                raise OSError(ctypes.get_errno(), "memory cannot be made executable")
