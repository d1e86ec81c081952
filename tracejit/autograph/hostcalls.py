"""Calls of Python whose results differ from call to call: they run in each run of the program, in its order."""

from __future__ import annotations

import abc
import contextvars
import copy
import functools
import io
import os
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tracejit.autograph import insides, places, watching
from tracejit.autograph.attempts import Ahead
from tracejit.autograph.branches import traced
from tracejit.autograph.owners import is_users
from tracejit.autograph.reachable import state_of
from tracejit.context import context, tracing
from tracejit.errors import ArgumentError, ConversionError, locate, user_frame
from tracejit.frames import call_at
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, as_dtype, float64, int64
from tracejit.ops import host
from tracejit.tensor import NUMPY_FUNCTIONS, Operand, Tensor
from tracejit.tree import flatten, unflatten

_CLOCKS = {time.time, time.perf_counter, time.monotonic, time.process_time, time.thread_time}
_CLOCKS |= {time.time_ns, time.perf_counter_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns}
# Classes of modules that are slow to load: where a module is not loaded there are no objects of its classes.
_SOURCES = (("random", "Random"), ("numpy.random", "Generator"), ("numpy.random", "RandomState"))
_LOGGERS = (("logging", "Logger"),)
_QUEUES = (("queue", "Queue"), ("queue", "SimpleQueue"))
_SETS_STATE = {"seed", "setstate", "set_state"}
_KEEPS_STATE = {"getstate", "get_state", "spawn", "shuffle"}  # whose results, or what they change, are no numbers


def replacement(f: Any) -> Callable[..., Any] | None:
    """What to call in the place of a function whose calls are for the run of the program; None for all others."""
    if type(f) is types.BuiltinFunctionType and f in _CLOCKS:
        return functools.partial(_drawn, f)
    if f is breakpoint or f is getattr(sys.modules.get("pdb"), "set_trace", ...):
        stops = context.trace is not None and (f is not breakpoint or os.environ.get("PYTHONBREAKPOINT") != "0")
        return functools.partial(_stopping, f) if stops else None  # type: ignore[arg-type]
    owner = getattr(f, "__self__", None)
    if f is getattr(sys.modules.get("numpy.random"), "seed", ...) and context.trace is not None:
        return functools.partial(_said, f)  # type: ignore[arg-type]
    if _is_one(owner, _SOURCES) and context.trace is not None:
        return functools.partial(_by_generator, f)
    if isinstance(owner, types.GeneratorType) and not _is_made(owner) and f.__name__ in ("send", "throw", "close"):
        return functools.partial(_sent, f)
    if _is_one(owner, _LOGGERS) or (type(f) is types.FunctionType and f.__module__ == "logging"):
        return functools.partial(_said, f) if f.__name__ in _LEVELS else None
    if _is_one(owner, _QUEUES) and f.__name__ in ("put", "put_nowait", "get", "get_nowait"):
        return functools.partial(_queued, f)
    if isinstance(owner, io.IOBase) and f.__name__ in ("write", "writelines", "flush"):
        return functools.partial(_written, f)
    if isinstance(owner, contextvars.ContextVar) and f.__name__ != "get" and places.listener() is not None:
        return functools.partial(_in_context, f)
    if getattr(f, "__name__", "") == "__next__" and isinstance(owner, Iterator) and type(f) in _SLOTS:
        return functools.partial(following, owner)
    if places.listener() is None or context.trace is None:
        return None
    if getattr(f, "__func__", None) is abc.ABCMeta.register and not _is_made(owner):
        return functools.partial(_refused, f)
    if isinstance(owner, io.IOBase) and f.__name__ in _READS_FILES and not _is_own(owner):
        return functools.partial(_refused, f)
    if gives_nothing(f):
        return functools.partial(each_time[-1], f)
    return functools.partial(_refused, f) if is_outside(f) else None


_SLOTS = (types.MethodWrapperType, types.BuiltinMethodType)
each_time: list[Callable[..., Any]] = []  # how a call of a library's is left to the run of the program


