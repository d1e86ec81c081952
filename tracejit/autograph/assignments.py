"""The rewriting of assignments: each tells which place outside the function's variables it writes to."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph.syntax import (
    AG,
    BINARY,
    at,
    call,
    define,
    globals_call,
    is_chain,
    is_plain,
    loaded,
    name_of,
    set_,
    whole_of,
)  # fmt: skip


class Assignments(ast.NodeTransformer):
    """The part of a converter that knows them. `count` numbers names, `globals` and `nonlocals` are the function's."""

    count: int
    globals: set[str]
    nonlocals: set[str]

    def visit_Assign(self, node: ast.Assign) -> Any:
        """An assignment, after notes of the places outside this function's variables that it writes to."""
        (target, *more) = node.targets
        if isinstance(target, (ast.Tuple, ast.List)):
            node.value = at(call("each", node.value), node.value)
        if more or (isinstance(target, (ast.Tuple, ast.List)) and _places_in(target)):
            return self._one_by_one(node)
        notes = [*self._once(target), *[s for t in ast.walk(target) for s in self._note(t)]]
        if not notes:
            return self.generic_visit(node)
        right = self._temporary()  # what the value reads comes before what is written
        first = [set_(right, self.visit(node.value)), *notes]
        node.value = at(name_of(right), node.value)
        if isinstance(target, ast.Attribute):
            done = call("set_attribute", self.visit(target.value), ast.Constant(target.attr), name_of(right))
            return [at(n, node) for n in (*first[: len(first) - 1], ast.Expr(done))]
        if isinstance(target, ast.Subscript) and not _slices(target.slice):
            done = call("set_item", self.visit(target.value), self.visit(target.slice), name_of(right))
            return [at(n, node) for n in (*first, ast.Expr(done))]
        return [*[at(n, node) for n in first], self.generic_visit(node)]

    def _one_by_one(self, node: ast.Assign) -> list[ast.stmt]:
        """Each target by itself; attributes and items in a tuple get what has stood for them."""
        right = self._temporary()
        out = [at(set_(right, self.visit(node.value)), node)]
        for t in node.targets:
            later: list[tuple[ast.expr, str]] = []
            if isinstance(t, (ast.Tuple, ast.List)):
                t = _Leaves(self._temporary, later).visit(t)
            for s in [ast.Assign([t], name_of(right)), *[ast.Assign([x], name_of(n)) for x, n in later]]:
                made = self.visit_Assign(at(s, node))
                out += made if isinstance(made, list) else [made]
        return out

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None or isinstance(node.target, ast.Name):
            return self._noted(node, [node.target])
        return self.visit_Assign(at(ast.Assign([node.target], node.value), node))

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """It reads what is there, and may change it in place."""
        first, node.value = self._once(node.target), whole_of(node.value)
        read = self.visit(at(copy.deepcopy(loaded(node.target)), node))
        if isinstance(node.target, ast.Attribute):
            left, right = self._temporary(), self._temporary()
            changed = set_(left, _changed(node.op, name_of(left), name_of(right)))
            after = ast.Assign([node.target], name_of(left))
            steps = [
                *first, set_(left, read), set_(right, self.visit(node.value)),
                ast.Expr(call("writes_all", name_of(left))), changed,
            ]  # fmt: skip
            return [*[at(n, node) for n in steps], *self.visit_Assign(at(after, node))]
        notes = [*first, ast.Expr(read), *self._note(node.target), ast.Expr(call("writes_all", loaded(node.target)))]
        return [*[at(n, node) for n in notes], *self._in_place(node)]

    def _in_place(self, node: ast.AugAssign) -> list[ast.stmt]:
        """The assignment itself, which the target's own method may make."""
        t = node.target
        if isinstance(t, ast.Name):
            value = _changed(node.op, self.visit(at(loaded(t), t)), self.visit(node.value))
            return [at(ast.Assign([t], value), node)]
        if isinstance(t, ast.Subscript) and not _slices(t.slice):
            read = self.visit(at(copy.deepcopy(loaded(t)), t))
            value = _changed(node.op, read, self.visit(node.value))
            owner, key = self.visit(copy.deepcopy(t.value)), self.visit(copy.deepcopy(t.slice))
            return [at(ast.Expr(call("set_item", owner, key, value)), node)]
        return [self.generic_visit(node)]  # type: ignore[list-item]

    def _noted(self, node: ast.AST, targets: Sequence[ast.expr]) -> Any:
        notes = [s for t in targets for s in self._once(t)]
        notes += [s for top in targets for t in ast.walk(top) for s in self._note(t, isinstance(node, ast.Delete))]
        if isinstance(node, ast.Delete):
            new: Any = [self._deleted(t, node) for t in node.targets]
        else:
            new = [self.generic_visit(node)]
        return [*[at(n, node) for n in notes], *new] if notes or len(new) > 1 else new[0]

    def _deleted(self, t: ast.expr, node: ast.Delete) -> ast.stmt:
        if isinstance(t, ast.Subscript) and not _slices(t.slice):
            done = call("delete_item", self.visit(t.value), self.visit(t.slice))
            return at(ast.Expr(done), node)  # type: ignore[no-any-return]
        return at(self.generic_visit(ast.Delete([t])), node)  # type: ignore[no-any-return]

    def _temporary(self) -> str:
        self.count += 1
        return f"{AG}value{self.count}"

    def _note(self, t: ast.AST, deleted: bool = False) -> list[ast.stmt]:
        if isinstance(t, ast.Attribute) and not isinstance(t.ctx, ast.Load) and is_chain(t.value):
            return [ast.Expr(call("writes_attribute", loaded(t.value), ast.Constant(t.attr)))]
        if isinstance(t, ast.Subscript) and not isinstance(t.ctx, ast.Load) and is_chain(t.value):
            key = [copy.deepcopy(t.slice), *([ast.Constant(True)] if deleted else [])] if is_plain(t.slice) else []
            return [ast.Expr(call("writes_items", loaded(t.value), *key))]
        if isinstance(t, ast.Name) and t.id in self.globals:
            return [ast.Expr(call("writes_global", globals_call(), ast.Constant(t.id)))]
        if isinstance(t, ast.Name) and t.id in self.nonlocals:
            get = define("ag__get0", [], [ast.Return(name_of(t.id))])
            return [get, ast.Expr(call("writes_cell", ast.Constant(t.id), name_of("ag__get0")))]
        return []

    def _once(self, t: ast.expr) -> list[ast.stmt]:
        """Assignments of what cannot be evaluated twice in a target, which then names them."""
        out: list[ast.stmt] = []
        if isinstance(t, (ast.Attribute, ast.Subscript)) and not is_chain(t.value):
            t.value = self._named(t.value, out)
        if isinstance(t, ast.Subscript) and not is_plain(t.slice) and not _slices(t.slice):
            t.slice = self._named(t.slice, out)
        return out

    def _named(self, x: ast.expr, out: list[ast.stmt]) -> ast.expr:
        name = self._temporary()
        out.append(at(set_(name, self.visit(x)), x))
        return at(name_of(name), x)  # type: ignore[no-any-return]


class _Leaves(ast.NodeTransformer):
    """Puts names in the place of the attributes and items in a tuple of targets."""

    def __init__(self, name: Callable[[], str], found: list[tuple[ast.expr, str]]) -> None:
        self.name, self.found = name, found

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = self.name()
        self.found.append((node, name))
        return at(name_of(name, True), node)  # type: ignore[no-any-return]

    visit_Subscript = visit_Attribute  # type: ignore[assignment]


def _places_in(x: ast.expr) -> bool:
    return any(isinstance(y, (ast.Attribute, ast.Subscript)) and not isinstance(y.ctx, ast.Load) for y in ast.walk(x))


def _changed(op: ast.operator, left: ast.expr, right: ast.expr) -> ast.expr:
    return call("in_place", ast.Constant(BINARY[type(op)]), left, right)


def _slices(x: ast.expr) -> bool:
    return any(isinstance(y, ast.Slice) for y in ast.walk(x))
