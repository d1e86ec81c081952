"""The package's own native modules: found on disk or compiled quickly at first, and made better in the background."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tracejit.lower import engine
from tracejit.lower.engine import Library
from tracejit.runtime.cache import make_key, shared

_DELAY = 0.5  # seconds until better code is made: a program's first calls need the processors for other things
_PATIENCE = 0.25  # seconds until modules are compiled that the first call will need, if none is made
_LOOK = 0.02  # seconds between looks whether the process is about to end
Improved = Callable[[bytes], object]


@dataclass(frozen=True)
class Recipe:
    """A module whose text follows from the package's version and `arguments`: it need not be made to find the code.

    Good code comes out of LLVM's pipeline of level `optimize`. If `quick`, code that is made in a fraction of the time
    will do at first; it is slower by a tenth or two.
    """

    text: Callable[..., str]
    arguments: tuple[object, ...]
    exports: tuple[str, ...]
    optimize: int = 0
    quick: bool = True

    def key(self, good: bool) -> str:
        name = f"{self.text.__module__}.{self.text.__qualname__}{self.arguments!r}"
        return make_key(name, self.optimize if good else "quick")

    def compile(self, good: bool, text: str | None = None) -> bytes:
        """Compile and keep on disk; `text` is the module's if it has been made."""
        text = text or self.text(*self.arguments)
        code = engine.compile_ir(text, self.optimize) if good else engine.compile_ir(text, 0, 0)
        shared().put(self.key(good), code)
        return code

    def on_disk(self) -> tuple[bytes | None, bool]:
        """The best code that is there, and whether it is the good one."""
        good = shared().get(self.key(True))
        return (good, True) if good is not None or not self.quick else (shared().get(self.key(False)), False)


class _Making:
    """The code of a module that somebody will ask for, read or compiled by whoever comes first."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.ahead: threading.Event | None = None  # set when the thread that was given it is done with it
        self._text: str | None = None
        self._code: bytes | None = None
        self._good = self._read = False
        self._lock = threading.Lock()

    def is_missing(self) -> bool:
        """Whether nobody has the code, or is compiling it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not shared().is_new():  # else the key, which takes its time, is not needed yet
                self._look()
            return self._code is None
        finally:
            self._lock.release()

    def is_pending(self) -> bool:
        return self.ahead is not None and not self.ahead.is_set()

    def _look(self) -> None:
        if not self._read:
            self._code, self._good = self.recipe.on_disk()
            self._read = True

    def finish(self) -> tuple[bytes, bool]:
        """The code, and whether it is the good one. The first who asks compiles it."""
        with self._lock:
            self._look()
            if self._code is None:
                self._code = self.recipe.compile(self._good, self._text)
            return self._code, self._good

    def write_ahead(self) -> None:
        """Make the text, which is all that takes Python long."""
        with contextlib.suppress(Exception), engine.inside, self._lock:
            self._look()
            if self._code is None:
                self._text = self.recipe.text(*self.recipe.arguments)

    def finish_ahead(self) -> None:
        # an error comes again where the module is needed
        with contextlib.suppress(Exception), engine.inside:
            self.finish()
        if self.ahead is not None:
            self.ahead.set()


_guard = threading.Lock()
_making: dict[Recipe, _Making] = {}


def _of(recipe: Recipe) -> _Making:
    with _guard:
        return _making.setdefault(recipe, _Making(recipe))


def in_thread(work: Callable[[], object]) -> threading.Thread | None:
    """Let another thread do it; None if there can be no more of them, or the process is about to end."""
    engine.find_compiler()
    # no daemon: it must not be inside LLVM while the process ends
    thread = threading.Thread(target=work, name="tracejit compiler")
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def compile_ahead(recipes: Iterable[Recipe]) -> None:
    """Let another thread compile the modules that are not on disk, in this order. `load` waits for them."""
    todo = [m for m in map(_of, recipes) if m.is_missing()]

    def work() -> None:
        for m in todo:
            m.finish_ahead()

    if todo:
        in_thread(work)