# Functions of libraries that ask, or change, what is outside of the process, or that start something beside it: all of
# a module, or those named.
_OUTSIDE: dict[str, set[str] | None] = {
    "_io": {"open", "open_code"}, "io": {"open"}, "glob": None, "shutil": None, "tempfile": None, "subprocess": None,
    "uuid": {"uuid1", "uuid4"}, "secrets": None, "genericpath": {"exists", "isfile", "isdir", "getsize", "getmtime"},
    "time": {"localtime", "gmtime", "ctime", "asctime", "strftime", "clock_gettime", "clock_gettime_ns"},
    "asyncio.runners": {"run"}, "builtins": {"input"}, "urllib.request": {"urlopen"}, "threading": {"start"},
    "concurrent.futures.thread": {"submit"}, "concurrent.futures.process": {"submit"},
    "concurrent.futures._base": {"map"}, "multiprocessing.process": {"start"}, "locale": {"setlocale"},
    "signal": {"signal", "alarm", "setitimer"}, "gc": {"enable", "disable", "set_threshold", "freeze", "unfreeze"},
    "sys": {"setrecursionlimit", "setswitchinterval", "settrace", "setprofile", "set_int_max_str_digits"},
    "decimal": {"setcontext"}, "numpy": {"seterr", "seterrcall", "setbufsize", "set_printoptions"},
}  # fmt: skip
_OF_PROCESS = {"getpid", "getppid", "getcwd", "cpu_count", "fspath", "getenv", "uname", "get_terminal_size"}
_OF_PATHS = {
    "exists", "is_file", "is_dir", "iterdir", "glob", "rglob", "stat", "lstat", "read_text", "read_bytes", "open",
    "write_text", "write_bytes", "touch", "mkdir", "unlink", "rmdir", "rename", "replace",
}  # fmt: skip
_READS_FILES = {"getbuffer", "getvalue", "read", "read1", "readinto", "readline", "readlines", "seek", "tell"}
_NOW = {"now", "utcnow", "today"}
# Methods that change their objects, by the modules of these objects' classes; and functions that give None.
_CHANGING: dict[str, set[str] | None] = {
    "_csv": {"writerow", "writerows"}, "sqlite3": None, "_thread": {"acquire", "locked", "release"},
    "threading": {"set", "clear", "acquire", "release", "wait", "notify", "notify_all", "join"}, "unittest.mock": None,
    "configparser": {"set", "add_section", "remove_option", "remove_section", "read", "read_string", "read_dict"},
    "_io": {"read", "read1", "readinto", "readinto1", "readline", "readlines", "readall", "peek", "seek", "tell",
            "truncate", "getvalue", "getbuffer", "detach"},
    "zlib": {"compress", "decompress", "flush", "copy"}, "_bz2": {"compress", "decompress", "flush"},
    "_lzma": {"compress", "decompress", "flush"}, "_hashlib": {"digest", "hexdigest"}, "_socket": None, "mmap": None,
    "_contextvars": {"run"}, "pyexpat": None, "select": None, "multiprocessing.connection": None,
    "multiprocessing.queues": None,
}  # fmt: skip
_NOTHING = {
    "warnings": {"warn"}, "_warnings": {"warn"}, "json": {"dump"}, "_pickle": {"dump"}, "pickle": {"dump"},
    "time": {"sleep"}, "numpy": {"save", "savez", "savez_compressed", "savetxt"},
}  # fmt: skip


def gives_nothing(f: Any) -> bool:
    """Whether a library's function is called for what it does only."""
    name, owner = getattr(f, "__name__", None), getattr(f, "__self__", None)
    if name in ("set", "clear") and type(owner).__module__ == "threading" and not _is_own(owner):
        return True
    return type(name) is str and name in _NOTHING.get(str(getattr(f, "__module__", None)), ())


def _is_own(x: Any) -> bool:
    return places.listener() is not None and watching.is_own(x)


def is_outside(f: Any) -> bool:
    """Whether a library's function asks for, or does, what is not the same in each run."""
    name, module = getattr(f, "__name__", None), getattr(f, "__module__", None)
    if isinstance(f, type):
        return (module, name) == ("subprocess", "Popen")
    owner = getattr(f, "__self__", f)
    changing = _CHANGING.get(type(owner).__module__, ())
    if (changing is None or name in changing) and not isinstance(owner, types.FunctionType) and not _is_own(owner):
        return True
    if type(name) is not str:
        return False
    if isinstance(owner, type):
        return name in _NOW and owner.__module__ == "datetime"
    if module in ("posix", "nt"):
        return name not in _OF_PROCESS
    if name in _OF_PATHS and _is_one(owner, (("pathlib", "Path"),)):
        return True
    return module in _OUTSIDE and ((names := _OUTSIDE[module]) is None or name in names)


