"""The caches: bounded in memory; on disk whole or absent, whatever happens to the files and whoever else writes."""

import gc
import os
import shutil
import subprocess
import sys
import time
import warnings
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from helpers import in_threads

from tracejit.errors import CacheWarning
from tracejit.lower import engine
from tracejit.runtime import cache, keys
from tracejit.runtime.cache import Cache, DiskCache, make_key

READ_ONLY = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="this user may write to folders that are read-only"
)


@pytest.fixture(autouse=True)
def not_warned_yet(monkeypatch):
    monkeypatch.setattr(cache, "_warned", False)


# --- in memory ------------------------------------------------------------------------------------------------
def test_the_entry_used_longest_ago_goes_first():
    c = Cache("things", 3)
    for k in "abc":
        assert c.put(k, k.upper()) == k.upper()
    assert c.get("a") == "A"
    c.put("d", "D")
    assert c.keys() == ["c", "a", "d"]
    assert c.get("b") is None and c.get("b", 5) == 5
    c.put("c", "again")
    assert c.keys() == ["a", "d", "c"] and c.get("c") == "again"
    assert "d" in c and "b" not in c and len(c) == 3


def test_counts():
    c = Cache("things", 2)
    for k in range(4):
        c.put(k, k)
    for k in range(4):
        c.get(k)
    info = c.info()
    assert (info.name, info.entries, info.limit) == ("things", 2, 2)
    assert (info.hits, info.misses, info.evicted) == (2, 2, 2)
    assert c.pop(3) == 3 and c.pop(3) is None
    c.clear()
    assert c.info().entries == 0
    with pytest.raises(ValueError, match="at least 1"):
        Cache("nothing", 0)


def test_none_is_a_value_like_any_other():
    c = Cache("things", 2)
    c.put("a", None)
    assert c.get("a", "missing") is None
    assert c.info().hits == 1


class Thing:
    pass


def test_dropped_values_are_released():
    c = Cache("things", 2)
    alive = []
    for k in (0, 0, 1, 2, 3):
        value = Thing()
        alive.append(weakref.ref(value))
        c.put(k, value)
    del value
    gc.collect()
    assert [a() is not None for a in alive] == [False, False, False, True, True]
    c.clear()
    gc.collect()
    assert not any(a() for a in alive)


def test_a_dropped_value_may_use_the_cache():
    c = Cache("things", 2)

    class Returning:
        def __del__(self):
            c.get("x")

    for k in range(5):
        c.put(k, Returning())
    c.put(4, 1)
    c.clear()
    assert c.info().misses >= 4


def test_memory_cache_from_several_threads():
    c = Cache("things", 20)

    def work(start):
        for k in range(start, start + 5000):
            c.put(k % 37, k % 37)
            assert c.get(k % 37, k % 37) == k % 37

    in_threads(4, work)
    info = c.info()
    assert len(c) == 20 and info.hits + info.misses == 20000


# --- keys -----------------------------------------------------------------------------------------------------
def test_keys_tell_text_and_flags_apart():
    keys = [make_key("ab"), make_key("ab", 0), make_key("ab", "0"), make_key("ab", 0, 1), make_key("abc"), make_key("")]
    keys += [make_key("b", "a"), make_key("", "ab"), make_key("ab", (0, 1)), make_key("ab", True)]
    assert len(set(keys)) == len(keys)
    assert make_key("ab", 0, "x") == make_key("ab", 0, "x")
    assert all(len(k) == 64 and set(k) <= set("0123456789abcdef") for k in keys)


