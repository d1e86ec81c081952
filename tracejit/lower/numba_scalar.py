"""The scalar protocol as Python expressions: what each operation on one element looks like in Numba source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.errors import ArgumentError, Location
from tracejit.ir.graph import Attrs
from tracejit.ir.op import Op
from tracejit.ir.types import DType, as_dtype, bool_, float32
from tracejit.lower.numba_dialect import Dialect
from tracejit.lower.numba_expr import BIG, Binds, Expr, Names, Scope, Writer, negated, operations
from tracejit.lower.numba_helpers import CALLS, HELPERS, WHOLE, helper, literal
from tracejit.passes.groups import rounds

INFIX = {
    "+": Binds.SUM, "-": Binds.SUM, "*": Binds.TERM, "/": Binds.TERM, "&": Binds.AND, "|": Binds.OR, "^": Binds.XOR,
    "<<": Binds.SHIFT, ">>": Binds.SHIFT,
}  # fmt: skip


class Helpers:
    """The functions that a module's kernels call, in the order of their first use."""

    def __init__(self, dialect: Dialect, names: Names) -> None:
        self.dialect, self.names = dialect, names
        self.known: dict[Any, str] = {}
        self.texts: list[str] = []
        self.local: Names | None = None  # of the function that is being written

    def standard(self, kind: str, dtype: DType) -> str:
        """The name of one of the functions in numba_helpers, for a type."""
        key = (kind, dtype)
        if key not in self.known:
            calls = {k: self.standard(k, dtype) for k in CALLS.get(kind, ())}
            name = self.known[key] = self._name(kind, dtype)
            self._add(helper(kind, name, dtype, self.dialect.module, calls))
        return self.known[key]

    def _name(self, kind: str, dtype: DType) -> str:
        wish = kind if kind not in self.names else f"{kind}_{dtype.short}"
        while self.local is not None and wish in self.local:
            wish = f"{wish}_of"
        return self.names.new(wish)

    def loop(
        self, state: Sequence[Expr], fixed: Sequence[Expr], going: Callable[..., Expr], step: Callable[..., Any]
    ) -> str:
        """The name of a function that repeats a step, as the protocol's `iterate` says."""
        name, names = self._name("iterate", state[0].dtype), Names(self.names)
        now = [Expr(x.dtype, names.new("s")) for x in state]
        given = [Expr(x.dtype, names.new("x")) for x in fixed]
        out = Writer()
        with out.block(f"def {name}({', '.join([g.template for g in (*now, *given)])}):"):
            with out.block("while True:"):
                scope = Scope(out, names)
                test, new = going(*now, *given), step(*now, *given)
                scope.count([test, *new])
                out.line(f"if {negated(scope.text(test))}:")
                out.line("    break")
                texts = [scope.text(x) for x in new]
                out.line(f"{', '.join([x.template for x in now])} = {', '.join(texts)}")
            out.line(f"return ({', '.join([x.template for x in now])},)")
        self._add(out.text())
        return name

    def _add(self, text: str) -> None:
        self.texts.append(f"{self.dialect.decorators['helper']}\n{text}")

    def of_body(self, op: Op, attrs: Attrs, args: tuple[Expr, ...]) -> str | None:
        """The name of a function for an op's scalar form, None if that is short enough to be written in place."""
        key = (op.name, attrs, tuple([a.dtype for a in args]))
        if key not in self.known:
            if op.name in WHOLE:
                self.known[key] = self.standard(op.name, args[0].dtype)
                return self.known[key]
            trial = Helpers(self.dialect, Names(self.names))
            given = [Expr(a.dtype, letter) for a, letter in zip(args, "abcdefgh", strict=False)]
            size = operations([_body(trial, op, attrs, given)], given)
            self.known[key] = "" if size <= BIG else self._function(op, attrs, args)
        return self.known[key] or None

    def _function(self, op: Op, attrs: Attrs, args: tuple[Expr, ...]) -> str:
        name = self._name(op.name, args[0].dtype)
        names = Names(self.names)
        given = [Expr(a.dtype, names.new(letter)) for a, letter in zip(args, "abcdefgh", strict=False)]
        result = _body(self, op, attrs, given)
        out = Writer()
        with out.block(f"def {name}({', '.join([g.template for g in given])}):"):
            if op.doc:
                out.line(f'"""{op.doc}"""')
            scope = Scope(out, names)
            scope.count([result])
            out.line(f"return {scope.text(result)}")
        self._add(out.text())
        return name


def _body(helpers: Helpers, op: Op, attrs: Attrs, args: Sequence[Expr]) -> Expr:
    assert op.scalar is not None
    out: Expr = op.scalar(NumbaScalar(helpers), *args, **dict(attrs))
    return out