def _refused(f: Any, *args: Any, **kwargs: Any) -> Any:
    if context.trace is None:
        return f(*args, **kwargs)
    said = f"{getattr(f, '__name__', type(f).__name__)}() asks for or changes what is outside of the function"
    raise locate(ConversionError(said, remedy="call it where the function is called"))


def check_set(x: Any, f: Any, what: str) -> None:
    """Refuse to let a library's code change an object from outside, which would be done once."""
    if insides.is_others(f) and not insides.is_generated(f) and context.trace is not None:
        if places.listener() is not None and not _is_own(x):
            raise locate(ConversionError(f"{what} of a {type(x).__name__} is set by code of a library"))


def check_said(f: Any, args: Any) -> None:
    """Refuse to ask an object for what a call that is left to the run of the program has done to it."""
    said = getattr(places.listener(), "said", None)
    if said and any(id(x) in said for x in (getattr(f, "__self__", f), *args)):
        raise locate(ConversionError(f"{getattr(f, '__name__', 'a call')}() asks for what was changed before"))


def check_asked(x: Any) -> None:
    """The same where something is read of the object itself."""
    said = getattr(places.listener(), "said", None)
    if said and id(x) in said:
        raise locate(ConversionError(f"a {type(x).__name__} is asked for what was changed before"))


_LEVELS = {"debug", "info", "warning", "warn", "error", "critical", "exception", "log", "fatal"}


def _is_one(x: Any, classes: tuple[tuple[str, str], ...]) -> bool:
    return x is not None and any(isinstance(x, getattr(sys.modules.get(m), name, ())) for m, name in classes)


def _queued(f: Any, *args: Any, **kwargs: Any) -> Any:
    """What a queue from outside is given, it gets after each call."""
    listener = places.listener()
    if listener is None or _is_made(f.__self__):
        return f(*args, **kwargs)
    if f.__name__.startswith("get"):
        raise locate(ConversionError("a value is taken out of a queue"))
    if listener.defers(f.__self__, f.__name__, True):
        return listener.defer(f.__self__, f.__name__, args, kwargs)
    return listener.calls(f.__self__, f.__name__, args, kwargs)


def _by_generator(f: Any, *args: Any, **kwargs: Any) -> Any:
    """A method of a generator of random numbers: one from outside goes on in each run, one that is made from a seed
    gives the same numbers in each run."""
    if _is_made(f.__self__):
        check_scope(f.__self__)
        return f(*args, **kwargs)
    if f.__name__ in _KEEPS_STATE:
        raise locate(ConversionError(f"{f.__name__}() of a generator of random numbers is called"))
    return (_said if f.__name__ in _SETS_STATE else _drawn)(f, *args, **kwargs)


def _is_made(x: Any) -> bool:
    listener = places.listener()
    return listener is not None and id(x) in listener.made


def generator(f: Callable[..., Any]) -> Callable[..., Any]:
    """A generator, of which each call makes a new iterator."""

    def make(*args: Any, **kwargs: Any) -> Any:
        return places.made(Yields(f, args, kwargs))

    return make


def _left() -> Iterator[Any]:
    raise locate(ConversionError("a generator is gone through again that a loop may have left"))
    yield


class Yields:
    """What a call of a generator gives: an iterator, which begins when it is first asked."""

    __slots__ = ("function", "args", "kwargs", "started", "managed", "_rows")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.started = False
        self.managed = False  # whether it is a context manager's, of which only the end counts
        self._rows: Any = None

    def ends(self, known: bool) -> None:
        """A loop has gone through it: to its end, if that is known."""
        self.started = True
        self._rows = iter(()) if known else _left()

    def _begun(self) -> Any:
        if self._rows is None:
            self.started, self._rows = True, self.function(*self.args, **self.kwargs)
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        rows = self._begun()
        return next(rows) if self.managed else watching.step(self.function, self.args, self.kwargs, rows)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._begun(), name)


