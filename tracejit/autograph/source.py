"""Where a function's text stands: its definition as it is in the file, under the file's own line numbers."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import linecache
import os
import site
import tokenize
import types
from typing import Any

from tracejit.autograph.syntax import with_args
from tracejit.errors import is_internal


class NoSource(Exception):
    """A function whose text cannot be found or read."""


class NotConverted(NoSource):
    """A kind of function that is not converted."""


def tree_of(f: types.FunctionType) -> ast.FunctionDef | ast.Lambda:
    """The definition of a function as it stands in its file. Raises `NoSource`."""
    code = f.__code__
    lines = linecache.getlines(_file(f), f.__globals__)
    anonymous = code.co_filename.startswith("<")
    made = "which was defined by exec or in a shell" if anonymous else code.co_filename
    unavailable = NoSource(f"the source text of {_called(f)} ({made}) is not available")
    if not lines or code.co_firstlineno > len(lines):
        raise unavailable
    if code.co_name == "<lambda>":
        return _lambda(code, lines)
    node = _definition(lines, code.co_firstlineno, _end(code, lines))
    if node is None:
        try:
            block = inspect.getblock(lines[code.co_firstlineno - 1 :])
            node = _statement(lines, code.co_firstlineno, code.co_firstlineno - 1 + len(block))
        except (SyntaxError, OSError, tokenize.TokenError) as e:
            raise NoSource(f"the source text of {_called(f)} cannot be read ({e})") from None
    if isinstance(node, ast.AsyncFunctionDef) and node.name == code.co_name:
        raise NotConverted(f"{_called(f)} is a coroutine (async def), which is not converted")
    if not isinstance(node, ast.FunctionDef) or node.name != code.co_name or not _takes(node.args, code):
        if anonymous:  # from Python 3.13 on the lines of `python -c` stand for those of whatever text it executes
            raise unavailable
        raise NoSource(f"the source text of {_called(f)} is no longer where it was defined")
    return node


def _file(f: types.FunctionType) -> str:
    """The file with the text of a function; parts of Python itself are kept without their files' names."""
    name = f.__code__.co_filename
    return str(f.__globals__.get("__file__") or name) if name.startswith("<frozen ") else name


def _called(f: types.FunctionType) -> str:
    return "a lambda" if f.__code__.co_name == "<lambda>" else f.__name__


def _takes(a: ast.arguments, code: types.CodeType) -> bool:
    """Whether the parameters are those of the code."""
    names = [x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs]]
    names += [x.arg for x in (a.vararg, a.kwarg) if x is not None]
    return tuple(names) == code.co_varnames[: len(names)]


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _statement(lines: list[str], first: int, last: int) -> ast.stmt | None:
    """The first statement of these lines, which may be indented, under the file's line numbers."""
    text = "".join(lines[first - 1 : last])
    if _margin(text):
        return ast.parse("\n" * (first - 2) + "if True:\n" + text).body[0].body[0]  # type: ignore[attr-defined]
    body = ast.parse("\n" * (first - 1) + text).body
    return body[0] if body else None


def _definition(lines: list[str], first: int, last: int) -> ast.stmt | None:
    try:
        return _statement(lines, first, last) if last else None
    except SyntaxError:
        return None


def _last_line(code: types.CodeType) -> int:
    """The last line that something was compiled from; 0 if unknown."""
    last = max((p[1] or 0 for p in code.co_positions()), default=0)
    return max([last, *[_last_line(c) for c in code.co_consts if isinstance(c, types.CodeType)]])


def _end(code: types.CodeType, lines: list[str]) -> int:
    """The last line of a definition, found without reading its text; 0 if statements may follow that do nothing."""
    last = _last_line(code)
    margin = _margin(lines[code.co_firstlineno - 1])
    for line in lines[last:]:
        text = line.strip()
        if text and text[0] != "#":
            return last if margin.startswith(_margin(line)) else 0
    return last


@functools.lru_cache(32)
def _module(text: str) -> ast.Module:
    return ast.parse(text)


