"""Functions that run as plain Python: as they are written, but that items of tensors can be assigned in them."""

from __future__ import annotations

import ast
import dis
import types
from typing import Any

from tracejit.autograph import stores
from tracejit.autograph.convert import Factories, convert
from tracejit.autograph.expressions import is_pythons
from tracejit.autograph.names import Liveness, captured, declared, params_of, stored, written
from tracejit.autograph.owners import is_users
from tracejit.autograph.plainer import ItemsAssigned
from tracejit.autograph.rewrite import Converter
from tracejit.autograph.source import NoSource, is_library
from tracejit.autograph.syntax import at, call, name_of
from tracejit.identity import IdentityMap

_factories: Factories = IdentityMap()
_assigning: IdentityMap[bool] = IdentityMap()  # code, and whether it assigns to items
MOST = 256  # functions that are looked at
_FUNCTION = types.FunctionType


def plain_form(f: Any, of: type = object) -> Any:
    """What runs in the place of a function, of this class; the function itself where it assigns to no items."""
    if type(f) is types.MethodType:
        g = plain_form(f.__func__, type(f.__self__))
        return f if g is f.__func__ else types.MethodType(g, f.__self__)
    if type(f) is not _FUNCTION or is_library(f) or hasattr(f, "ag_original") or not _assigns(f, of):
        return f
    try:
        return convert(f, _factories, _Plain)
    except NoSource:
        return f


stores.asks["eagerly"] = plain_form


def _assigns(f: types.FunctionType, of: type) -> bool:
    """Whether a function, or one of its class or of those that it reaches by a variable's name, assigns to items."""
    todo, seen = [f, *[g for g in _methods(of) if type(g) is _FUNCTION]], set[types.CodeType]()
    while todo and len(seen) < MOST:
        f = todo.pop()
        if f.__code__ in seen or is_library(f):
            continue
        seen.add(f.__code__)
        if _has_assignment(f.__code__):
            return True
        cells = [c.cell_contents for c in f.__closure__ or () if c != types.CellType()]
        found = [*[f.__globals__.get(n) for n in f.__code__.co_names], *cells]
        todo += [h for g in found for h in ([g] if not isinstance(g, type) else _methods(g)) if type(h) is _FUNCTION]
    return False


def _methods(cls: type) -> list[Any]:
    return [f for c in cls.__mro__ for f in vars(c).values()] if is_users(cls) else []


def _has_assignment(code: types.CodeType) -> bool:
    found = _assigning.get(code)
    if found is None:
        found = any(i.opname in ("STORE_SUBSCR", "STORE_SLICE") for i in dis.get_instructions(code))
        found = found or "__setitem__" in code.co_names
        found = found or any(_has_assignment(c) for c in code.co_consts if isinstance(c, types.CodeType))
        _assigning.set(code, found)
    return found


class _Plain(Converter):
    """Rewrites what assigns to items, and calls, which may lead to such; all else stays."""

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        body = ItemsAssigned(node.body).body
        self.globals, self.nonlocals = declared(body)
        named = [*node.args.posonlyargs, *node.args.args]
        self.first = named[0].arg if named else ""
        own = written(body) | params_of(node.args)
        shared = (stored(body) & self.around) - own - self.globals - self.nonlocals
        self.nonlocals |= shared
        self.locals = own - self.globals - self.nonlocals
        self.lines += Liveness(body, captured(body)).lines()
        made = self.block(body)
        doc = made[:1] if ast.get_docstring(node, clean=False) is not None else []
        first = [at(ast.Nonlocal(sorted(shared)), body[0])] if shared else []
        node.body, node.decorator_list = [*doc, *first, *made[len(doc) :]], []
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        decorators = [self.visit(d) for d in node.decorator_list]
        made = _Plain(node.name, self).function(node)
        made.decorator_list = [*decorators, at(ast.Attribute(name_of("ag__"), "converted", ast.Load()), node)]
        return made

    def visit_Assign(self, node: ast.Assign) -> Any:
        if any(isinstance(t, ast.Subscript) for top in node.targets for t in ast.walk(top)):
            return super().visit_Assign(node)
        return self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        return super().visit_AugAssign(node) if isinstance(node.target, ast.Subscript) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        func = node.func
        if isinstance(func, ast.Name) and func.id == "super" and not node.args and self.first:
            return at(ast.Call(func, [name_of("__class__"), name_of(self.first)], []), node)
        self.generic_visit(node)
        if not is_pythons(func):
            if not (isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "ag__"):
                node.func = at(call("eagerly", node.func), node.func)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node


def _as_it_is(self: Any, node: ast.AST) -> Any:
    return ast.NodeTransformer.generic_visit(self, node)


for _kind in (
    "If", "While", "For", "Delete", "Return", "Raise", "Match", "Try", "TryStar", "With", "Assert", "Expr", "Name",
    "Attribute", "BinOp", "Subscript", "Starred", "Dict", "List", "Set", "IfExp", "BoolOp", "UnaryOp", "Compare",
    "ListComp", "GeneratorExp", "SetComp", "DictComp", "JoinedStr", "Lambda", "AnnAssign",
):  # fmt: skip
    setattr(_Plain, f"visit_{_kind}", _as_it_is)