class Generated:
    """A generator expression of which a tensor decides what it yields, for `next`: `first` gives the first item."""

    __slots__ = ("first",)

    def __init__(self, first: Callable[..., Any]) -> None:
        self.first = first

    def __iter__(self) -> Iterator[Any]:
        raise locate(ConversionError("a tensor decides what a generator yields"))

    __next__ = __iter__  # type: ignore[assignment]


def result(x: Any, args: tuple) -> Any:
    """What code that is not converted has returned: an iterator that it was not given is a new one, and so is a
    generator of random numbers with a seed."""
    seeded = bool(args) and args[0] is not None and _is_one(x, _SOURCES)
    return places.made(x) if (isinstance(x, Iterator) or seeded) and not any(x is a for a in args) else x


def _is_ours(x: Any) -> bool:
    return str(type(x).__module__).startswith("tracejit.")


def check_iterator(x: Any) -> None:
    """Refuse to go through an iterator that was there before the call, which would be done once."""
    if places.listener() is not None and isinstance(x, Iterator) and not _is_made(x) and not _is_ours(x):
        said = "an iterator from outside is gone through"
        raise locate(ConversionError(said, remedy="give it as a list or a tensor"))
    check_scope(x)


def check_given(f: Any, args: Iterable[Any]) -> None:
    """The same where code that is not converted is given an iterator."""
    for x in args:
        if isinstance(x, Iterator) and not (is_users(type(x)) or any(f is g for g in _NOT_GOING)):
            if not isinstance(x, io.IOBase):
                check_iterator(x)
            elif not watching.is_own(x):
                raise locate(ConversionError("a file from outside is given to a call"))


_NOT_GOING = {iter, isinstance, issubclass, type, id, callable, repr, str, hasattr, getattr, hash, bool}


def check_scope(x: Any) -> None:
    """Refuse to move an iterator on in a branch or step of a loop, which is traced once, if it was made before that."""
    if places.is_of_steps_around(x):
        what = "a generator of random numbers" if _is_one(x, _SOURCES) else "an iterator"
        said = f"{what} is moved on in a branch or loop that it was made before"
        raise locate(ConversionError(said, remedy="go through it in the loop's own head, with zip or enumerate"))


