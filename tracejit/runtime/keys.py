"""The names under which compiled code is kept: what they say of the processor, the system and the versions in use."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np

# The lines of /proc/cpuinfo that say what a processor can do; the others differ between equal processors, or in time.
_IDENTITY = frozenset(
    ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
    + ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features")
)


def installed_version(package: str) -> str:
    """A package's version from the name of its metadata folder: importing the package, or even importlib.metadata,
    would cost more than everything else in a key."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return "none"
    prefix = package + "-"
    for name in os.listdir(os.path.dirname(os.path.dirname(spec.origin))):
        if name.startswith(prefix) and name.endswith(".dist-info"):
            return name[len(prefix) : -len(".dist-info")]
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and hardly ever needed

    try:
        return version(package)
    except PackageNotFoundError:
        return spec.origin


def own_version() -> str:
    """This package's version: what its metadata says where it is installed, its files' times in a source tree."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if os.path.basename(os.path.dirname(root)) in ("site-packages", "dist-packages"):
        return installed_version("tracejit")
    sources = list(_sources(root)) if os.path.isdir(root) else [_archive(root)]
    lines = sorted(f"{path[len(root) :]} {s.st_size} {s.st_mtime_ns}\n" for path, s in sources)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sources(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path, entry.stat()
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _sources(entry.path)


def _archive(path: str) -> tuple[str, os.stat_result]:
    """The file that `path` is inside of."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path, os.stat(path)


def _start(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(16384).decode("utf-8", "replace")
    except OSError:
        return ""


def processor(alias: str = "/sys/devices/system/cpu/modalias", cpuinfo: str = "/proc/cpuinfo") -> str | None:
    """What tells this processor from others, as Linux describes the first one; None where it does not.

    The alias has the family, the model and every feature on x86 only. On some kernels the other file takes 10 ms, since
    it measures how fast all processors run.
    """
    text = _start(alias).strip()
    if text.startswith("cpu:type:x86,"):
        return text
    text, found = _start(cpuinfo), {}
    for line in text.partition("\n\n")[0].splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in _IDENTITY:
            found[name.strip()] = " ".join(value.split())
    if not (found.get("flags") or found.get("Features")):
        return None
    return "; ".join(f"{n} {v}" for n, v in found.items())


_environments: dict[Callable[[], tuple[str, str]], bytes] = {}
_lock = threading.Lock()


def environment(host: Callable[[], tuple[str, str]]) -> bytes:
    """The part of every key that is the same throughout a process. `host` tells of the processor where Linux does not;
    it is slow."""
    if host not in _environments:
        with _lock:
            if host not in _environments:
                _environments[host] = _environment(host)
    return _environments[host]


def _environment(host: Callable[[], tuple[str, str]]) -> bytes:
    parts = (
        "tracejit " + own_version(),
        "numba " + installed_version("numba"),
        "llvmlite " + installed_version("llvmlite"),
        "numpy " + np.__version__,
        f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')} {sys.maxsize.bit_length() + 1}",
        f"{sys.platform} {platform.machine()}",
        processor() or " ".join(host()),
    )
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # the old one may belong to a thread that exists only in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
