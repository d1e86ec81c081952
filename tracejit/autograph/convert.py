"""Functions with their control flow converted: compiled once for each definition, under the user's file and lines."""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import operator
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from tracejit import wrappers
from tracejit.autograph import aliases, calls, operators, owners, reads
from tracejit.autograph.expressions import NOT_CALLED, mark_users
from tracejit.autograph.rewrite import Converter
from tracejit.autograph.source import NoSource, NotConverted, is_library, tree_of
from tracejit.autograph.syntax import AG, at, define, every_arg, name_of, private, with_args
from tracejit.context import context
from tracejit.errors import ControlFlowError, SignatureError, locate, parts
from tracejit.identity import IdentityMap
from tracejit.unconverted import note, note_converted

Factories = IdentityMap[types.CodeType | tuple[type[NoSource], str]]
_factories: Factories = IdentityMap()
_FLAGS = [getattr(__future__, n).compiler_flag for n in __future__.all_feature_names]
_FEATURES = functools.reduce(operator.or_, _FLAGS)


def convert(
    f: types.FunctionType, known: Factories = _factories, kind: type[Converter] = Converter
) -> types.FunctionType:
    """The function with its control flow converted: the same globals, closure cells and defaults. Raises `NoSource`.

    `kind` converts it; `known` are functions that such have converted.
    """
    code = f.__code__
    made = known.get(code)
    if made is None:
        try:
            made = _compiled(f, kind)
        except NoSource as e:
            made = type(e), str(e)  # and not what the error holds: the variables of those who asked
        known.set(code, made)
    if isinstance(made, tuple):
        kind_of, text = made
        raise kind_of(text)
    cells = dict(zip(code.co_freevars, f.__closure__ or (), strict=True))
    own = types.CellType(operators)
    closure = tuple([own if n == AG else cells[n] for n in made.co_freevars])
    g = types.FunctionType(made, f.__globals__, f.__name__, f.__defaults__, closure)
    g.__kwdefaults__, g.__qualname__, g.__dict__ = f.__kwdefaults__, f.__qualname__, dict(f.__dict__)
    g.ag_original = f  # type: ignore[attr-defined]
    return g


