"""`raise` in the body of a `try` as an assignment and an exit, so that a tensor may decide whether a handler runs."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph.exits import leaves
from tracejit.autograph.names import SCOPES, TRIES
from tracejit.autograph.syntax import at, call, lambda_of, name_of, set_


def handled(s: ast.Try, fresh: Callable[[str], str]) -> list[ast.stmt]:
    """A `try` whose body raises errors: the body is a loop of one step, which such an error leaves with the number of
    its handler; that runs behind the body. All other errors are raised as they were."""
    sites = _Sites(fresh, s)
    if leaves(s.body, (ast.Break, ast.Continue)) or not (s.handlers and sites.can(s.body)):
        return [s]
    body = sites.block(s.body)
    if not sites.count:
        return [s]
    dispatch: list[ast.stmt] = list(s.orelse)
    for k, h in reversed(list(enumerate(s.handlers))):
        bound = [set_(h.name, call("caught", name_of(sites.error)))] if h.name else []
        run = [*bound, *[sites.again(copy.deepcopy(t)) for t in h.body]]
        test = ast.Compare(name_of(sites.number), [ast.Eq()], [ast.Constant(k + 1)])
        dispatch = [at(ast.If(test, run, dispatch), h)]
    loop = ast.For(name_of(fresh("once"), True), ast.Tuple([ast.Constant(0)], ast.Load()), body, [])
    first = [set_(sites.here, call("here")), set_(sites.number, ast.Constant(0))]
    first += [set_(sites.error, ast.Constant(None))] if sites.keeps else []
    made = at(ast.Try([at(loop, s)], s.handlers, dispatch, s.finalbody), s)
    return [*[at(t, s) for t in first], made]


class _Sites:
    """The `raise` statements of a body that its `try` may catch."""

    def __init__(self, fresh: Callable[[str], str], s: ast.Try) -> None:
        self.here, self.number, self.error = fresh("here"), fresh("thrown"), fresh("error")
        self.kinds: list[ast.expr] = [copy.deepcopy(h.type or name_of("BaseException")) for h in s.handlers]
        self.keeps = any(h.name or _raises_again(h.body) for h in s.handlers)
        self.count = 0

    def can(self, body: Sequence[ast.stmt]) -> bool:
        """Whether all that such errors would leave may be left by `break`."""
        for s in body:
            if isinstance(s, (ast.With, ast.AsyncWith)) and _any_raise(s.body):
                return False
            if isinstance(s, (ast.For, ast.While)) and s.orelse and _any_raise([s]):
                return False
            if not isinstance(s, SCOPES) and not all(map(self.can, _blocks(s))):
                return False
        return True

    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for s in body:
            if isinstance(s, ast.Raise) and s.exc is not None:
                self.count += 1
                out += self._thrown(s)
                return out
            if isinstance(s, TRIES):
                s.orelse = self.block(s.orelse)
            elif not isinstance(s, SCOPES):
                before = self.count
                for field in ("body", "orelse"):
                    if isinstance(getattr(s, field, None), list):
                        setattr(s, field, self.block(getattr(s, field)))
                for c in getattr(s, "cases", ()):
                    c.body = self.block(c.body)
                if self.count > before and isinstance(s, (ast.For, ast.While)):
                    out += [s, at(ast.If(name_of(self.number), [ast.Break()], []), s)]
                    continue
            out.append(s)
        return out

    def _thrown(self, s: ast.Raise) -> list[ast.stmt]:
        kinds = lambda_of(ast.Tuple(list[ast.expr](map(copy.deepcopy, self.kinds)), ast.Load()))
        assert s.exc is not None
        cause = [s.cause] if s.cause is not None else []
        made = call("thrown", s.exc, kinds, name_of(self.here), ast.Constant(self.keeps), *cause)
        names: list[ast.expr] = [name_of(n, True) for n in (self.number, *([self.error] if self.keeps else []))]
        target: Any = ast.Tuple(names, ast.Store()) if self.keeps else names[0]
        return [at(ast.Assign([target], made), s), at(ast.Break(), s)]

    def again(self, s: ast.stmt) -> ast.stmt:
        """A statement of a handler, in which `raise` alone raises what it has caught, and others tell of that."""
        if isinstance(s, ast.Raise) and s.exc is None:
            s.exc = at(call("caught", name_of(self.error)), s)
        elif isinstance(s, ast.Raise) and s.exc is not None and self.keeps:
            s.exc = at(call("meanwhile", s.exc, name_of(self.error)), s)
        elif not isinstance(s, SCOPES):
            for block in _blocks(s):
                block[:] = map(self.again, block)
        return s


def _blocks(s: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks in a statement; of a `try` the one that its handlers do not see."""
    if isinstance(s, TRIES):
        return [s.orelse]
    found = [getattr(s, f) for f in ("body", "orelse") if isinstance(getattr(s, f, None), list)]
    return [*found, *[c.body for c in getattr(s, "cases", ())]]


def _any_raise(body: Sequence[ast.AST]) -> bool:
    return any(isinstance(n, ast.Raise) for s in body for n in ast.walk(s))


def _raises_again(body: Sequence[ast.AST]) -> bool:
    return any(isinstance(n, ast.Raise) and n.exc is None for s in body for n in ast.walk(s))
