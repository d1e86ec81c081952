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
    is_call,
    is_chain,
    is_plain,
    is_row,
    loaded,
    name_of,
    places_in,
    set_,
    whole_of,
)  # fmt: skip


class Assignments(ast.NodeTransformer):
    """The part of a converter that knows them. `count` numbers names, `globals` and `nonlocals` are the function's."""

    count: int
    globals: set[str]
    nonlocals: set[str]
    locals: set[str]

    def visit_Assign(self, node: ast.Assign) -> Any:
        """An assignment, after notes of the places outside this function's variables that it writes to."""
        (target, *more) = node.targets
        if isinstance(target, (ast.Tuple, ast.List)):
            node.value = at(call("each", node.value), node.value)
            if not more and not places_in(target) and any(map(is_row, target.elts)):
                (first, *rest) = self._unpacked(target, node.value)
                made = self.visit_Assign(first)
                return [*(made if isinstance(made, list) else [made]), *rest]
        if more or (isinstance(target, (ast.Tuple, ast.List)) and places_in(target)):
            return self._one_by_one(node)
        if isinstance(target, ast.Subscript):
            return self._stored(node, target)
        notes = [*self._once(target), *[s for t in ast.walk(target) for s in self._note(t)]]
        if not notes:
            return self.generic_visit(node)
        right = self._temporary()  # what the value reads comes before what is written
        first = [set_(right, self.visit(node.value)), *notes]
        node.value = at(name_of(right), node.value)
        if isinstance(target, ast.Attribute):
            done = call("set_attribute", self.visit(target.value), ast.Constant(target.attr), name_of(right))
            return [at(n, node) for n in (*first[: len(first) - 1], ast.Expr(done))]
        return [*[at(n, node) for n in first], self.generic_visit(node)]

    # --- items --------------------------------------------------------------------------------------------------------
    def _unpacked(self, target: ast.expr, value: ast.expr) -> list[Any]:
        """An assignment of variables; what stands for tuples of them in a tuple is asked for its items after it."""
        if not isinstance(target, (ast.Tuple, ast.List)):
            return [at(ast.Assign([target], value), target)]
        inner = [(k, x, self._temporary()) for k, x in enumerate(target.elts) if is_row(x)]
        for k, x, name in inner:
            target.elts[k] = at(name_of(name, True), x)
        first = at(ast.Assign([target], value if is_call(value, "each") else call("unpacked", value)), target)
        return [first, *[s for _, x, name in inner for s in self._unpacked(x, name_of(name))]]

    def _stored(self, node: ast.Assign, target: ast.Subscript) -> list[ast.stmt]:
        """An item is assigned: where it is one of a tensor, the tensor's name gets another tensor."""
        right = self._temporary()
        first: list[ast.stmt] = [set_(right, self.visit(node.value))]
        root, path, said = self._path(target, first)
        steps = [*first, *self._store(root, path, name_of(right), said, getattr(node, "ag_pending", ()))]
        return [at(s, node) for s in steps]

    def _stored_change(self, node: ast.AugAssign, target: ast.Subscript) -> list[ast.stmt]:
        """The same of `x[key] op= value`: what is there is read once, before the value."""
        first: list[ast.stmt] = []
        root, path, said = self._path(target, first, again=True)
        left, right = self._temporary(), self._temporary()
        first += [
            set_(left, call("part_to_change", copy.deepcopy(root), copy.deepcopy(path))),
            set_(right, self.visit(node.value)),
        ]  # fmt: skip
        new = call("changed", ast.Constant(BINARY[type(node.op)]), name_of(left), name_of(right))
        return [at(s, node) for s in (*first, *self._store(root, path, new, said, ()))]

    def _path(self, t: ast.Subscript, out: list[ast.stmt], again: bool = False) -> tuple[ast.expr, ast.expr, str]:
        """What the brackets and dots of a target stand behind, the steps from there, and its text without the last.

        If it is evaluated `again`, the keys get names.
        """
        steps: list[ast.Attribute | ast.Subscript] = []
        x: ast.expr = t
        while isinstance(x, (ast.Attribute, ast.Subscript)):
            steps.insert(0, x)
            x = x.value
        said = ast.unparse(t.value)
        root = at(name_of(x.id), x) if isinstance(x, ast.Name) else self._named(x, out)
        pairs: list[ast.expr] = []
        for s in steps:
            dot = isinstance(s, ast.Attribute)
            key = ast.Constant(s.attr) if isinstance(s, ast.Attribute) else at(_key(s.slice), s.slice)
            if again and not isinstance(key, ast.Constant):
                key = self._named(key, out)
            elif not dot:
                key = self.visit(key)
            pairs.append(ast.Tuple([ast.Constant(dot), key], ast.Load()))
        return root, ast.Tuple(pairs, ast.Load()), said

    def _store(
        self, root: ast.expr, path: ast.expr, value: ast.expr, said: str, pending: Sequence[str]
    ) -> list[ast.stmt]:  # fmt: skip
        assert isinstance(path, ast.Tuple)
        items = all(isinstance(p, ast.Tuple) and p.elts[0].value is False for p in path.elts)  # type: ignore[attr-defined]
        name = root.id if isinstance(root, ast.Name) and not root.id.startswith(AG) and items else ""
        inner = bool(name) and name in (self.nonlocals | self.globals)
        rebinds = bool(name) and (name in self.locals or inner)
        made = call(
            "store", self.visit(root), path, value, ast.Constant(name if rebinds else ""), ast.Constant(said),
            ast.Tuple([ast.Constant(n) for n in pending], ast.Load()), ast.Constant(inner),
        )  # fmt: skip
        if not rebinds:
            return [ast.Expr(made)]
        if not inner:
            return [set_(name, made)]
        new = self._temporary()
        note = [*self._note(name_of(name, True)), set_(name, name_of(new))]
        return [set_(new, made), ast.If(ast.Compare(name_of(new), [ast.IsNot()], [name_of(name)]), note, [])]

    def _one_by_one(self, node: ast.Assign) -> list[ast.stmt]:
        """Each target by itself; attributes and items in a tuple get what has stood for them."""
        right = self._temporary()
        out = [at(set_(right, self.visit(node.value)), node)]
        for t in node.targets:
            later: list[tuple[ast.expr, str]] = []
            if isinstance(t, (ast.Tuple, ast.List)):
                t = _Leaves(self._temporary, later).visit(t)
            left = [n for _, n in later]
            for s in [ast.Assign([t], name_of(right)), *[ast.Assign([x], name_of(n)) for x, n in later]]:
                if s.targets[0] is not t:
                    left = left[1:]
                    s.ag_pending = left  # type: ignore[attr-defined]
                made = self.visit_Assign(at(s, node))
                out += made if isinstance(made, list) else [made]
        return out

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """Annotations of variables do nothing, and may not stand where a part shares them with what is around."""
        if node.value is None:
            return at(ast.Pass(), node) if isinstance(node.target, ast.Name) else self._noted(node, [node.target])
        return self.visit_Assign(at(ast.Assign([node.target], node.value), node))

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """It reads what is there, and may change it in place."""
        node.value = whole_of(node.value)
        if isinstance(node.target, ast.Subscript):
            return self._stored_change(node, node.target)
        first = self._once(node.target)
        read = self.visit(at(copy.deepcopy(loaded(node.target)), node))
        if isinstance(node.target, ast.Attribute):
            left, right = self._temporary(), self._temporary()
            changed = set_(left, _changed(node.op, name_of(left), name_of(right)))
            after = ast.Assign([node.target], name_of(left))
            steps = [
                *first, set_(left, read), set_(right, self.visit(node.value)), changed,
            ]  # fmt: skip
            return [*[at(n, node) for n in steps], *self.visit_Assign(at(after, node))]
        notes = [*first, ast.Expr(read), *self._note(node.target)]
        return [*[at(n, node) for n in notes], *self._in_place(node)]

    def _in_place(self, node: ast.AugAssign) -> list[ast.stmt]:
        """The assignment itself, which the target's own method may make."""
        t = node.target
        if isinstance(t, ast.Name):
            value = _changed(node.op, self.visit(at(loaded(t), t)), self.visit(node.value))
            return [at(ast.Assign([t], value), node)]
        return [self.generic_visit(node)]  # type: ignore[list-item]

    def _noted(self, node: ast.AST, targets: Sequence[ast.expr]) -> Any:
        notes = [s for t in targets for s in self._once(t)]
        notes += [s for top in targets for t in ast.walk(top) for s in self._note(t)]
        if isinstance(node, ast.Delete):
            new: Any = [self._deleted(t, node) for t in node.targets]
        else:
            new = [self.generic_visit(node)]
        return [*[at(n, node) for n in notes], *new] if notes or len(new) > 1 else new[0]

    def _deleted(self, t: ast.expr, node: ast.Delete) -> ast.stmt:
        if isinstance(t, ast.Attribute):
            done = call("delete_attribute", self.visit(t.value), ast.Constant(t.attr))
            return at(ast.Expr(done), node)  # type: ignore[no-any-return]
        if isinstance(t, ast.Subscript):
            done = call("delete_item", self.visit(t.value), self.visit(_key(t.slice)))
            return at(ast.Expr(done), node)  # type: ignore[no-any-return]
        return at(self.generic_visit(ast.Delete([t])), node)  # type: ignore[no-any-return]

    def _temporary(self) -> str:
        self.count += 1
        return f"{AG}value{self.count}"

    def _note(self, t: ast.AST) -> list[ast.stmt]:
        if isinstance(t, ast.Attribute) and isinstance(t.ctx, ast.Store) and is_chain(t.value):
            return [ast.Expr(call("writes_attribute", loaded(t.value), ast.Constant(t.attr)))]
        if isinstance(t, ast.Subscript) and isinstance(t.ctx, ast.Store) and is_chain(t.value):
            key = [copy.deepcopy(t.slice)] if is_plain(t.slice) else []
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
    """Puts names in the place of the attributes and items in a tuple of targets, and of the variables behind them,
    which are to be what they were until then."""

    def __init__(self, name: Callable[[], str], found: list[tuple[ast.expr, str]]) -> None:
        self.name, self.found = name, found

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = self.name()
        self.found.append((node, name))
        return at(name_of(name, True), node)  # type: ignore[no-any-return]

    visit_Subscript = visit_Attribute  # type: ignore[assignment]

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.visit_Attribute(node) if self.found else node  # type: ignore[arg-type]


def _changed(op: ast.operator, left: ast.expr, right: ast.expr) -> ast.expr:
    return call("in_place", ast.Constant(BINARY[type(op)]), left, right)


def _key(x: ast.expr) -> ast.expr:
    """A key as an expression of its own, slices as calls."""
    if isinstance(x, ast.Tuple):
        return ast.Tuple([_key(y) for y in x.elts], ast.Load())
    if isinstance(x, ast.Slice):
        return call("slice_", *[y if y is not None else ast.Constant(None) for y in (x.lower, x.upper, x.step)])
    return x


def _slices(x: ast.expr) -> bool:
    return any(isinstance(y, ast.Slice) for y in ast.walk(x))
