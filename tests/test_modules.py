"""The package's own native modules: who compiles them, how well, when; and that a filled cache needs no LLVM."""

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tracejit.lower import engine
from tracejit.runtime import cache, modules
from tracejit.runtime.modules import Recipe

ROOT = Path(__file__).resolve().parent.parent


def text(name, value):
    return f"define i64 @{name}() {{\n  %x = add i64 {value}, 0\n  ret i64 %x\n}}\n"


def recipe(value=42, optimize=2):
    return Recipe(text, ("answer", value), ("answer",), optimize)


def answer(library):
    return library.function("answer", ctypes.c_int64)()


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """What is compiled, as (pipeline's level, generator's level); with an empty cache and an improver that waits."""
    found, real = [], engine.compile_ir

    def compile_ir(text, optimize=0, level=2):
        found.append((optimize, level))
        return real(text, optimize, level)

    own = cache.DiskCache(tmp_path)
    monkeypatch.setattr(engine, "compile_ir", compile_ir)
    monkeypatch.setattr(modules, "shared", lambda: own)
    monkeypatch.setattr(modules, "_DELAY", 1000.0)
    monkeypatch.setattr(modules, "_improver", modules._Improver())
    monkeypatch.setattr(modules, "_making", {})
    monkeypatch.setattr(modules, "_soon", modules._Soon())
    yield found
    modules._improver.finish()


def improve():
    modules._improver._work()


def test_quick_code_at_first_and_good_code_afterwards(compiled):
    better = []
    assert answer(modules.load(recipe(), improved=better.append)) == 42
    assert compiled == [(0, 0)] and not better
    assert answer(modules.load(recipe())) == 42
    assert compiled == [(0, 0)]
    improve()
    assert compiled == [(0, 0), (2, 2)]
    assert answer(engine.Library(better[0], ["answer"])) == 42
    assert answer(modules.load(recipe())) == 42
    improve()
    assert compiled == [(0, 0), (2, 2)]


def test_some_modules_are_good_from_the_start(compiled):
    patient = Recipe(text, ("answer", 8), ("answer",), quick=False)
    modules.compile_ahead([patient])
    assert answer(modules.load(patient)) == 8
    improve()
    assert answer(modules.load(patient)) == 8
    assert compiled == [(0, 2)]
    patient = Recipe(text, ("answer", 9), ("answer",), quick=False)
    assert answer(modules.load(patient)) == 9
    improve()
    assert compiled == [(0, 2), (0, 2)]


def test_modules_are_told_apart_by_their_arguments(compiled):
    assert [answer(modules.load(recipe(n))) for n in (1, 2, 1)] == [1, 2, 1]
    assert len(compiled) == 2


def test_another_thread_compiles_ahead(compiled):
    modules.compile_ahead([recipe(1), recipe(2)])
    for t in threading.enumerate():
        if t.name == "tracejit compiler":
            t.join()
    assert len(compiled) == 2
    assert [answer(modules.load(recipe(n))) for n in (2, 1)] == [2, 1]
    modules.compile_ahead([recipe(1)])
    assert answer(modules.load(recipe(1))) == 1 and len(compiled) == 2


def test_who_needs_a_module_does_not_wait_for_its_turn(compiled):
    recipes = [recipe(n) for n in range(20)]
    modules.compile_ahead(recipes)
    assert [answer(modules.load(r)) for r in reversed(recipes)] == list(reversed(range(20)))
    assert len(compiled) == 20


def test_an_error_ahead_comes_where_the_module_is_needed(compiled):
    broken = Recipe(text, ("not a name", 1), ("answer",))
    modules.compile_ahead([broken, recipe(3)])
    assert answer(modules.load(recipe(3))) == 3
    with pytest.raises(RuntimeError):
        modules.load(broken)


def test_code_that_does_not_load_is_compiled_again(compiled):
    for good in (False, True):
        modules.shared().put(recipe().key(good), b"whole, but no object code")
        assert answer(modules.load(recipe())) == 42
        assert answer(modules.load(recipe())) == 42
    assert compiled == [(0, 0), (2, 2)]


