"""The package's own native modules: found on disk or compiled quickly at first, and made better in the background."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tracejit.lower import engine
from tracejit.lower.engine import Library
from tracejit.runtime.cache import make_key, shared

_DELAY = 0.5  # seconds until better code is made: a program's first calls need the processors for other things
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

    def compile(self, good: bool) -> bytes:
        """Compile and keep on disk."""
        text = self.text(*self.arguments)
        code = engine.compile_ir(text, self.optimize) if good else engine.compile_ir(text, 0, 0)
        shared().put(self.key(good), code)
        return code

    def on_disk(self) -> tuple[bytes | None, bool]:
        """The best code that is there, and whether it is the good one."""
        good = shared().get(self.key(True))
        return (good, True) if good is not None or not self.quick else (shared().get(self.key(False)), False)


class _Ahead:
    """A module that somebody will ask for, compiled by whoever comes first."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.code, self.good = recipe.on_disk()
        self._lock = threading.Lock()

    def compile(self) -> None:
        with self._lock:
            if self.code is None:
                self.code = self.recipe.compile(self.good)


_ahead: dict[Recipe, _Ahead] = {}


def compile_ahead(recipes: Iterable[Recipe]) -> None:
    """Read modules from disk; another thread compiles those that are missing, in this order. `load` waits for them."""
    found = [_Ahead(r) for r in recipes]
    missing = [a for a in found if a.code is None]
    _ahead.update((a.recipe, a) for a in found)

    def work() -> None:
        # an error comes again where the module is needed
        with contextlib.suppress(RuntimeError):
            engine.open_compiler()
            for a in missing:
                a.compile()

    if missing:
        engine.find_compiler()
        with contextlib.suppress(RuntimeError):  # no more threads, or the process is about to end
            # no daemon: it must not be inside LLVM while the process ends
            threading.Thread(target=work, name="tracejit compiler").start()


def _at_hand(recipe: Recipe) -> tuple[bytes | None, bool]:
    a = _ahead.pop(recipe, None)
    if a is not None:
        a.compile()
        return a.code, a.good
    return recipe.on_disk()


def load(recipe: Recipe, imports: Mapping[str, int] | None = None, improved: Improved | None = None) -> Library:
    """Load a module. Unless its code is the good one, that is made later, for other processes and for `improved`."""
    code, good = _at_hand(recipe)
    library = None
    if code is not None:
        # whole, but perhaps not loadable here
        with contextlib.suppress(RuntimeError):
            library = Library(code, recipe.exports, imports)
    if library is None:
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
    _ahead.clear()
    _improver.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