class NumbaScalar:
    """Operations on Exprs. 16-bit floats are computed as float32, all other types as themselves."""

    def __init__(self, helpers: Helpers) -> None:
        self.helpers = helpers
        self.functions = helpers.dialect.functions
        self.label = ""  # of the expressions that are made
        self.line: Location | None = None

    def apply(self, op: Op, attrs: Attrs, args: tuple[Expr, ...], dtype: DType, line: Location | None) -> Expr:
        """An op of the table on these operands, with a result of `dtype`."""
        name = self.helpers.of_body(op, attrs, args)
        self.label, self.line = op.name, line
        if name is not None:
            out = self.call(name, args, dtype)
        else:
            assert op.scalar is not None
            out = op.scalar(self, *args, **dict(attrs))
        return self.rounded(out) if rounds(op, dtype) else out

    def rounded(self, x: Expr) -> Expr:
        """The nearest number that a 16-bit type has, for what has been computed with more digits."""
        if x.dtype.kind != "f" or x.dtype.bits != 16 or x.value is not None:
            return x
        return self.call(self.from_bits(x.dtype), (self.call(self.to_bits(x.dtype), (x,), x.dtype),), x.dtype)

    # --- making expressions -------------------------------------------------------------------------------------------
    def _make(self, dtype: DType, template: str, args: tuple[Expr, ...], needs: tuple[int, ...], binds: int) -> Expr:
        return Expr(dtype, template, args, needs, binds, label=self.label, line=self.line)

    def call(self, name: str, args: tuple[Expr, ...], dtype: DType) -> Expr:
        return Expr(dtype, f"{name}({', '.join(['{}'] * len(args))})", args, label=self.label, line=self.line)

    def kept(self, dtype: DType) -> str:
        return "np.float32" if dtype.kind == "f" and dtype.bits == 16 else f"np.{dtype.name}"

    def _wrapped(self, e: Expr) -> Expr:
        """Integers below 64 bits are cut to their width, since Numba computes them in 64."""
        if e.dtype.kind in "iu" and e.dtype.bits < 64:
            return self._make(e.dtype, f"{self.kept(e.dtype)}({e.template})", e.args, e.needs, Binds.ATOM)
        return e

    def _infix(self, sign: str, a: Expr, b: Expr) -> Expr:
        p = INFIX[sign]
        needs = (p, p + 1) if sign in "+-*/" else (Binds.SIGN, Binds.SIGN)  # few know how tightly the others bind
        return self._wrapped(self._make(a.dtype, f"{{}} {sign} {{}}", (a, b), needs, p))

    def _function(self, kind: str, *args: Expr, dtype: DType | None = None) -> Expr:
        d = dtype or args[0].dtype
        if kind in self.functions:
            return self.call(self.functions[kind], args, d)
        if kind not in HELPERS or kind in self.helpers.dialect.missing:
            raise ArgumentError(f"{kind} has no form in Numba's {self.helpers.dialect.name} source")
        return self.call(self.helpers.standard(kind, args[0].dtype), args, d)

    def _compare(self, sign: str, a: Expr, b: Expr) -> Expr:
        return self._make(bool_, f"{{}} {sign} {{}}", (a, b), (Binds.SUM, Binds.SUM), Binds.COMPARE)

    def const(self, value: Any, dtype: Any) -> Expr:
        d = as_dtype(dtype)
        if d.kind in "iu":
            value = int(value)
        return Expr(d, literal(value, d), value=value, cheap=True)

    def select(self, c: Expr, a: Expr, b: Expr) -> Expr:
        if a.dtype is bool_ and (made := self._short(c, a, b)) is not None:
            return made
        needs = (Binds.CHOICE + 1, Binds.CHOICE + 1, Binds.CHOICE)
        return self._make(a.dtype, "{} if {} else {}", (a, c, b), needs, Binds.CHOICE)

    def _short(self, c: Expr, a: Expr, b: Expr) -> Expr | None:
        """A choice between truth values as `and` or `or`."""
        if a is c or a.value is True:
            template, pair = "{} or {}", (c, b)
        elif b is c or b.value is False:
            template, pair = "{} and {}", (c, a)
        elif a.value is False or (a.template == "not {}" and a.args[0] is c):
            template, pair = "not {} and {}", (c, b)
        else:
            return None
        return self._make(bool_, template, pair, (Binds.NOT + 1, Binds.NOT), Binds.CHOICE)

    def cast(self, x: Expr, dtype: Any) -> Expr:
        d, s = as_dtype(dtype), x.dtype
        if d is s:
            return x
        if x.value is not None and d.kind == "f":
            return self.const(x.value, d)
        if d.kind == "b":
            return self._compare("!=", x, self.const(0, s))
        if d.kind == "f" and d.bits == 16:
            y = x if self.kept(s) == "np.float32" else self.call("np.float32", (x,), float32)
            return self.call(self.from_bits(d), (self.call(self.to_bits(d), (y,), d),), d)
        if s.kind == "f" and d.kind in "iu":
            return self.call(self.helpers.standard("saturate", d), (x,), d)
        if self.kept(s) == self.kept(d):
            return Expr(d, "{}", (x,))
        return self.call(self.kept(d), (x,), d)

    def to_bits(self, dtype: DType) -> str:
        return self.helpers.standard("float_to_half" if dtype.name == "float16" else "float_to_bfloat", dtype)

    def from_bits(self, dtype: DType) -> str:
        return self.helpers.standard("half_to_float" if dtype.name == "float16" else "bfloat_to_float", dtype)

    # --- arithmetic ---------------------------------------------------------------------------------------------------
    def add(self, a: Expr, b: Expr) -> Expr:
        return self.logical_or(a, b) if a.dtype is bool_ else self._infix("+", a, b)

    def sub(self, a: Expr, b: Expr) -> Expr:
        return self.logical_xor(a, b) if a.dtype is bool_ else self._infix("-", a, b)

    def mul(self, a: Expr, b: Expr) -> Expr:
        return self.logical_and(a, b) if a.dtype is bool_ else self._infix("*", a, b)

    def div(self, a: Expr, b: Expr) -> Expr:
        return self._infix("/", a, b)

    def fma(self, a: Expr, b: Expr, c: Expr) -> Expr:
        return self.add(self.mul(a, b), c)

    def neg(self, a: Expr) -> Expr:
        if a.dtype.kind == "u":
            return self._infix("-", self.const(0, a.dtype), a)
        return self._wrapped(self._make(a.dtype, "-{}", (a,), (Binds.SIGN,), Binds.SIGN))

    def abs(self, a: Expr) -> Expr:
        return a if a.dtype.kind in "ub" else self._wrapped(self.call("abs", (a,), a.dtype))

    def sign(self, a: Expr) -> Expr:
        if a.dtype.kind == "u":
            return self.cast(self.ne(a, self.const(0, a.dtype)), a.dtype)
        return a if a.dtype is bool_ else self._wrapped(self._function("sign", a))

    def square(self, a: Expr) -> Expr:
        return self.mul(a, a)

    def reciprocal(self, a: Expr) -> Expr:
        one = self.const(1, a.dtype)
        return self.div(one, a) if a.dtype.kind == "f" else self.truncdiv(one, a)

    def rsqrt(self, a: Expr) -> Expr:
        return self.reciprocal(self._function("sqrt", a))

    def maximum(self, a: Expr, b: Expr) -> Expr:
        return self.logical_or(a, b) if a.dtype is bool_ else self._function("maximum", a, b)

    def minimum(self, a: Expr, b: Expr) -> Expr:
        return self.logical_and(a, b) if a.dtype is bool_ else self._function("minimum", a, b)

    def pow(self, a: Expr, b: Expr) -> Expr:
        if a.dtype.kind == "f":
            return self._make(a.dtype, "{} ** {}", (a, b), (Binds.POWER + 1, Binds.SIGN), Binds.POWER)
        return self._function("power", a, b)

    def floordiv(self, a: Expr, b: Expr) -> Expr:
        return self._function("floor_divide_real" if a.dtype.kind == "f" else "floor_divide", a, b)

    def floormod(self, a: Expr, b: Expr) -> Expr:
        return self._function("floor_modulo_real" if a.dtype.kind == "f" else "floor_modulo", a, b)

    def truncdiv(self, a: Expr, b: Expr) -> Expr:
        if a.dtype.kind == "f":
            return self.trunc(self.div(a, b))
        return self._function("truncate_divide" if a.dtype.kind == "i" else "floor_divide", a, b)

    def fmod(self, a: Expr, b: Expr) -> Expr:
        if a.dtype.kind == "f":
            return self._function("fmod", a, b)
        return self._function("truncate_modulo" if a.dtype.kind == "i" else "floor_modulo", a, b)

    # --- comparisons, logic, bits -------------------------------------------------------------------------------------
    def lt(self, a: Expr, b: Expr) -> Expr:
        return self._compare("<", a, b)

    def le(self, a: Expr, b: Expr) -> Expr:
        return self._compare("<=", a, b)

    def gt(self, a: Expr, b: Expr) -> Expr:
        return self._compare(">", a, b)

    def ge(self, a: Expr, b: Expr) -> Expr:
        return self._compare(">=", a, b)

    def eq(self, a: Expr, b: Expr) -> Expr:
        return self._compare("==", a, b)

    def ne(self, a: Expr, b: Expr) -> Expr:
        return self._compare("!=", a, b)

    def bit_and(self, a: Expr, b: Expr) -> Expr:
        return self._infix("&", a, b)

    def bit_or(self, a: Expr, b: Expr) -> Expr:
        return self._infix("|", a, b)

    def bit_xor(self, a: Expr, b: Expr) -> Expr:
        return self._compare("!=", a, b) if a.dtype is bool_ else self._infix("^", a, b)

    def bit_not(self, a: Expr) -> Expr:
        if a.dtype is bool_:
            return self._make(bool_, "not {}", (a,), (Binds.NOT,), Binds.NOT)
        return self._wrapped(self._make(a.dtype, "~{}", (a,), (Binds.SIGN,), Binds.SIGN))

    def logical_and(self, a: Expr, b: Expr) -> Expr:
        return self.bit_and(self.cast(a, bool_), self.cast(b, bool_))

    def logical_or(self, a: Expr, b: Expr) -> Expr:
        return self.bit_or(self.cast(a, bool_), self.cast(b, bool_))

    def logical_xor(self, a: Expr, b: Expr) -> Expr:
        return self.bit_xor(self.cast(a, bool_), self.cast(b, bool_))

    def logical_not(self, a: Expr) -> Expr:
        return self.bit_not(self.cast(a, bool_))

    def _shift(self, sign: str, kind: str, a: Expr, b: Expr) -> Expr:
        if b.value is not None and 0 <= b.value < a.dtype.bits:
            return self._infix(sign, a, b)
        return self.call(self.helpers.standard(kind, a.dtype), (a, b), a.dtype)

    def shift_left(self, a: Expr, b: Expr) -> Expr:
        return self._shift("<<", "shift_left", a, b)

    def shift_right(self, a: Expr, b: Expr) -> Expr:
        return self._shift(">>", "shift_right", a, b)

    # --- rounding, classes, functions ---------------------------------------------------------------------------------
    def _class(self, kind: str, a: Expr, otherwise: bool) -> Expr:
        return self._function(kind, a, dtype=bool_) if a.dtype.kind == "f" else self.const(otherwise, bool_)

    def isnan(self, a: Expr) -> Expr:
        return self._class("isnan", a, False)

    def isinf(self, a: Expr) -> Expr:
        return self._class("isinf", a, False)

    def isfinite(self, a: Expr) -> Expr:
        return self._class("isfinite", a, True)

    def if_any(self, c: Expr, value: Callable[[], Expr], otherwise: Expr) -> Expr:
        return self.select(c, value(), otherwise)

    def iterate(
        self, state: Sequence[Expr], fixed: Sequence[Expr], going: Callable[..., Expr], step: Callable[..., Any]
    ) -> list[Expr]:
        """`while going(*state, *fixed): state = step(*state, *fixed)`."""
        d = state[0].dtype
        name = self.helpers.loop(state, fixed, going, step)
        done = self.call(name, (*state, *fixed), d)
        return [self._make(x.dtype, f"{{}}[{k}]", (done,), (Binds.ATOM,), Binds.ATOM) for k, x in enumerate(state)]

    def erf(self, a: Expr) -> Expr:
        return self._wide("math.erf", a)

    def erfc(self, a: Expr) -> Expr:
        return self._wide("math.erfc", a)

    def _wide(self, name: str, a: Expr) -> Expr:
        """A function of Python's math module, which gives a float64 when it is not compiled."""
        return self._make(a.dtype, f"{self.kept(a.dtype)}({name}({{}}))", (a,), (0,), Binds.ATOM)

    def _rounded(self, kind: str, a: Expr) -> Expr:
        return self._function(kind, a) if a.dtype.kind == "f" else a

    def floor(self, a: Expr) -> Expr:
        return self._rounded("floor", a)

    def ceil(self, a: Expr) -> Expr:
        return self._rounded("ceil", a)

    def trunc(self, a: Expr) -> Expr:
        return self._rounded("trunc", a)

    def round(self, a: Expr) -> Expr:
        return self._rounded("round", a)

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        """The functions whose name says everything: exp, tanh, sigmoid …"""
        if name not in PLAIN:
            raise AttributeError(name)
        return lambda *args: self._function(name, *args)

    # --- reductions ---------------------------------------------------------------------------------------------------
    def combiner(self, kind: str) -> Callable[[Expr, Expr], Expr]:
        """The two-operand function that a reduction repeats."""
        return {
            "sum": self.add, "prod": self.mul, "max": self.maximum, "min": self.minimum,
            "and": self.bit_and, "or": self.bit_or,
        }[kind]  # fmt: skip

    def neutral(self, kind: str, dtype: DType) -> Expr:
        """The value that changes nothing in a reduction of that kind."""
        low: Any = float("-inf") if dtype.kind == "f" else dtype.min
        high: Any = float("inf") if dtype.kind == "f" else dtype.max
        return self.const({"sum": 0, "prod": 1, "max": low, "min": high, "and": True, "or": 0}[kind], dtype)


PLAIN = frozenset(
    """sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh
    sigmoid softplus copysign""".split()
)