def _said(f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if (at := user_frame(2)) is None:
        host.say(lambda values: f(*values[0], **values[1]), [list(args), kwargs], host.Drawn)
        return
    say = functools.partial(call_at, at, f)  # loggers name the function that calls them
    host.say(lambda values: say(*values), [list(args), kwargs], host.Drawn)


def _stopping(f: Any, *args: Any, **kwargs: Any) -> None:
    raise locate(ConversionError(f"{f.__name__}() stops in it", remedy="call it in `with tj.debug():`"))


def _in_context(f: Any, x: Any) -> Any:
    """A context variable is set, which has to be reset before the function ends."""
    known: list[Any] = places.listener().tokens
    if f.__name__ == "reset" and not any(x is t for t in known):
        raise locate(ConversionError("a context variable is reset"))
    if isinstance(x, Operand) and traced(x):
        raise locate(ConversionError("a context variable is set to a traced tensor"))
    made = f(x)
    if f.__name__ == "set":
        known.append(made)
    return made


def _written(f: Callable[..., Any], *args: Any) -> Any:
    """A file is written to; how much, is known before."""
    _said(f, *args)
    return len(args[0]) if f.__name__ == "write" and args and isinstance(args[0], (str, bytes)) else None


def following(iterator: Any, *default: Any) -> Any:
    """`next` of an iterator that was there before the call moves it on in each run."""
    if type(iterator) is Generated:
        return iterator.first(*default)
    listener = places.listener()
    if listener is None or _is_made(iterator) or not isinstance(iterator, Iterator):
        check_scope(iterator)
        return next(iterator, *default)
    if listener.elsewhere:
        raise locate(ConversionError("an iterator from outside is moved on in a branch or loop"))
    seen = listener.seen_ahead(iterator)
    return _moved_on("next", seen, lambda it: next(it, *default))


def _moved_on(name: str, seen: Ahead, step: Callable[[Any], Any]) -> Any:
    if isinstance(seen.iterator, types.GeneratorType) and not seen.values and state_of(seen.iterator):
        raise locate(ConversionError(f"{name}() of a generator from outside that may use Variables or random numbers"))
    with tracing(None):  # the code of a generator is no part of the function
        example = seen.look(step)
    return _emitted(name, example, lambda: seen.take(step))


def _sent(f: Any, *args: Any) -> Any:
    """The same by a method of a generator that was there before the call."""
    listener = places.listener()
    if listener is None:
        return f(*args)
    unknown = any(isinstance(x, Operand) and traced(x) for x in flatten(args)[0])
    if listener.elsewhere or f.__name__ != "send" or unknown:
        raise locate(ConversionError(f"{f.__name__}() of a generator from outside is called"))
    return _moved_on("send", listener.seen_ahead(f.__self__), lambda it: it.send(*args))


def _drawn(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A random number or a time, which is new in each run."""
    if context.trace is None:
        return f(*args, **kwargs)
    if any(isinstance(x, Operand) and traced(x) for x in flatten([args, kwargs])[0]):
        raise locate(ConversionError(f"{f.__name__} is called with a traced tensor"))
    owner = f.__self__  # type: ignore[attr-defined]
    example = f() if f in _CLOCKS else getattr(copy.deepcopy(owner), f.__name__)(*args, **kwargs)
    if (listener := places.listener()) is not None and isinstance(example, np.ndarray | np.generic):
        listener.draws_arrays = True
    return _emitted(f.__name__, example, lambda: f(*args, **kwargs), host.Drawn)


def of_array(x: Any, name: str) -> Any:
    """A method of NumPy's arrays, which those have that its generators give, as one of a tensor; None for all else."""
    own = hasattr(type(x), name) and name not in ("item", "tolist")
    if name not in _ARRAYS or own or not getattr(places.listener(), "draws_arrays", False):
        return None
    f = NUMPY_FUNCTIONS.get({"flatten": "ravel"}.get(name, name)) if name != "sort" else None  # which is in place

    def method(*args: Any, **kwargs: Any) -> Any:
        loose = name in ("reshape", "transpose") and args and not isinstance(args[0], tuple | list)
        try:
            if f is not None:
                return f(x, *((args,) if loose else args), **kwargs)
        except TypeError:
            pass
        raise locate(ConversionError(f"{name}() of an array of random numbers is called"))

    return method


_ARRAYS = frozenset(n for n in dir(np.ndarray) if not n.startswith("_"))


def _emitted(name: str, example: Any, f: Callable[[], Any], kind: type[host.Callback] = host.Callback) -> Any:
    """A call in the program that gives values like the example: numbers, arrays and tensors, alone or in nests."""
    flat, structure = flatten(example)
    kinds = [t for t in map(_type_of, flat) if t is not None]
    if len(kinds) < len(flat):
        raise locate(ConversionError(f"{name}() gives what is no number, array or tensor"))

    def call(*arrays: Any) -> list[Any]:
        with tracing(None):
            made, s = flatten(f())
        if s != structure:
            raise locate(ArgumentError(f"{name}() gave {structure} when the function was traced, and now {s}"))
        return [x if isinstance(x, Operand) else np.asarray(x, t.dtype.np) for x, t in zip(made, kinds, strict=True)]

    made = OPS["host_call"](f=kind(call, name), types=tuple(kinds))
    tensors = made if type(made) is tuple else (made,)
    return unflatten(structure, [_as_python(t, x) for t, x in zip(tensors, flat, strict=True)])


def _type_of(x: Any) -> TensorType | None:
    if type(x) is float:
        return TensorType(float64, ())
    if type(x) is int:
        return TensorType(int64, ())
    if isinstance(x, (Tensor, np.ndarray, np.generic)):
        a = x._a if isinstance(x, Tensor) else x
        return TensorType(as_dtype(a.dtype), a.shape)
    return None


def _as_python(t: Tensor, x: Any) -> Any:
    """A number that gives way to other dtypes, where Python's would."""
    return OPS["cast"](t, dtype=t.dtype, weak=True) if type(x) in (int, float) else t
