"""What functions of libraries read from around them: settings in their modules, loggers above others, the process."""

from __future__ import annotations

import enum
import operator
import os
import sys
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracejit.autograph import asitis, insides, rare
from tracejit.autograph.mentioned import names_for, names_in
from tracejit.autograph.owners import global_names, is_users
from tracejit.runtime.contents import Asked, ModuleAttribute
from tracejit.runtime.guards import Attribute, Global, Whole, own_dict, raw
from tracejit.runtime.held import is_plain

if TYPE_CHECKING:
    from tracejit.autograph.guarding import Reads

_MOST = 30  # functions that call one another, of one package
_LARGEST = 64  # items of a dict of settings
# Functions that ask for the state of the process: it is asked for in each call.
_ASKING = {
    "posix": {"getcwd", "getcwdb", "getpid"}, "sys": {"getrecursionlimit", "getswitchinterval"}, "gc": {"isenabled"},
    "numpy": {"geterr", "getbufsize", "get_printoptions"}, "locale": {"getlocale", "localeconv"},
    "threading": {"current_thread", "active_count"}, "_thread": {"get_ident", "get_native_id"},
    "decimal": {"getcontext"},
}  # fmt: skip
_OF_ENVIRONMENT = {"expandvars", "expanduser", "get_exec_path"}


def called(reads: Reads, f: Any, owner: Any, args: tuple[Any, ...]) -> None:
    """A function of a library's, or a method of `owner`'s, is called."""
    if isinstance(f, type):
        f = raw(f, "__init__")
    elif type(f) is not types.FunctionType and type(call := raw(type(f), "__call__")) is types.FunctionType:
        f, owner = call, f
    name, module = getattr(f, "__name__", None), getattr(f, "__module__", None)
    if type(name) is not str:
        return
    if name in _ASKING.get(str(module), ()) and not args:
        reads.record(Asked, ("asked", id(f), operator.call), f"{name}()", f)
    elif name == "__subclasses__" and isinstance(owner, type):
        reads.record(Asked, ("asked", id(owner), type.__subclasses__), f"classes below {owner.__name__}", owner)
    elif name in _OF_ENVIRONMENT and module in ("os", "posixpath", "ntpath"):
        rare.everything(reads, os.environ)
    elif insides.is_installed(f):
        package = _package(f)
        for g in package:
            _settings(reads, g)
        names = frozenset().union(*[names_in(g.__code__) for g in package])
        names |= names_for(type(owner), f) or frozenset()
        held = [c.cell_contents for c in f.__closure__ or () if c != types.CellType()]
        insides.state(reads, *[x for x in held if is_users(type(x))])
        asitis.functions(reads, owner, *args, *held, names=names)
    elif (logging := sys.modules.get("logging")) is not None and isinstance(owner, logging.Logger):
        _levels(reads, owner)


def _package(f: types.FunctionType) -> list[types.FunctionType]:
    """A function, and those of its package that it names."""
    top = str(f.__module__).partition(".")[0]
    found = {f.__code__: f}
    todo = [f]
    for g in todo:
        for _, x in _named(g):
            if type(x) is types.FunctionType and str(x.__module__).partition(".")[0] == top and len(found) < _MOST:
                if x.__code__ not in found:
                    found[x.__code__] = x
                    todo.append(x)
    return todo


def _named(f: types.FunctionType) -> Iterator[tuple[str, Any]]:
    return ((n, f.__globals__[n]) for n in global_names(f.__code__) if n in f.__globals__)


def _settings(reads: Reads, f: types.FunctionType) -> None:
    """Plain values that a function names: globals, and attributes of modules and objects that are globals."""
    around: Any = f.__globals__
    for name, x in _named(f):
        if _is_value(x):
            reads.loosely(Global, ("global", id(around), name), f"global {name}", around)
        elif type(x) is dict and 0 < len(x) <= _LARGEST and all(type(k) is str and _is_value(v) for k, v in x.items()):
            reads.found(x, name)
            reads.loosely(Whole, ("items", id(x), ("all",)), f"items of dict {name}", x)
        else:
            _attributes(reads, f, x)


def _attributes(reads: Reads, f: types.FunctionType, x: Any, depth: int = 0) -> None:
    """The attributes of a module of settings, or of an object, that a function names."""
    module = isinstance(x, types.ModuleType)
    if not module and not (insides.holds_state(x) and insides.is_open(x)):
        return
    own = vars(x) if module else own_dict(x) or {}
    called = x.__name__ if module else type(x).__name__
    top = (x.__name__ if module else type(x).__module__).partition(".")[0]
    if top in sys.stdlib_module_names or top in insides.KNOWN:
        return
    make: Any = ModuleAttribute if module else Attribute
    for name in f.__code__.co_names:
        y = own.get(name, f)
        within = depth < 2 and y is not f and (isinstance(y, types.ModuleType) or insides.is_open(y))
        if within or _is_value(y):
            reads.loosely(make, ("attribute", id(x), name), f"attribute {called}.{name}", x)
        if within:
            _attributes(reads, f, y, depth + 1)


def _is_value(x: Any) -> bool:
    return is_plain(x) or isinstance(x, enum.Enum)


def _levels(reads: Reads, logger: Any) -> None:
    """What decides whether a logger says something."""
    chain: list[Any] = [logger.manager]
    while logger is not None:
        chain.append(logger)
        logger = logger.parent
    for x in chain:
        for name in ("level", "disabled", "propagate", "parent", "_disable"):
            if name in vars(x):
                label = f"attribute {type(x).__name__}.{name}"
                reads.loosely(Attribute, ("attribute", id(x), name), label, x)


def members(reads: Reads, x: Any) -> None:
    """It is asked which attributes an object has."""
    reads.record(Asked, ("asked", id(x), dir), f"dir() of a {type(x).__name__}", x)