class _Soon:
    """A thread that loads LLVM at once, but compiles only when the first call has come to LLVM as well.

    Before, the call and the making of modules' texts are both Python, of which one thread can run at a time.
    """

    def __init__(self) -> None:
        self._queue: list[_Making] = []
        self._running = False
        self._lock = threading.Lock()
        self.now = threading.Event()

    def add(self, wanted: Iterable[_Making]) -> None:
        """Compile these, in this order."""
        with self._lock:
            self._queue += wanted
            start, self._running = not self._running, True
            for m in wanted:
                m.ahead = m.ahead or threading.Event()
        if start and in_thread(self._work) is None:
            for m in self._take():
                if m.ahead is not None:
                    m.ahead.set()

    def _take(self) -> list[_Making]:
        with self._lock:
            taken, self._queue = self._queue, []
            self._running = bool(taken)
            return taken

    def wait(self) -> None:
        """Until the first call has come to LLVM; but not long, and not while the process ends."""
        end = time.monotonic() + _PATIENCE
        while not self.now.wait(_LOOK) and time.monotonic() < end and threading.main_thread().is_alive():
            pass

    def _work(self) -> None:
        # an error comes again where LLVM is needed
        with contextlib.suppress(Exception):
            engine.open_compiler()
        self.wait()
        while todo := self._take():
            for m in todo:
                m.write_ahead()
            for m in todo:
                m.finish_ahead()


_soon = _Soon()


def compile_soon(recipes: Iterable[Recipe]) -> None:
    """The same when `begin` is called, or a little later; the thread loads LLVM meanwhile."""
    todo = [m for m in map(_of, recipes) if m.is_missing() and not m.is_pending()]
    if todo:
        _soon.add(todo)


def begin() -> None:
    """Compile what `compile_soon` was given: the calling thread is about to be outside Python."""
    _soon.now.set()


def pending(recipes: Iterable[Recipe]) -> bool:
    """Whether `load` would wait for the thread of `compile_soon`, or come before it."""
    with _guard:
        return any((m := _making.get(r)) is not None and m.is_pending() for r in recipes)


def await_turn(recipe: Recipe) -> None:
    """Return when `load` may be called by a thread that is in no hurry."""
    recipe.key(True)  # what all keys have in common is worked out by the first
    _soon.wait()
    m = _of(recipe)
    if m.ahead is not None:
        m.ahead.wait()


def load(recipe: Recipe, imports: Mapping[str, int] | None = None, improved: Improved | None = None) -> Library:
    """Load a module. Unless its code is the good one, that is made later, for other processes and for `improved`."""
    code, good = _of(recipe).finish()
    with _guard:
        _making.pop(recipe, None)
    try:
        library = Library(code, recipe.exports, imports)
    except RuntimeError:  # whole, but not loadable here
        library = Library(recipe.compile(good), recipe.exports, imports)
    if not good:
        _improver.add(recipe, improved)
    return library


class _Improver:
    """A thread that, some time after it was first asked to, makes good code."""

    def __init__(self) -> None:
        self._todo: list[tuple[Recipe, Improved | None]] = []
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def add(self, recipe: Recipe, improved: Improved | None) -> None:
        with self._lock:
            self._todo.append((recipe, improved))
            if self._timer is None:
                self._timer = threading.Timer(_DELAY, self._work)
                self._timer.daemon = True
                with contextlib.suppress(RuntimeError):  # no more threads
                    self._timer.start()
                    atexit.register(self.finish)

    def _next(self) -> tuple[Recipe, Improved | None] | None:
        with self._lock:
            if self._todo and self._timer is not None:
                return self._todo.pop(0)
            self._timer = None
            return None

    def _work(self) -> None:
        with contextlib.suppress(RuntimeError, OSError):
            while (job := self._next()) is not None:
                recipe, improved = job
                code = shared().get(recipe.key(True)) or recipe.compile(True)
                if improved is not None:
                    improved(code)

    def finish(self) -> None:
        """End after what is in hand: a thread must not be inside LLVM while the process ends."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None and timer.is_alive():
            timer.cancel()
            timer.join()

    def after_fork(self) -> None:
        """The thread exists only in the parent; the next module that is added starts another."""
        self._lock, self._timer = threading.Lock(), None


_improver = _Improver()


def _after_fork_in_child() -> None:
    """What other threads of the parent were at is begun anew where it is needed."""
    global _guard, _making, _soon
    _guard, _making, _soon = threading.Lock(), {}, _Soon()
    _improver.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
