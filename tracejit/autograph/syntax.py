"""Pieces of syntax trees that conversions are made of."""

from __future__ import annotations

import ast
import sys
from typing import Any

from tracejit.autograph.names import FUNCTIONS

BINARY: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip
AG = "ag__"  # the name under which converted code finds the operators


def at(node: Any, where: Any) -> Any:
    """The node, with those under it that are new, at a place in the user's text."""
    ast.copy_location(node, where)
    if getattr(node, "end_lineno", None) not in (None, node.lineno):  # else calls would be on the last of the lines
        node.end_lineno, node.end_col_offset = node.lineno, node.col_offset + 1
    if hasattr(node, "lineno"):
        _place_new(node, {name: getattr(node, name, None) for name in _PLACE})
    return node


_PLACE = ("lineno", "col_offset", "end_lineno", "end_col_offset")


def _place_new(node: ast.AST, place: dict[str, Any]) -> None:
    """Put what has no place there; what has one is left alone, with all under it."""
    for field in node._fields:
        x = getattr(node, field, None)
        for child in x if type(x) is list else (x,):
            if isinstance(child, ast.AST):
                fields = child.__dict__
                if "lineno" not in fields:
                    if child._attributes:
                        fields.update(place)
                    _place_new(child, place)


def name_of(name: str, store: bool = False) -> ast.Name:
    return ast.Name(name, ast.Store() if store else ast.Load())


def set_(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([name_of(name, True)], value)


def call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(name_of("ag__"), name, ast.Load()), list(args), [])


def is_call(x: ast.expr, name: str) -> bool:
    return (
        isinstance(x, ast.Call) and isinstance(x.func, ast.Attribute) and x.func.attr == name
        and isinstance(x.func.value, ast.Name) and x.func.value.id == AG
    )  # fmt: skip


def whole_of(x: ast.expr) -> ast.expr:
    """An operand; if it may be a container from outside, everything in it counts as read."""
    named = isinstance(x, (ast.Name, ast.Attribute, ast.Subscript))
    made = any(is_call(x, name) for name in ("load", "item", "value_of", "if_exp", "and_", "or_"))
    return at(call("operand", x), x) if named or made else x


def set_target(target: ast.expr) -> ast.stmt:
    return ast.Assign([target], ast.Constant(None))


def item(name: str, i: int) -> ast.expr:
    return ast.Subscript(name_of(name), ast.Constant(i), ast.Load())


def lambda_of(body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), body)


def define(name: str, args: list[str], body: list[ast.stmt]) -> ast.FunctionDef:
    a = ast.arguments([], [ast.arg(x) for x in args], None, [], [], None, [])
    f = ast.FunctionDef(name, a, body, [], None)
    if sys.version_info >= (3, 12):
        f.type_params = []
    return f


def is_row(x: ast.AST) -> bool:
    """Whether something stands for several things."""
    return isinstance(x, (ast.Tuple, ast.List))


def places_in(x: ast.AST) -> bool:
    """Whether there are attributes or items in a target."""
    return any(isinstance(y, (ast.Attribute, ast.Subscript)) and not isinstance(y.ctx, ast.Load) for y in ast.walk(x))


def is_generator(node: ast.AST) -> bool:
    todo = list(ast.iter_child_nodes(node))
    while todo:
        n = todo.pop()
        if isinstance(n, (ast.Yield, ast.YieldFrom, ast.Await)):
            return True
        if not isinstance(n, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            todo += ast.iter_child_nodes(n)
    return False


def is_chain(x: ast.expr) -> bool:
    """Whether an expression can be evaluated twice: attributes and constant items of a name."""
    while isinstance(x, ast.Attribute) or (
        isinstance(x, ast.Subscript) and isinstance(x.slice, (ast.Constant, ast.Name))
    ):
        x = x.value
    return isinstance(x, ast.Name)


def is_plain(x: ast.expr) -> bool:
    """Whether an index can be evaluated twice: names, constants, attributes, and arithmetic on them."""
    if isinstance(x, ast.Slice):
        return False
    inner = (ast.Name, ast.Constant, ast.Attribute, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.Subscript)
    return isinstance(x, inner) and all(is_plain(y) for y in ast.iter_child_nodes(x) if isinstance(y, ast.expr))


def loaded(x: ast.expr) -> ast.expr:
    if isinstance(x, ast.Attribute):
        return ast.Attribute(loaded(x.value), x.attr, ast.Load())
    if isinstance(x, ast.Subscript):
        return ast.Subscript(loaded(x.value), x.slice, ast.Load())
    assert isinstance(x, ast.Name)
    return name_of(x.id)


def globals_call() -> ast.Call:
    return ast.Call(name_of("globals"), [], [])


def with_args(name: str, args: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    f = ast.FunctionDef(name, args, body, [], None)
    if sys.version_info >= (3, 12):
        f.type_params = []
    return f


def every_arg(a: ast.arguments) -> list[ast.arg]:
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *[x for x in (a.vararg, a.kwarg) if x is not None]]


class _Private(ast.NodeTransformer):
    """Names with two leading underscores as Python mangles them in the body of a class."""

    def __init__(self, cls: str) -> None:
        self.cls = cls

    def _name(self, name: str) -> str:
        mangled = name.startswith("__") and not name.endswith("__") and "." not in name
        return f"_{self.cls}{name}" if mangled else name

    def generic_visit(self, node: Any) -> Any:
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(getattr(node, field, None), str) and not isinstance(node, ast.alias):
                setattr(node, field, self._name(getattr(node, field)))
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [self._name(n) for n in node.names]
        return super().generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return node  # which mangles names itself


def private(node: Any, cls: str) -> Any:
    """The definition of a function from the body of this class."""
    return _Private(cls).visit(node) if cls else node