def test_without_threads_modules_are_compiled_here(compiled, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    modules.compile_ahead([recipe()])
    assert answer(modules.load(recipe())) == 42
    assert compiled == [(0, 0)]


# --- what the first call needs ------------------------------------------------------------------------------------
def join():
    for t in threading.enumerate():
        if t.name == "tracejit compiler":
            t.join(60)
            assert not t.is_alive()


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(modules, "_PATIENCE", 1000.0)


def test_modules_for_the_first_call_are_compiled_when_it_begins(compiled, patient):
    recipes = [recipe(1), recipe(2)]
    modules.compile_soon(recipes)
    modules.compile_soon(recipes)
    assert not compiled and modules.pending(recipes) and not modules.pending([recipe(3)])
    modules.begin()
    join()
    assert len(compiled) == 2 and not modules.pending(recipes)
    assert [answer(modules.load(r)) for r in recipes] == [1, 2] and len(compiled) == 2
    modules.compile_soon([*recipes, recipe(3)])
    join()
    assert len(compiled) == 3 and not modules.pending([recipe(3)])


def test_modules_are_compiled_soon_if_no_call_comes(compiled, monkeypatch):
    monkeypatch.setattr(modules, "_PATIENCE", 0.01)
    modules.compile_soon([recipe()])
    join()
    assert len(compiled) == 1 and not modules.pending([recipe()])


def test_who_is_in_a_hurry_comes_first(compiled, patient):
    modules.compile_soon([recipe(1), recipe(2)])
    assert answer(modules.load(recipe(2))) == 2 and len(compiled) == 1
    assert modules.pending([recipe(1)]) and not modules.pending([recipe(2)])
    modules.begin()
    join()
    assert answer(modules.load(recipe(1))) == 1 and len(compiled) == 2


def test_who_is_in_no_hurry_waits_for_the_others(compiled, patient):
    modules.compile_soon([recipe(1), recipe(2)])
    got = []
    t = threading.Thread(target=lambda: got.append((modules.await_turn(recipe(2)), len(compiled))))
    t.start()
    modules.begin()
    t.join(60)
    assert got == [(None, 2)]
    modules.await_turn(recipe(3))
    assert answer(modules.load(recipe(3))) == 3


def test_an_error_comes_once_where_the_module_is_needed(compiled, monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    monkeypatch.setattr(modules, "_PATIENCE", 0.0)
    for wrong in (Recipe(text, ("not a name", 1), ("answer",)), Recipe(text, ("too few",), ("answer",))):
        modules.compile_soon([wrong, recipe(3)])
        join()
        assert not modules.pending([wrong, recipe(3)])
        with pytest.raises((RuntimeError, TypeError)):
            modules.load(wrong)
    assert answer(modules.load(recipe(3))) == 3 and not printed


def test_without_threads_nothing_is_pending(compiled, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    modules.compile_soon([recipe(1), recipe(2)])
    assert not modules.pending([recipe(1), recipe(2)])
    assert answer(modules.load(recipe(1))) == 1


def test_what_is_on_disk_is_not_pending(compiled, patient):
    modules.load(recipe(1))
    modules.compile_soon([recipe(1)])
    assert not modules.pending([recipe(1)]) and len(compiled) == 1


# --- whole processes ----------------------------------------------------------------------------------------------
PROGRAM = """
import sys, threading
import numpy as np
import tracejit as tj
from tracejit.runtime import executor, keys, modules
keys.own_version = lambda: "the same in every process, whoever saves a file meanwhile"

@tj.function
def elementwise(x):
    return tj.tanh(x) * 2.0 + tj.exp(x)

@tj.function
def total(x):
    return tj.reduce_sum(x, axis=1)

w = tj.Variable(np.ones((8, 4), np.float32))

@tj.function
def step(x):
    with tj.GradientTape() as tape:
        loss = tj.reduce_mean(tj.square(x @ w))
    w.assign_sub(0.1 * tape.gradient(loss, w))
    return loss

x = tj.constant(np.linspace(0, 1, 800, dtype=np.float32).reshape(100, 8))
big = tj.constant(np.ones((1000, 1000), np.float32))
def calls():
    elementwise(x), elementwise(big), total(big)
    assert np.allclose(elementwise(x).numpy(), np.tanh(x.numpy()) * 2 + np.exp(x.numpy()), atol=1e-5)
    assert np.allclose(total(big).numpy(), 1000)
    return float(step(x))
"""


def process(code, folder, **more):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": str(folder), "TRACEJIT_CACHE": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + code], capture_output=True, text=True, env=env, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SETTLED = "\nmodules._improver._timer and modules._improver._timer.join()\n"


@pytest.mark.skipif(not engine.elf.available(), reason="code is linked by LLVM here")
def test_a_filled_cache_needs_no_llvm(tmp_path):
    process("calls()" + SETTLED, tmp_path)
    show = "\nfrom tracejit.lower import codegen\nprint('llvmlite' in sys.modules, codegen._open.cache_info().currsize)"
    assert process("calls()" + SETTLED + show, tmp_path) == "False 0"


def test_a_short_process_leaves_the_code_that_it_made(tmp_path):
    process("calls()", tmp_path)
    count = "\ncompiled = []\nreal = modules.engine.compile_ir\n"
    count += "modules.engine.compile_ir = lambda *a: compiled.append(a) or real(*a)\ncalls()\nprint(len(compiled))"
    assert process(count, tmp_path) == "0"


def test_the_first_process_gets_the_good_code_too(tmp_path):
    code = """
first = calls()
old = executor.native().vectorcall
live = elementwise
{settled}
new = executor.native()
from tracejit.runtime import layout
entry = layout.word(id(elementwise) + 16)
print(new.vectorcall != old, entry == new.vectorcall, calls() < first)
"""
    assert process(code.format(settled=SETTLED), tmp_path) == "True True True"
    assert process(code.format(settled=SETTLED), tmp_path) == "False True True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("when", ["before the first call", "after it"])
def test_a_forked_process_waits_for_nobody(tmp_path, when):
    code = """
import os, signal
{first}
child = os.fork()
if not child:
    signal.alarm(60)
    calls()
    os._exit(0)
_, status = os.waitpid(child, 0)
calls()
print(status)
"""
    assert process(code.format(first="calls()" if when == "after it" else ""), tmp_path) == "0"


def test_without_a_cache_everything_works(tmp_path):
    assert process("calls()" + SETTLED + "print(calls() > 0)", tmp_path / "none", TRACEJIT_CACHE="0") == "True"
    assert not (tmp_path / "none").exists()


# --- calls before native code is ready ----------------------------------------------------------------------------
HELD = """
go = threading.Event()
real = modules.Recipe.compile
def compile(recipe, *args):
    assert recipe.text is not executor.module_text or go.wait(60)
    return real(recipe, *args)
modules.Recipe.compile = compile
def compilers():
    return [t for t in threading.enumerate() if t.name == "tracejit compiler"]
def finish():
    go.set()
    for t in compilers():
        t.join(60)
"""


def test_calls_do_not_wait_for_the_executor(tmp_path):
    code = """
from tracejit.runtime import layout
first = [[f(v).numpy() for v in (x, x, big)] for f in (elementwise, total)]
assert executor.loaded() is None and compilers()
finish()
second = [[f(v).numpy() for v in (x, x, big)] for f in (elementwise, total)]
assert executor.loaded() is not None and not compilers()
for one, two in zip(first, second):
    for a, b in zip(one, two):
        assert a.tobytes() == b.tobytes() and a.flags.num == b.flags.num
print({layout.word(id(f) + 16) == executor.loaded().vectorcall for f in (elementwise, total)})
"""
    assert process(HELD + code, tmp_path) == "{True}"


def test_updates_and_loops_wait_for_the_executor(tmp_path):
    code = """
@tj.function
def count(n):
    return tj.while_loop(lambda i: i < n, lambda i: [i + 1], [tj.constant(0)])[0]

for f, arg in ((step, x), (count, tj.constant(5))):
    if not go.is_set():
        threading.Timer(0.2, go.set).start()
    f(arg)
    print(go.is_set(), executor.loaded() is not None)
"""
    assert process(HELD + code, tmp_path) == "True True\nTrue True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_the_executor_is_compiled(tmp_path):
    code = """
import os, signal
real_text = executor.module_text
elementwise(x)
assert executor.loaded() is None and compilers()
threading.Timer(0.3, go.set).start()
child = os.fork()
if not child:
    signal.alarm(60)
    go.set()
    calls()
    assert executor.loaded() is not None
    os._exit(0)
_, status = os.waitpid(child, 0)
finish()
calls()
print(status)
"""
    assert process(HELD + code, tmp_path) == "0"


def test_a_process_that_ends_while_the_executor_is_compiled(tmp_path):
    code = "elementwise(x)\nassert compilers()\nthreading.Timer(0.2, go.set).start()"
    assert process(HELD + code, tmp_path) == ""
    count = "compiled = []\nreal = modules.engine.compile_ir\n"
    count += "modules.engine.compile_ir = lambda *a: compiled.append(a) or real(*a)\n"
    count += "elementwise(x)\nprint(len(compiled))"
    assert process(count, tmp_path) == "0"


def test_a_process_that_ends_before_any_call(tmp_path):
    assert process("modules._PATIENCE = 1000.0", tmp_path) == ""


def test_an_executor_that_cannot_be_compiled_is_told_of_once(tmp_path):
    code = """
import warnings
executor.module_text = lambda *a: "no LLVM"
executor._recipes.cache_clear()
threading.excepthook = lambda *a: print("printed", a)
elementwise, total = map(tj.function, (elementwise.python_function, total.python_function))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(3):
        elementwise(x), total(x)
        for t in threading.enumerate():
            if t.name == "tracejit compiler":
                t.join()
print([w.category.__name__ for w in seen], executor.loaded())
"""
    assert process(code, tmp_path) == "['CompileWarning'] None"
