"""Where finished work is kept: bounded caches in memory, and object code on disk under the hash of its source."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from tracejit import forks
from tracejit.errors import CacheWarning, user_depth
from tracejit.lower import engine
from tracejit.lower.engine import Library
from tracejit.runtime import keys

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")


@dataclass(frozen=True)
class CacheInfo:
    """A cache's state: `size` and `limit` count entries in memory and bytes on disk."""

    name: str
    entries: int
    size: int
    limit: int
    hits: int
    misses: int
    evicted: int


class Cache(Generic[K, V]):
    """At most `size` entries; the one that was used longest ago goes first. Safe to use from several threads."""

    def __init__(self, name: str, size: int) -> None:
        if size < 1:
            raise ValueError(f"cache {name}: size must be at least 1, got {size}")
        self.name, self.size = name, size
        self._entries: OrderedDict[K, V] = OrderedDict()
        # Reentrant: a garbage collection inside the lock may run code that comes back here.
        self._lock = forks.rlock()
        self._hits = self._misses = self._evicted = 0

    def get(self, key: K, default: D = None) -> V | D:  # type: ignore[assignment]
        with self._lock:
            try:
                self._entries.move_to_end(key)
            except KeyError:
                self._misses += 1
                return default
            self._hits += 1
            return self._entries[key]

    def put(self, key: K, value: V) -> V:
        """Keep `value`, and return it."""
        dropped = []
        with self._lock:
            dropped.append(self._entries.pop(key, None))
            self._entries[key] = value
            while len(self._entries) > self.size:
                dropped.append(self._entries.popitem(last=False)[1])
                self._evicted += 1
        del dropped  # outside the lock, since a value's destructor may take its time or other locks
        return value

    def pop(self, key: K) -> V | None:
        """Take an entry out; None if there is none."""
        with self._lock:
            return self._entries.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            dropped, self._entries = self._entries, OrderedDict()
        del dropped

    def keys(self) -> list[K]:
        """From the one used longest ago to the latest."""
        with self._lock:
            return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def info(self) -> CacheInfo:
        with self._lock:
            n = len(self._entries)
            return CacheInfo(self.name, n, n, self.size, self._hits, self._misses, self._evicted)


# --- keys -----------------------------------------------------------------------------------------------------
def make_key(text: str, *flags: object) -> str:
    """The name of what is compiled from `text` with `flags` on this processor with these versions."""
    digest = hashlib.sha256(keys.environment(engine.host))
    digest.update(repr(flags).encode())
    digest.update(b"\0")
    digest.update(text.encode())
    return digest.hexdigest()


# --- disk -----------------------------------------------------------------------------------------------------
_MAGIC = b"tracejit object 1\n"
_BLOCK = 4096
_STALE_SECONDS = 3600.0
_warned = False


