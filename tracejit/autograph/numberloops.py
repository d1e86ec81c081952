"""Loops that compute with Python's numbers alone: as they are written, they run while the function is traced."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph.syntax import AG, at, is_call, name_of

MANY = 10_000  # steps up to which a loop without others within it runs while the function is traced
_FUNCTIONS = ("abs", "bool", "complex", "divmod", "float", "int", "len", "max", "min", "pow", "range", "round")
_KNOWN = {id(getattr(builtins, n)) for n in _FUNCTIONS}
_NUMBERS = (int, float, bool, complex, str, type(None))
_STATEMENTS = (ast.While, ast.For, ast.If, ast.Assign, ast.AugAssign, ast.Pass)
_EXPRESSIONS = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Name, ast.Constant, ast.Tuple, ast.Call,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip


def as_written(node: ast.While | ast.For) -> tuple[ast.While | ast.For, set[str]] | None:
    """A copy of a loop without exits, and the names that it reads; None if it may do more than compute with numbers."""
    if not all(map(_is_plain, ast.walk(node))):
        return None
    made = _Exits().visit(copy.deepcopy(node))
    inside = [made.test, *made.body] if isinstance(made, ast.While) else made.body
    every = [n for part in inside for n in ast.walk(part) if isinstance(n, ast.Name)]
    changed = {n.target.id for part in inside for n in ast.walk(part) if is_change(n)}  # type: ignore[attr-defined]
    return made, changed | {n.id for n in every if isinstance(n.ctx, ast.Load)}


def is_change(n: ast.AST) -> bool:
    """`name op= value`, which reads what the name holds."""
    return isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)


def _is_plain(n: ast.AST) -> bool:
    if isinstance(n, ast.Call):
        return (isinstance(n.func, ast.Name) and not n.keywords) or is_call(n, "none_of")
    if isinstance(n, ast.Attribute):
        return isinstance(n.value, ast.Name) and n.value.id == AG and n.attr == "none_of"
    if isinstance(n, (ast.Assign, ast.AugAssign, ast.For)):
        targets = n.targets if isinstance(n, ast.Assign) else [n.target]
        if not all(isinstance(x, (ast.Name, ast.Tuple)) for x in targets):
            return False
    if isinstance(n, (ast.Assign, ast.AugAssign)) and isinstance(n.value, ast.Tuple):
        return isinstance(n, ast.Assign) and all(isinstance(t, ast.Tuple) for t in n.targets)
    if isinstance(n, ast.Compare):
        return not any(isinstance(op, (ast.In, ast.NotIn)) for op in n.ops)
    return isinstance(n, (*_STATEMENTS, *_EXPRESSIONS))


class _Exits(ast.NodeTransformer):
    """Flags that say that a loop has ended become exits again."""

    def visit_While(self, node: ast.While | ast.For) -> Any:
        self.generic_visit(node)
        if flags := getattr(node, "ag_stop", []):
            node.body.append(at(ast.If(_any_of([name_of(n) for n in flags]), [ast.Break()], []), node))
        return node

    visit_For = visit_While

    def visit_Call(self, node: ast.Call) -> Any:
        if is_call(node, "none_of"):
            return at(ast.UnaryOp(ast.Not(), _any_of(node.args)), node)
        return self.generic_visit(node)


def _any_of(flags: Sequence[ast.expr]) -> ast.expr:
    return flags[0] if len(flags) == 1 else ast.BoolOp(ast.Or(), list(flags))


# --- while functions are traced ---------------------------------------------------------------------------------------
def are_numbers(read: Callable[[], Sequence[Any]] | None) -> bool:
    """Whether all that a loop reads are numbers and texts of Python's, or functions of them."""
    if read is None:
        return False
    try:
        return all(type(x) in _NUMBERS or id(x) in _KNOWN for x in read())
    except NameError:  # a variable that has no value yet
        return False


def of_numbers(rows: Any) -> bool:
    """Whether what a loop goes through are numbers and texts of Python's."""
    return type(rows) is range or (type(rows) in (list, tuple) and all(type(x) in _NUMBERS for x in rows))