def adapted(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function as traces call it: converted where it is the user's own and its text can be read."""
    if type(f) is not types.FunctionType or hasattr(f, "ag_original") or getattr(f, "ag_as_is", False) or is_library(f):
        return f
    if f.__code__ in _inside:
        return f
    try:
        made = convert(f)
    except NoSource as e:
        falls_back = isinstance(e, NotConverted)
        note(f.__code__, str(e), falls_back, "" if falls_back else "define it in a file")
        reads.unconverted(f)
        return f
    reads.function(f, made.__code__)
    return made


calls.keep["convert"] = adapted
calls.keep["inside"] = lambda f: f.__code__ in _inside
calls.keep["converted_as"] = convert


def _definition(f: types.FunctionType, kind: type[Converter] = Converter) -> ast.FunctionDef:
    node = tree_of(f)
    code, there = f.__code__, f.__globals__
    own = {*code.co_freevars, *code.co_varnames, *code.co_cellvars}
    mark_users(node, [n for n in NOT_CALLED if n in own or there.get(n, vars(builtins)[n]) is not vars(builtins)[n]])
    if isinstance(node, ast.FunctionDef):
        node.name = "ag__function"  # the user's name means what it means around the function
        node.returns = None
        if sys.version_info >= (3, 12):
            node.type_params = []  # which are variables from around the function
    if isinstance(node, ast.Lambda):
        body = at(ast.Return(node.body), node.body)
        node = at(with_args("ag__function", node.args, [body]), node)
    converter = kind(node.name)
    made = converter.function(private(node, _class_of(f)))
    made.ag_lines = converter.lines  # type: ignore[attr-defined]
    return made


def _class_of(f: types.FunctionType) -> str:
    """The class in whose body a function was defined; "" if in none."""
    *_, around, _ = ["", "", *f.__qualname__.split(".")]
    return "" if around == "<locals>" else around.lstrip("_")


def _compiled(f: types.FunctionType, kind: type[Converter]) -> types.CodeType:
    node = _definition(f, kind)
    # defaults were evaluated when the function was defined
    node.args.defaults = [at(ast.Constant(None), d) for d in node.args.defaults]
    node.args.kw_defaults = [d and at(ast.Constant(None), d) for d in node.args.kw_defaults]
    for a in every_arg(node.args):
        a.annotation = None
    free = [*[n for n in f.__code__.co_freevars if n != AG], AG]
    factory = define("ag__factory", free, [node, ast.Return(name_of(node.name))])
    module = ast.fix_missing_locations(ast.Module([at(factory, node)], []))
    code = compile(module, f.__code__.co_filename, "exec", f.__code__.co_flags & _FEATURES, dont_inherit=True)
    outer = next(c for c in code.co_consts if isinstance(c, types.CodeType))
    inner = next(c for c in outer.co_consts if isinstance(c, types.CodeType) and c.co_name == node.name)
    made = _named(inner, f.__code__.co_name, inner.co_qualname, f.__qualname__)
    _remember(made)
    aliases.remember(made, node.ag_lines)  # type: ignore[attr-defined]
    if kind is Converter:
        note_converted(made)
    return made


_inside: IdentityMap[bool] = IdentityMap()  # functions and lambdas that stand in converted code


def _remember(code: types.CodeType) -> None:
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            _inside.set(c, True)
            _remember(c)


def _named(code: types.CodeType, name: str, before: str, around: str) -> types.CodeType:
    """Functions made by the conversion carry the name of the one they were made from, and those that stand in it are
    told as in the user's code: by the name `around` where the conversion has made `before`."""
    called = around + _MADE.sub("", code.co_qualname.removeprefix(before))
    consts = tuple([
        _named(c, name if c.co_name.startswith("ag__") or c.co_name == "<lambda>" else c.co_name, before, around)
        if isinstance(c, types.CodeType)
        else called if type(c) is str and c == code.co_qualname  # as the body of a class says it
        else c
        for c in code.co_consts
    ])  # fmt: skip
    new = code.replace(co_consts=consts, co_name=name, co_qualname=called)
    if code.co_name.startswith(("ag__", "<")) and code.co_qualname != before:
        aliases.is_part(new)
        if code.co_name.startswith("ag__") or (code.co_name == "<lambda>" and _is_ours(code)):
            parts.add(new)
    if code.co_name.startswith(("ag__then", "ag__else")):
        owners.branches.set(new, True)
    return new


def _is_ours(code: types.CodeType) -> bool:
    """Whether a lambda is one that the conversion has made."""
    return all(n.startswith("ag__") for n in code.co_varnames[: code.co_argcount])


_MADE = re.compile(r"\.<locals>\.ag__\w+")


# --- for users --------------------------------------------------------------------------------------------------------
def to_code(f: Callable[..., Any]) -> str:
    """The converted source of a function, as text. Raises `ControlFlowError` if there is nothing to convert."""
    try:
        plain = _plain(f)
        node = _definition(plain)
    except NoSource as e:
        raise locate(ControlFlowError(str(e))) from None
    if plain.__code__.co_name.isidentifier():
        node.name = plain.__code__.co_name
    return ast.unparse(node)


def to_graph(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its control flow converted. Raises `ControlFlowError` if that cannot be."""
    try:
        return convert(_plain(f))
    except NoSource as e:
        raise locate(ControlFlowError(str(e))) from None


def _plain(f: Any) -> types.FunctionType:
    f = wrappers.called(f)
    f = getattr(f, "__func__", f)
    if not isinstance(f, types.FunctionType):
        raise locate(SignatureError(f"only functions written in Python are converted, not {f!r}"))
    return f


def do_not_convert(func: Any = None) -> Any:
    """Decorator: traced functions call this function as it is written, and so what it calls.

    What it decides about tensors has to be written with `tj.cond`, `tj.while_loop` or `tj.where`.
    """
    if func is None:
        return do_not_convert
    if isinstance(func, (staticmethod, classmethod)):
        return type(func)(do_not_convert(func.__func__))

    @functools.wraps(func)
    def as_written(*args: Any, **kwargs: Any) -> Any:
        return unconverted(func, "marked with do_not_convert")(*args, **kwargs)

    as_written.ag_written = func  # type: ignore[attr-defined]
    return as_written


def unconverted(f: Callable[..., Any], why: str) -> Callable[..., Any]:
    """The function as it is, which errors at its decisions on tensors explain."""
    inner = getattr(f, "__func__", f)
    if context.trace is not None and isinstance(inner, types.FunctionType):
        note(inner.__code__, f"{inner.__name__} is not converted: it is {why}", cure="let it be converted")
    return f


__all__ = ["NoSource", "adapted", "convert", "do_not_convert", "to_code", "to_graph", "unconverted"]