def _lambda(code: types.CodeType, lines: list[str]) -> ast.Lambda:
    statement = _definition(lines, code.co_firstlineno, _last_line(code))
    found = _lambdas(code, statement) if statement is not None else []
    if len(found) == 1 and _stands(found[0], code) and _has_columns(code):  # the line may hold other statements
        return found[0]
    try:
        module = _module("".join(lines))
    except SyntaxError as e:
        raise NoSource(f"the file of a lambda cannot be read: {e}") from None
    found = _lambdas(code, module)
    if len({ast.dump(n.body) for n in found}) != 1:  # equal ones do the same
        raise NoSource(f"the source text of the lambda at line {code.co_firstlineno} cannot be told from others")
    return copy.deepcopy(found[0])  # the module is kept


def _lambdas(code: types.CodeType, tree: ast.AST) -> list[ast.Lambda]:
    """The lambdas that the code may come from: by its line and parameters, then by columns, then by what it does."""
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
    for fits in (lambda n, c: _takes(n.args, c), _stands, _does):
        found = [n for n in found if fits(n, code)] if len(found) > 1 else found
    return found


def _stands(node: ast.Lambda, code: types.CodeType) -> bool:
    """Whether all instructions come from the expression's place in the file, and not all from a lambda inside it."""
    places = {(p[0], p[2], p[1], p[3]) for p in code.co_positions() if None not in p and (p[0], p[2]) != (p[1], p[3])}
    whole, inner = _span(node.body), [_span(n.body) for n in ast.walk(node.body) if isinstance(n, ast.Lambda)]
    return all(_within(p, whole) for p in places) and not (
        places and any(all(_within(p, i) for p in places) for i in inner)
    )


def _has_columns(code: types.CodeType) -> bool:
    return any(p[2] is not None for p in code.co_positions())


def _span(n: ast.expr) -> tuple[int, int, int, int]:
    assert n.end_lineno is not None and n.end_col_offset is not None
    return n.lineno, n.col_offset, n.end_lineno, n.end_col_offset


def _within(p: Any, whole: tuple[int, int, int, int]) -> bool:
    return bool(whole[:2] <= p[:2] and p[2:] <= whole[2:])


def _does(node: ast.Lambda, code: types.CodeType) -> bool:
    """Whether the expression compiles to these instructions, constants and names."""
    free = ast.arguments([], [ast.arg(n) for n in code.co_freevars], None, [], [], None, [])
    around = with_args("around", free, [ast.Return(node)])
    module = ast.Module([ast.fix_missing_locations(ast.copy_location(around, node))], [])
    made = compile(module, code.co_filename, "exec", dont_inherit=True)
    outer = next(c for c in made.co_consts if isinstance(c, types.CodeType))
    return any(isinstance(c, types.CodeType) and _actions(c) == _actions(code) for c in outer.co_consts)


def _actions(code: types.CodeType) -> tuple[Any, ...]:
    """What a function does, wherever it stands."""
    consts = [_actions(c) if isinstance(c, types.CodeType) else (type(c), c) for c in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, tuple(consts)


_LIBRARIES = tuple(
    {
        os.path.realpath(p) + os.sep
        for p in [os.path.dirname(os.__file__), *site.getsitepackages(), site.getusersitepackages()]
        if p and ("site-packages" in p or "dist-packages" in p or os.sep + "python" in p.rsplit("lib", 1)[-1])
    }
)


_MIXED_IN = {"Mapping", "MutableMapping", "Sequence", "MutableSequence", "KeysView", "ItemsView", "ValuesView"}
_OPEN = {
    "collections": {"UserDict", "UserList", "ChainMap", "Counter"}, "weakref": {"WeakKeyDictionary"},
    "collections.abc": _MIXED_IN, "_collections_abc": _MIXED_IN,
}  # fmt: skip


def is_library(f: types.FunctionType) -> bool:
    """Whether a function belongs to an installed package, to Python itself or to this package.

    Not so methods of Python's containers that are written in Python: what they do is done to what they hold.
    """
    if f.__module__ in _OPEN and f.__qualname__.partition(".")[0] in _OPEN[f.__module__]:
        return False
    return in_library(f.__code__.co_filename)


def in_library(name: str) -> bool:
    """Whether a file belongs to an installed package, to Python itself or to this package."""
    return is_internal(name) or name.startswith("<frozen") or os.path.realpath(name).startswith(_LIBRARIES)
