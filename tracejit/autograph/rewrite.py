"""The rewriting of one function: its control flow as calls of `operators`, on the lines where it stood."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Sequence
from typing import Any

from tracejit.autograph.assignments import Assignments
from tracejit.autograph.exits import VALUE, Exits
from tracejit.autograph.expressions import Expressions, seeing
from tracejit.autograph.names import Liveness, captured, declared, params_of, rebound, stored, unset_somewhere, written
from tracejit.autograph.numberloops import as_written
from tracejit.autograph.plainer import Plainer
from tracejit.autograph.syntax import (
    AG,
    at,
    call,
    define,
    is_call,
    is_chain,
    is_generator,
    item,
    lambda_of,
    name_of,
    places_in,
    private,
    set_,
    set_target,
)  # fmt: skip


class Converter(Assignments, Expressions):
    """Rewrites the body of one function."""

    def __init__(self, name: str, around: Converter | None = None) -> None:
        self.name = name
        self.around: set[str] = around.locals | around.around if around is not None else set()
        self.lines: list[tuple[int, int, frozenset[str]]] = [] if around is None else around.lines
        self.count = 0
        self.generator = False  # whether what has a `yield` or an exit in it stays Python's
        self.first = ""  # the first parameter, which `super()` takes
        self.live: Liveness
        self.needed: set[str] = set()  # names of the states of constructs in the function being made
        self.risky: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.locals: set[str] = set()

    # --- functions ----------------------------------------------------------------------------------------------------
    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        body = list(node.body)
        self.globals, self.nonlocals = declared(body)
        params = params_of(node.args)
        body = seeing(body, (written(body) | params) - self.globals)
        named = [*node.args.posonlyargs, *node.args.args]
        self.first = named[0].arg if named else ""
        exits = Exits()
        self.generator = is_generator(node)
        if self.generator:
            exits.plain = True
        else:
            body = exits.function(Plainer(node.name).block(body))
        own = written(body) | params
        shared = (stored(body) & self.around) - own - self.globals - self.nonlocals
        self.nonlocals |= shared | (rebound(body) & own - self.globals)
        self.locals = own - self.globals - self.nonlocals
        self.live = Liveness(body, captured(body) | ({VALUE} if not exits.plain else set()))
        self.lines += self.live.lines()
        self.risky = {n for n in unset_somewhere(body, params) if not n.startswith(AG)}
        made = self.block(body)
        first: list[ast.stmt] = [ast.Nonlocal(sorted(shared))] if shared else []
        if not exits.plain:
            first.append(set_(VALUE, call("undefined", ast.Constant("the value returned"))))
        first += [set_(n, ast.Constant(False)) for n in exits.flags]
        names = sorted((self.needed & self.locals) - params - {VALUE} - set(exits.flags))
        first += [set_(n, call("undefined", ast.Constant(n))) for n in names]
        doc = made[:1] if ast.get_docstring(node, clean=False) is not None else []
        new = ast.FunctionDef(
            node.name, node.args, [*doc, *[at(s, node.body[0]) for s in first], *made[len(doc) :]], [], node.returns
        )
        if sys.version_info >= (3, 12):
            new.type_params = node.type_params
        return at(new, node)

    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for s in body:
            made = self.visit(s)
            out += made if isinstance(made, list) else [made]
        return out

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        inner = Converter(node.name, self)
        node.decorator_list = [self._decorator(d) for d in node.decorator_list]
        made = inner.function(node)
        made.decorator_list = [*node.decorator_list, at(ast.Attribute(name_of(AG), "converted", ast.Load()), node)]
        made.args.defaults = [self.visit(d) for d in made.args.defaults]
        made.args.kw_defaults = [self.visit(d) if d is not None else None for d in made.args.kw_defaults]
        return made

    def _decorator(self, d: ast.expr) -> Any:
        known = isinstance(d, ast.Name) and d.id in ("property", "staticmethod", "classmethod")
        return self.visit(d) if known else at(call("decorating", self.visit(d)), d)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        Plainer("<lambda>").expression(node.body)
        inner = Converter("<lambda>")
        inner.locals = params_of(node.args)
        return at(ast.Lambda(node.args, inner.visit(node.body)), node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node  # what awaits is called by others

    def visit_TypeAlias(self, node: ast.AST) -> ast.AST:
        return node  # whose value is evaluated when it is asked for

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """A class in a function, whose body runs as it is: what it changes is looked for."""
        plain = [copy.deepcopy(s) for s in node.body if not isinstance(s, ast.FunctionDef)]
        bases = [copy.deepcopy(b) for b in (*node.bases, *[k.value for k in node.keywords]) if is_chain(b)]
        if not bases and all(map(_is_simple, plain)):
            return self._class(node)
        name = self._temporary()
        body = at(define(f"{name}body", [], plain or [ast.Pass()]), node)
        starts = call("class_starts", name_of(body.name), ast.Tuple(bases, ast.Load()))
        ends = at(ast.Expr(call("class_ends", name_of(name))), node)
        return [body, at(set_(name, starts), node), self._class(node), ends]

    def _class(self, node: ast.ClassDef) -> ast.AST:
        """A class: its methods are functions of their own."""
        body: list[Any] = []
        for s in node.body:
            if isinstance(s, ast.FunctionDef):
                body.append(self.visit_FunctionDef(private(s, node.name.lstrip("_"))))
            else:
                body.append(self._class(s) if isinstance(s, ast.ClassDef) else s)
        node.body = body
        node.decorator_list = [self._decorator(d) for d in node.decorator_list]
        node.decorator_list.append(at(ast.Attribute(name_of(AG), "made", ast.Load()), node))
        return node

    # --- state --------------------------------------------------------------------------------------------------------
    def _state(self, body: Sequence[ast.stmt], wanted: set[str], node: ast.stmt) -> tuple[list[str], list[ast.stmt]]:
        """Names of the state, and the functions that get and set it."""
        names = sorted((written(body) | stored(body) & self.locals) & wanted - self.globals - self.nonlocals)
        self.needed |= set(names)
        self.count += 1
        k = self.count
        get = define(f"ag__get{k}", [], [ast.Return(ast.Tuple([name_of(n) for n in names], ast.Load()))])
        new = "ag__new"
        sets: list[ast.stmt] = [*self._outer(names), *[set_(n, item(new, i)) for i, n in enumerate(names)]]
        put = define(f"ag__set{k}", [new], sets or [ast.Pass()])
        return names, [at(get, node), at(put, node)]

    def _outer(self, names: Sequence[str]) -> list[ast.stmt]:
        """How a function made here reaches the names of the function around it."""
        g = [n for n in names if n in self.globals]
        n = [n for n in names if n not in self.globals]
        out: list[ast.stmt] = [ast.Global(g)] if g else []
        return [*out, ast.Nonlocal(n)] if n else out

    def _part(
        self, name: str, state: Sequence[str], body: Sequence[ast.stmt], node: ast.AST, args: Sequence[str] = (),
        first: Sequence[ast.stmt] = (),
    ) -> ast.FunctionDef:  # fmt: skip
        """Statements as a function that shares the names of the state with the function around it."""
        before, self.needed = self.needed, set()
        made = self.block(body)
        names = [*state, *sorted((written(body) | stored(body)) & (self.globals | self.nonlocals))]
        own = sorted((self.needed & self.locals) - set(names))
        self.needed = before | (self.needed - set(own))
        unset = [set_(n, call("undefined", ast.Constant(n))) for n in own]
        return at(define(name, list(args), [*self._outer(names), *unset, *first, *(made or [ast.Pass()])]), node)

    def _names(self, shown: Sequence[str], body: Sequence[ast.AST]) -> ast.expr:
        """The names of the state, each with the line where these statements set it."""
        lines: dict[str, int] = {}
        for n in (n for s in reversed(body) for n in reversed(list(ast.walk(s)))):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                lines[n.id] = n.lineno
        called = {VALUE: "the value returned"}
        given = [ast.Tuple([ast.Constant(called.get(n, n)), ast.Constant(lines.get(n, 0))], ast.Load()) for n in shown]
        return call("names", *given)

    # --- statements ---------------------------------------------------------------------------------------------------
    def _stays(self, node: ast.If | ast.While | ast.For) -> Any:
        """In a generator, a statement that cannot be a function of its own as Python's; None for all others."""
        exits = (ast.Yield, ast.YieldFrom, ast.Return, ast.Break, ast.Continue)
        if not self.generator or not any(isinstance(n, exits) for n in ast.walk(node)):
            return None
        if isinstance(node, ast.For):
            node.iter = at(call("rows", self.visit(node.iter)), node.iter)
            node.target, first = self._targeted(node.target)
            node.body = [*first, *node.body]
        else:
            node.test = at(call("decided", self.visit(node.test)), node.test)
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        return node

    def visit_If(self, node: ast.If) -> Any:
        if (stays := self._stays(node)) is not None:
            return stays
        after = self.live.after.get(node, set())
        state, made = self._state([*node.body, *node.orelse], after | self.live.entry.get(node, set()), node)
        shown = self._names(state, [*node.body, *node.orelse])
        test = self.tested(node.test)
        k = self.count
        then = self._part(f"ag__then{k}", state, node.body, node)
        orelse = self._part(f"ag__else{k}", state, node.orelse, node)
        dead = [n for n in state if n in self.locals and n not in after]
        made_call = call(
            "if_", test, name_of(then.name), name_of(orelse.name), name_of(f"ag__get{k}"), name_of(f"ag__set{k}"),
            shown, ast.Tuple([ast.Constant(n) for n in dead], ast.Load()),
            *([ast.Constant(True)] if getattr(node, "ag_uneven", False) else []),
        )  # fmt: skip
        return [*made, then, orelse, at(ast.Expr(made_call), node.test)]

    def visit_While(self, node: ast.While) -> Any:
        if (stays := self._stays(node)) is not None:
            return stays
        wanted = self.live.after.get(node, set()) | self.live.entry.get(node, set())
        state, made = self._state(node.body, wanted, node)
        k, shown = self.count, self._names(state, node.body)
        numbers = self._of_numbers(node, state, made)
        stops = getattr(node, "ag_stop", [])
        check = at(define(f"ag__test{k}", [], [ast.Return(self.tested(node.test))]), node.test)
        if stops:
            goes_on = ast.Return(call("none_of", *[name_of(n) for n in stops]))
            made.append(at(define(f"ag__more{k}", [], [goes_on]), node))
            numbers = [*(numbers or [ast.Constant(None), ast.Constant(None)]), name_of(f"ag__more{k}")]
        body = self._part(f"ag__body{k}", state, node.body, node)
        made_call = call(
            "while_", name_of(check.name), name_of(body.name), name_of(f"ag__get{k}"), name_of(f"ag__set{k}"),
            shown, *numbers,
        )  # fmt: skip
        return [*made, check, body, at(ast.Expr(made_call), node.test)]

    def visit_For(self, node: ast.For) -> Any:
        if (stays := self._stays(node)) is not None:
            return stays
        wanted = self.live.after.get(node, set()) | self.live.entry.get(node, set())
        state, made = self._state([*node.body, set_target(node.target)], wanted, node)
        k, shown = self.count, self._names(state, node.body)
        numbers = self._of_numbers(node, state, made)
        stops = getattr(node, "ag_stop", [])
        row = "ag__row"
        assign = at(ast.Assign([node.target], name_of(row)), node.target)
        first, rest = ([], [assign]) if places_in(node.target) else (self._unpacked(node.target, name_of(row)), [])
        body = self._part(f"ag__body{k}", state, [*rest, *node.body], node, [row], first)
        more: ast.expr = ast.Constant(None)
        if stops:
            goes_on = ast.Return(call("none_of", *[name_of(n) for n in stops]))
            made.append(at(define(f"ag__more{k}", [], [goes_on]), node))
            more = name_of(f"ag__more{k}")
        made_call = call(
            "for_", self.visit(node.iter), name_of(body.name), more, name_of(f"ag__get{k}"), name_of(f"ag__set{k}"),
            shown, *numbers,
        )  # fmt: skip
        return [*made, body, at(ast.Expr(made_call), node.iter)]

    def _of_numbers(
        self, node: ast.While | ast.For, state: Sequence[str], made: list[ast.stmt]
    ) -> list[ast.expr]:
        """More arguments for a loop that may compute with Python's numbers alone: the loop as it is written, and
        what it reads."""
        if written([node]) & (self.globals | self.nonlocals) or (loop := as_written(node)) is None:
            return []
        plain, read = loop
        args = []
        if isinstance(plain, ast.For):
            plain.iter, args = at(name_of("ag__rows"), node), ["ag__rows"]
        own = (written([node]) | stored([node])) - self.live.entry.get(node, set())
        values = ast.Tuple([name_of(n) for n in sorted(read - own)], ast.Load())
        made.append(at(define(f"ag__plain{self.count}", args, [*self._outer(state), plain]), node))
        numbers = [name_of(f"ag__plain{self.count}"), lambda_of(values)]
        others = any(isinstance(n, (ast.For, ast.While)) for s in node.body for n in ast.walk(s))
        return numbers if others or isinstance(node, ast.While) else [*numbers, ast.Constant(True)]

    def visit_Delete(self, node: ast.Delete) -> Any:
        """A variable that is deleted has no value, which branches and loops can carry."""
        if len(node.targets) > 1:
            return self.block([at(ast.Delete([t]), node) for t in node.targets])
        (target,) = node.targets
        if not (isinstance(target, ast.Name) and target.id in self.locals):
            return self._noted(node, node.targets)
        name = ast.Constant(target.id)
        asks = [ast.Expr(call("value_of", name_of(target.id), name))] if target.id in self.risky else []
        return [at(s, node) for s in (*asks, set_(target.id, call("undefined", name)))]

    def visit_Return(self, node: ast.Return) -> Any:
        if node.value is None or is_call(node.value, "returned"):
            return node
        return at(ast.Return(call("returned", self.visit(node.value))), node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        self.generic_visit(node)
        if node.exc is not None:
            cause = [] if node.cause is None or isinstance(node.cause, ast.Constant) else [node.cause]
            node.exc = at(call("raised", node.exc, *cause), node.exc)
            node.cause = None if cause else node.cause
        return node

    def visit_Match(self, node: ast.Match) -> Any:
        """Patterns are no expressions: the names in them stay as they are."""
        node.subject = at(call("matched", self.visit(node.subject)), node.subject)
        for c in node.cases:
            c.guard = c.guard and self.visit(c.guard)
            c.body = self.block(c.body)
        return node

    def visit_Try(self, node: ast.Try | ast.TryStar) -> Any:
        kinds = [h.type or name_of("BaseException") for h in node.handlers]
        if node.finalbody:
            kinds = [name_of("BaseException")]
        tried = at(call("catching", lambda_of(ast.Tuple([*map(copy.deepcopy, kinds)], ast.Load()))), node)
        handlers = [
            at(ast.ExceptHandler(h.type and self.visit(h.type), h.name, self.block(h.body)), h) for h in node.handlers
        ]
        body = [at(ast.With([ast.withitem(tried)], self.block(node.body)), node)]
        if handlers:
            passing = ast.ExceptHandler(ast.Attribute(name_of(AG), "NOT_CAUGHT", ast.Load()), None, [ast.Raise()])
            handlers.insert(0, at(passing, node))
        last = self.block(node.finalbody)
        if last:
            last = [at(ast.If(ast.UnaryOp(ast.Not(), call("abandoned")), last, []), node)]
        return at(ast.Try(body, handlers, self.block(node.orelse), last), node)

    def visit_TryStar(self, node: ast.TryStar) -> Any:
        """Its clauses would make groups of what ends a trace, which waits until they are done."""
        name = self._temporary()
        made = self.visit_Try(node)
        made.body[0].items.insert(0, ast.withitem(name_of(name)))
        for h in made.handlers[1:]:
            h.body = [at(ast.With([ast.withitem(name_of(name))], h.body), h)]
        tried = ast.TryStar(made.body, made.handlers[1:], made.orelse, made.finalbody)
        end = ast.Expr(ast.Call(ast.Attribute(name_of(name), "end", ast.Load()), [], []))
        return [at(set_(name, call("passing")), node), at(ast.Try([tried], [], [], [end]), node)]

    def _targeted(self, target: ast.expr) -> tuple[ast.expr, list[ast.stmt]]:
        """What Python assigns to in the place of a target with attributes or items in it, and how these get it."""
        if not places_in(target):
            return target, []
        name = self._temporary()
        return at(name_of(name, True), target), [at(ast.Assign([target], name_of(name)), target)]

    def visit_With(self, node: ast.With) -> Any:
        for k, i in enumerate(node.items):
            i.context_expr = at(call("entered", self.visit(i.context_expr)), i.context_expr)
            i.optional_vars, first = self._targeted(i.optional_vars) if i.optional_vars else (None, [])
            if first:
                more = node.items[k + 1 :]
                inner = [at(ast.With(more, node.body), node)] if more else node.body
                node.items, node.body = node.items[: k + 1], [*first, *inner]
                break
        node.body = self.block(node.body)
        return node

    def visit_Assert(self, node: ast.Assert) -> Any:
        message = lambda_of(self.visit(node.msg)) if node.msg is not None else ast.Constant(None)
        text = ast.Constant(getattr(node, "ag_text", "") or ast.unparse(node.test))
        if node.msg is not None:
            text = ast.Constant(str(node.msg.value) if isinstance(node.msg, ast.Constant) else "")
        return at(ast.Expr(call("assert_", lambda_of(self.tested(node.test)), message, text)), node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        node.value.ag_unused = True  # type: ignore[attr-defined]
        return at(ast.Expr(self.visit(node.value)), node)


def _is_simple(s: ast.stmt) -> bool:
    """Whether a statement of a class's body only sets the class's names."""
    changing = (ast.Call, ast.AugAssign, ast.Delete, ast.Import, ast.ImportFrom, ast.Nonlocal, ast.Global, ast.ClassDef)
    return not any(isinstance(n, changing) for n in ast.walk(s)) and not places_in(s)