@pytest.mark.parametrize("change", ["processor", "numba", "llvmlite", "tracejit", "numpy"])
def test_keys_depend_on_processor_and_versions(monkeypatch, change):
    before = make_key("text")
    if change == "processor":
        monkeypatch.setattr(keys, "processor", lambda: "flags none")
    elif change == "numpy":
        monkeypatch.setattr(keys.np, "__version__", "0.1")
    elif change == "tracejit":
        monkeypatch.setattr(keys, "own_version", lambda: "0.1")
    else:
        old = keys.installed_version
        monkeypatch.setattr(keys, "installed_version", lambda name: "0.1" if name == change else old(name))
    monkeypatch.setattr(keys, "_environments", {})
    assert make_key("text") != before
    monkeypatch.undo()
    assert make_key("text") == before


CPUINFO = """processor\t: 0
vendor_id\t: Maker
cpu family\t: 6
model\t\t: 85
model name\t: Some  Processor
stepping\t: 7
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse2 {flags}

processor\t: 1
flags\t\t: other
"""


def test_a_processor_is_known_by_what_does_not_change(tmp_path):
    def read(text):
        (tmp_path / "cpuinfo").write_text(text)
        return keys.processor(str(tmp_path / "modalias"), str(tmp_path / "cpuinfo"))

    first = read(CPUINFO.format(mhz=1000.1, flags="avx2"))
    name = "vendor_id Maker; cpu family 6; model 85; model name Some Processor; stepping 7"
    assert first == f"{name}; flags fpu sse2 avx2"
    assert read(CPUINFO.format(mhz=2000, flags="avx2")) == first
    assert read(CPUINFO.format(mhz=1000.1, flags="avx")) != first
    arm = "processor: 0\nBogoMIPS: 50\nFeatures: fp asimd\nCPU part: 0xd0c\n"
    assert read(arm) == "Features fp asimd; CPU part 0xd0c"
    assert read("processor : 0\nfrequency : 1\n") is None
    assert keys.processor(str(tmp_path / "none"), str(tmp_path / "none")) is None
    (tmp_path / "modalias").write_text("cpu:type:aarch64:feature:,0000\n")
    assert read(arm) == "Features fp asimd; CPU part 0xd0c"
    (tmp_path / "modalias").write_text("cpu:type:x86,ven0002fam001Amod0002:feature:,0000,0001\n")
    assert read(CPUINFO) == "cpu:type:x86,ven0002fam001Amod0002:feature:,0000,0001"


def test_where_the_system_does_not_tell_llvm_does(monkeypatch):
    known = make_key("text")
    monkeypatch.setattr(keys, "processor", lambda: None)
    monkeypatch.setattr(keys, "_environments", {})
    hosts = [lambda: ("a", "+x"), lambda: ("a", "+x,+y"), lambda: ("b", "+x")]
    found = {keys.environment(h) for h in hosts}
    assert len(found) == 3 and make_key("text") != known


def test_the_processors_features_are_kept_on_disk(tmp_path):
    code = (
        "import sys; from tracejit.runtime import cache; from tracejit.lower import codegen, engine\n"
        "known = cache.host()\n"
        "print(codegen._open.cache_info().currsize, 'llvmlite' in sys.modules, known == engine.host())"
    )
    first, second = (python(code, TRACEJIT_CACHE_DIR=str(tmp_path)).stdout for _ in range(2))
    assert first.endswith("True\n") and second == "0 False True\n"


def test_versions_are_read_without_importing():
    code = (
        "import sys; from tracejit.runtime import cache, keys; cache.make_key('x')\n"
        "loaded = {'numba', 'llvmlite'} & set(sys.modules)\n"
        "import importlib.metadata as m\n"
        "print(all(keys.installed_version(p) == m.version(p) for p in ('numba', 'llvmlite')), loaded)"
    )
    assert python(code).stdout == "True set()\n"
    assert keys.installed_version("no_such_package_here") == "none"