def _warn_once(message: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(CacheWarning(message), stacklevel=user_depth())


def default_folder() -> str:
    """TRACEJIT_CACHE_DIR, or the place that the operating system has for a user's caches."""
    chosen = os.environ.get("TRACEJIT_CACHE_DIR")
    if chosen:
        return _expanded(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or _expanded(os.path.join("~", "AppData", "Local"))
        return os.path.join(base, "tracejit", "Cache")
    if sys.platform == "darwin":
        return _expanded(os.path.join("~", "Library", "Caches", "tracejit"))
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(xdg if os.path.isabs(xdg) else _expanded(os.path.join("~", ".cache")), "tracejit")


def _expanded(path: str) -> str:
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise RuntimeError("the home directory is not known")
    return found


def _enabled() -> bool:
    return os.environ.get("TRACEJIT_CACHE", "1").lower() not in ("0", "false", "off", "no")


class DiskCache:
    """Bytes under their keys in a folder that any number of processes use at once.

    An entry is written to a file of its own and renamed, so a reader sees all of it or nothing, and carries a checksum.
    A file `tally` grows by one byte for each disk block written: its length is the size of the folder, known
    without listing it. When it passes the limit, the entries that were used longest ago are deleted.
    Where the folder cannot be written, entries are kept in memory.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit_bytes: int = 512 << 20) -> None:
        self.limit = limit_bytes
        self.folder: str | None = None
        self._writable = True
        self.enabled = folder is not None or _enabled()
        self._memory: Cache[str, bytes] = Cache("objects", 256)
        self._temporary = itertools.count()
        self._hits = self._misses = self._evicted = 0
        if self.enabled:
            self._open(folder)

    def _open(self, folder: str | os.PathLike[str] | None) -> None:
        try:
            path = os.fspath(folder) if folder is not None else default_folder()
            if not os.path.isdir(path):
                os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
                os.makedirs(path, mode=0o700, exist_ok=True)
            self.folder = path
        except (OSError, RuntimeError) as error:
            _warn_once(f"the cache folder cannot be used, compiled code is kept in memory only: {error}")

    def _path(self, key: str) -> str:
        return os.path.join(self.folder or "", key + ".o")

    def is_new(self) -> bool:
        """Whether nothing has been put here yet, by any process."""
        return self.folder is not None and not os.path.exists(os.path.join(self.folder, "tally"))

    def get(self, key: str) -> bytes | None:
        """What was put under `key`, by this process or another; None if nothing, or nothing whole, is there."""
        data = self._read(key) if self.folder else None
        if data is None and self.enabled:
            data = self._memory.get(key)
        if data is None:
            self._misses += 1
        else:
            self._hits += 1
        return data

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raw = b""
        except OSError as error:
            _warn_once(f"an entry of the cache cannot be read: {error}")
            return None
        start = len(_MAGIC) + 32
        if raw[:start] != _MAGIC + _checksum(key, raw[start:]):
            _warn_once(f"an entry of the cache was damaged and is compiled again: {path}")
            _delete(path)
            return None
        try:
            os.utime(path)
        except OSError:
            pass  # a read-only cache serves as well; it only loses the order of use
        return raw[start:]

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, for this process and later ones."""
        if not self.enabled:
            return
        if self.folder is not None and self._writable:
            self._writable = self._write(key, data)
        if self.folder is None or not self._writable:
            self._memory.put(key, data)

    def _write(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        temporary = f"{path}.{os.getpid()}.{threading.get_ident()}.{next(self._temporary)}.tmp"
        try:
            descriptor = self._create(temporary)
            with open(descriptor, "wb") as file:
                file.write(_MAGIC + _checksum(key, data) + data)
            os.replace(temporary, path)
        except OSError as error:
            _delete(temporary)
            _warn_once(f"the cache cannot be written, compiled code is kept in memory only: {error}")
            return False
        try:
            self._count_blocks(len(_MAGIC) + 32 + len(data))
        except OSError:
            pass  # another process cleared the folder meanwhile
        return True

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:  # somebody deleted the whole folder
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _count_blocks(self, size: int) -> None:
        tally = os.path.join(self.folder or "", "tally")
        fresh = not os.path.exists(tally)
        with open(tally, "ab") as file:
            file.write(b"\0" * -(-size // _BLOCK))
            file.flush()
            blocks = os.fstat(file.fileno()).st_size
        if fresh or blocks * _BLOCK > self.limit:
            self._evict()

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        if self.folder is None or not os.path.isdir(self.folder):
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith((".o", ".tmp")):
                    try:
                        yield entry.path, entry.stat()
                    except FileNotFoundError:
                        continue  # another process deleted it

    def _evict(self) -> None:
        """Count the folder, delete what is over the limit (and a quarter more, so that this happens seldom)."""
        entries, used, now = [], 0, time.time()
        for path, status in self._files():
            if path.endswith(".tmp"):
                if now - status.st_mtime > _STALE_SECONDS:
                    _delete(path)  # left by a process that was killed while writing
                continue
            blocks = -(-status.st_size // _BLOCK)
            entries.append((status.st_mtime_ns, path, blocks))
            used += blocks
        if used * _BLOCK > self.limit:
            for _, path, blocks in sorted(entries):
                if used * _BLOCK <= self.limit * 3 // 4:
                    break
                _delete(path)
                used -= blocks
                self._evicted += 1
        os.truncate(os.path.join(self.folder or "", "tally"), used)

    def info(self) -> CacheInfo:
        sizes = [s.st_size for p, s in self._files() if p.endswith(".o")]
        name = self.folder if self.folder else "memory" if self.enabled else "off"
        if self.folder is None:
            sizes = [len(self._memory.get(k) or b"") for k in self._memory.keys()]
        return CacheInfo(name, len(sizes), sum(sizes), self.limit, self._hits, self._misses, self._evicted)

    def clear(self) -> None:
        """Delete every entry, also those of other processes."""
        self._memory.clear()
        for path, _ in list(self._files()):
            if path.endswith(".o"):
                _delete(path)
        if self.folder is not None:
            _delete(os.path.join(self.folder, "tally"))


def _checksum(key: str, data: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + data).digest()


def _delete(path: str) -> None:
    try:
        if os.path.isdir(path):
            for name in os.listdir(path):
                _delete(os.path.join(path, name))
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:
        pass  # already gone, or a folder that is read-only


# --- native libraries -----------------------------------------------------------------------------------------
@functools.cache
def shared() -> DiskCache:
    """The disk cache that everything in this process uses."""
    return DiskCache()


@functools.cache
def host() -> tuple[str, str]:
    """The processor's name and its features, as LLVM knows them, kept on disk so that LLVM need not be loaded."""
    key = make_key("processor")
    found = (shared().get(key) or b"").decode().split("\n")
    if len(found) != 2:
        found = list(engine.host())
        shared().put(key, "\n".join(found).encode())
    return found[0], found[1]


def load_library(
    text: str,
    exports: Iterable[str],
    imports: Mapping[str, int] | None = None,
    optimize: int = 0,
    cache: DiskCache | None = None,
) -> Library:
    """Load the native code of an LLVM module, from the disk cache if it was compiled before."""
    cache = cache or shared()
    names = list(exports)
    key = make_key(text, "llvm", optimize)
    known = cache.get(key)
    if known is not None:
        try:
            return Library(known, names, imports)
        except RuntimeError:
            pass  # whole, but not loadable here: compile it again
    data = engine.compile_ir(text, optimize)
    cache.put(key, data)
    return Library(data, names, imports)