def test_the_version_of_a_source_tree_follows_its_files(monkeypatch, tmp_path):
    def version(root):
        monkeypatch.setattr(keys, "__file__", str(root / "tracejit" / "runtime" / "keys.py"))
        return keys.own_version()

    source = tmp_path / "src" / "tracejit" / "runtime"
    source.mkdir(parents=True)
    (source / "keys.py").write_text("a = 1")
    first = version(tmp_path / "src")
    assert version(tmp_path / "src") == first
    (source / "other.py").write_text("b = 1")
    second = version(tmp_path / "src")
    assert second != first
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.py").write_text("")
    (source / "notes.txt").write_text("")
    assert version(tmp_path / "src") == second
    (tmp_path / "a.zip").write_text("1")
    first = version(tmp_path / "a.zip")
    (tmp_path / "a.zip").write_text("12")
    assert version(tmp_path / "a.zip") != first


# --- on disk --------------------------------------------------------------------------------------------------
def entries(folder):
    return sorted(p for p in Path(folder).iterdir() if p.suffix == ".o")


def test_disk_round_trip(tmp_path):
    c = DiskCache(tmp_path / "deep" / "folder")
    data = os.urandom(5000)
    assert c.get("k1") is None
    c.put("k1", data)
    c.put("k2", b"")
    c.put("k1", data)
    assert c.get("k1") == data and c.get("k2") == b""
    assert DiskCache(tmp_path / "deep" / "folder").get("k1") == data
    info = c.info()
    assert info.entries == 2 and info.size >= 5000 and info.name == str(tmp_path / "deep" / "folder")
    assert (info.hits, info.misses) == (2, 1)
    assert not list(Path(c.folder).glob("*.tmp"))
    c.clear()
    assert c.get("k1") is None and c.info().entries == 0
    c.put("k1", data)
    assert c.get("k1") == data


@pytest.mark.skipif(os.name != "posix", reason="looks at POSIX permissions")
def test_the_folder_is_the_users_own(tmp_path):
    c = DiskCache(tmp_path / "new")
    c.put("k", b"x")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert entries(Path(c.folder))[0].stat().st_mode & 0o077 == 0


DAMAGE = {
    "cut short": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "longer": lambda raw: raw + b"x",
    "one bit": lambda raw: raw[:-7] + bytes([raw[-7] ^ 4]) + raw[-6:],
    "checksum": lambda raw: raw[:20] + bytes([raw[20] ^ 1]) + raw[21:],
    "other format": lambda raw: b"X" + raw[1:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_entries_are_deleted(tmp_path, damage):
    c = DiskCache(tmp_path)
    c.put("a", b"good" * 100)
    c.put("b", b"fine" * 100)
    path = tmp_path / "a.o"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(CacheWarning, match="damaged"):
        assert c.get("a") is None
    assert not path.exists()
    assert c.get("a") is None and c.get("b") == b"fine" * 100
    c.put("a", b"good" * 100)
    assert c.get("a") == b"good" * 100


def test_a_folder_in_the_place_of_an_entry_is_deleted(tmp_path):
    c = DiskCache(tmp_path)
    (tmp_path / "a.o" / "inside").mkdir(parents=True)
    with pytest.warns(CacheWarning, match="damaged"):
        assert c.get("a") is None
    c.put("a", b"good")
    assert DiskCache(tmp_path).get("a") == b"good"


def test_an_entry_under_another_name_is_not_taken(tmp_path):
    c = DiskCache(tmp_path)
    c.put("a", b"of a")
    (tmp_path / "a.o").rename(tmp_path / "b.o")
    with pytest.warns(CacheWarning, match="damaged"):
        assert c.get("b") is None


def test_one_warning_in_a_process(tmp_path):
    c = DiskCache(tmp_path)
    for k in "ab":
        c.put(k, b"data")
        (tmp_path / f"{k}.o").write_bytes(b"")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert c.get("a") is None and c.get("b") is None
    assert [w.category for w in found] == [CacheWarning]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(CacheWarning, match="memory only"):
        c = DiskCache(tmp_path / "file" / "cache")
    c.put("a", b"data")
    assert c.get("a") == b"data" and c.get("b") is None
    info = c.info()
    assert (info.name, info.entries, info.size) == ("memory", 1, 4)
    c.clear()
    assert c.get("a") is None


def test_writing_that_fails_is_not_tried_again(tmp_path, monkeypatch):
    c = DiskCache(tmp_path)
    c.put("old", b"on disk")
    tried = []

    def full(path, *rest):
        tried.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "open", full)
    with pytest.warns(CacheWarning, match="No space left"):
        c.put("a", b"data")
    c.put("b", b"more")
    assert len(tried) == 1
    assert (c.get("a"), c.get("b"), c.get("old")) == (b"data", b"more", b"on disk")


@READ_ONLY
def test_a_read_only_folder_still_serves(tmp_path):
    DiskCache(tmp_path).put("old", b"on disk")
    tmp_path.chmod(0o500)
    try:
        c = DiskCache(tmp_path)
        assert c.get("old") == b"on disk"
        with pytest.warns(CacheWarning, match="memory only"):
            c.put("a", b"data")
        assert c.get("a") == b"data"
        assert [p.name for p in entries(tmp_path)] == ["old.o"]
    finally:
        tmp_path.chmod(0o700)


def test_eviction_by_last_use(tmp_path):
    c = DiskCache(tmp_path, limit_bytes=10 * 4096)
    for k in range(10):
        c.put(str(k), bytes(3000))
        past = time.time() - 1000 + k
        os.utime(tmp_path / f"{k}.o", (past, past))
    assert len(entries(tmp_path)) == 10
    for k in (0, 1, 2):
        assert c.get(str(k)) is not None  # used just now
    c.put("new", bytes(3000))
    assert {p.stem for p in entries(tmp_path)} == {"0", "1", "2", "7", "8", "9", "new"}
    assert c.info().evicted == 4


def test_the_folder_stays_within_its_limit(tmp_path):
    c = DiskCache(tmp_path, limit_bytes=200_000)
    for k in range(200):
        c.put(f"k{k}", bytes(1 + 97 * k))
        assert c.info().size <= 200_000
    assert c.get("k199") == bytes(1 + 97 * 199)
    assert len(entries(tmp_path)) >= 5


def test_an_entry_larger_than_the_limit(tmp_path):
    c = DiskCache(tmp_path, limit_bytes=10_000)
    c.put("big", bytes(50_000))
    assert c.info().size <= 10_000
    c.put("small", b"x")
    assert c.get("small") == b"x"


def test_a_lost_tally_is_counted_again(tmp_path):
    c = DiskCache(tmp_path, limit_bytes=8 * 4096)
    for k in range(8):
        c.put(str(k), bytes(100))
    (tmp_path / "tally").unlink()
    c.put("8", bytes(100))
    assert len(entries(tmp_path)) <= 8
    for k in range(9, 30):
        c.put(str(k), bytes(100))
        assert len(entries(tmp_path)) <= 8


def test_a_folder_that_was_deleted_is_made_again(tmp_path):
    c = DiskCache(tmp_path / "cache")
    c.put("a", b"data")
    shutil.rmtree(tmp_path / "cache")
    assert c.get("a") is None and c.info().entries == 0
    c.clear()
    c.put("a", b"data")
    assert c.get("a") == b"data"


def test_files_of_killed_writers_are_removed(tmp_path):
    c = DiskCache(tmp_path, limit_bytes=4096)
    for name, age in (("old.o.1.2.3.tmp", 7200), ("new.o.1.2.3.tmp", 0)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    for k in range(3):
        c.put(str(k), b"x")
    assert [p.name for p in tmp_path.glob("*.tmp")] == ["new.o.1.2.3.tmp"]


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    c = DiskCache(tmp_path, limit_bytes=4096)
    for k in range(5):
        c.put(str(k), bytes(3000))
    c.clear()
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def data_of(key):
    return key.encode() * 700


def hammer(folder, seed):
    """Put, get and clear in a folder that others use; what is found must be right."""
    c = DiskCache(folder, limit_bytes=60_000)
    found = 0
    for k in range(150):
        key = f"key{(k * (seed + 3)) % 23}"
        got = c.get(key)
        if got is None:
            c.put(key, data_of(key))
        else:
            found += 1
            assert got == data_of(key)
        if k % 50 == 49 and seed == 0:
            c.clear()
    return found


def test_many_processes(tmp_path):
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as processes:
        found = list(processes.map(hammer, [str(tmp_path)] * 4, range(4)))
    assert sum(found) > 0
    assert not list(tmp_path.glob("*.tmp"))
    c = DiskCache(tmp_path)
    assert all(c.get(p.stem) == data_of(p.stem) for p in entries(tmp_path))


def test_many_threads(tmp_path):
    in_threads(6, lambda seed: hammer(tmp_path, seed))


# --- where it is, and whether -----------------------------------------------------------------------------------
def test_folder_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TRACEJIT_CACHE_DIR", str(tmp_path / "chosen"))
    assert Path(cache.default_folder()) == tmp_path / "chosen"
    monkeypatch.delenv("TRACEJIT_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Path(cache.default_folder()) == tmp_path / "xdg" / "tracejit"
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert Path(cache.default_folder()) == Path.home() / ".cache" / "tracejit"
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert Path(cache.default_folder()) == Path.home() / "Library" / "Caches" / "tracejit"
    monkeypatch.setattr(cache.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert Path(cache.default_folder()) == tmp_path / "local" / "tracejit" / "Cache"


@pytest.mark.parametrize("value", ["0", "off", "False"])
def test_switched_off(monkeypatch, tmp_path, value):
    monkeypatch.setenv("TRACEJIT_CACHE", value)
    monkeypatch.setenv("TRACEJIT_CACHE_DIR", str(tmp_path / "cache"))
    c = DiskCache()
    c.put("a", b"data")
    assert c.get("a") is None and c.info().name == "off"
    assert not (tmp_path / "cache").exists()


def test_without_a_home(monkeypatch):
    monkeypatch.delenv("TRACEJIT_CACHE", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache, "default_folder", homeless)
    with pytest.warns(CacheWarning, match="home directory"):
        c = DiskCache()
    c.put("a", b"data")
    assert c.get("a") == b"data"


# --- native libraries -----------------------------------------------------------------------------------------
TEXT = "define i64 @answer() {\n  ret i64 42\n}\n"


def python(code, **environment):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = os.environ | {"PYTHONPATH": root} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)


def answer(library):
    import ctypes

    return library.function("answer", ctypes.c_int64)()


def test_libraries_are_compiled_once(tmp_path, monkeypatch):
    c, compiled, real = DiskCache(tmp_path), [], engine.compile_ir

    def compile_ir(text, optimize=0, level=2):
        compiled.append(text)
        return real(text, optimize, level)

    monkeypatch.setattr(engine, "compile_ir", compile_ir)
    assert answer(cache.load_library(TEXT, ["answer"], cache=c)) == 42
    assert answer(cache.load_library(TEXT, ["answer"], cache=c)) == 42
    assert len(compiled) == 1
    assert answer(cache.load_library(TEXT, ["answer"], optimize=1, cache=c)) == 42
    assert len(compiled) == 2
    for path in entries(tmp_path):
        path.write_bytes(b"damaged")
    with pytest.warns(CacheWarning, match="damaged"):
        assert answer(cache.load_library(TEXT, ["answer"], cache=c)) == 42
    assert len(compiled) == 3


def test_object_code_that_does_not_load_is_compiled_again(tmp_path):
    c = DiskCache(tmp_path)
    c.put(make_key(TEXT, "llvm", 0), b"whole, but no object code")
    assert answer(cache.load_library(TEXT, ["answer"], cache=c)) == 42
    assert answer(cache.load_library(TEXT, ["answer"], cache=c)) == 42
