"""A builder of LLVM IR text: typed SSA values, loops and branches with phis, one string per function."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

FLOATS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}


class Val(str):
    """The text of an SSA value or literal, with its LLVM type (`"float"`, `"<16 x float>"`, `"ptr"` …)."""

    __slots__ = ("ty",)
    ty: str

    def __new__(cls, text: str, ty: str) -> Val:
        self = str.__new__(cls, text)
        self.ty = ty
        return self


def vec(ty: str, width: int) -> str:
    """The type of `width` lanes of `ty`; one lane is the scalar type itself."""
    return ty if width == 1 else f"<{width} x {ty}>"


def elem(ty: str) -> str:
    """The lane type of a vector type; a scalar type is its own."""
    return ty[ty.index("x ") + 2 : -1] if ty[0] == "<" else ty


def lanes(ty: str) -> int:
    return int(ty[1 : ty.index(" ")]) if ty[0] == "<" else 1


def suffix(ty: str) -> str:
    """The type's mangled name in intrinsics: `<16 x float>` → `v16f32`."""
    e = elem(ty)
    short = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16", "ptr": "p0"}.get(e, e)
    return short if ty[0] != "<" else f"v{lanes(ty)}{short}"


def _bytes(ty: str) -> int:
    """The size of a scalar integer or pointer type."""
    return 8 if ty == "ptr" else int(ty[1:]) // 8


def _float_text(e: str, v: float) -> str:
    if e == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', v))[0]:04X}"
    if e == "bfloat":
        bits = struct.unpack("<I", struct.pack("<f", v))[0]
        nan = bits & 0x7FFFFFFF > 0x7F800000
        rounded = bits | 0x400000 if nan else bits + 0x7FFF + ((bits >> 16) & 1)
        return f"0xR{(rounded >> 16) & 0xFFFF:04X}"
    if e == "float":
        try:
            v = struct.unpack("<f", struct.pack("<f", v))[0]
        except OverflowError:
            v = float("inf") if v > 0 else float("-inf")
    return f"0x{struct.unpack('<Q', struct.pack('<d', v))[0]:016X}"


def const(ty: str, value: float | int | bool) -> Val:
    """A literal of type `ty`; a vector type gets it in every lane."""
    e = elem(ty)
    if e in FLOATS:
        text = _float_text(e, float(value))
    elif e == "i1":
        text = "true" if value else "false"
    elif e == "ptr":
        text = "null" if not value else f"inttoptr (i64 {int(value)} to ptr)"
    else:
        bits = int(e[1:])
        n = int(value) & ((1 << bits) - 1)
        text = str(n - (1 << bits) if n >> (bits - 1) else n)
    return Val(text if ty[0] != "<" else f"splat ({e} {text})", ty)


def i64(value: int) -> Val:
    return Val(str(int(value)), "i64")


NULL = Val("null", "ptr")


class Module:
    """Functions, globals and declarations that are compiled together."""

    def __init__(self) -> None:
        self.functions: list[Fn] = []
        self.globals: list[str] = []
        self.declarations: dict[str, str] = {}
        self.raw: list[str] = []
        self.shared: dict[Any, Fn | None] = {}  # functions that several others call, by what they do

    def function(
        self, name: str, params: Sequence[tuple[str, str]], ret: str = "void", *, internal: bool = False,
        attrs: str = "",
    ) -> Fn:  # fmt: skip
        """Open a function; `params` are (name, type) and become `fn.args`. `type` may carry attributes after it."""
        f = Fn(self, name, params, ret, internal, attrs)
        self.functions.append(f)
        return f

    def declare(self, name: str, ret: str, params: Iterable[str]) -> str:
        self.declarations.setdefault(name, f"declare {ret} @{name}({', '.join(params)})")
        return name

    def global_(self, name: str, text: str) -> Val:
        """A module-level variable: `text` is what follows `=`, e.g. `internal global i64 0`."""
        self.globals.append(f"@{name} = {text}")
        return Val(f"@{name}", "ptr")

    def text(self) -> str:
        defined = {f.name for f in self.functions}
        parts = [*self.globals, *self.raw]
        parts += [f.text() for f in self.functions]
        parts += [d for n, d in sorted(self.declarations.items()) if n not in defined]
        parts.append('attributes #0 = { nounwind "prefer-vector-width"="512" "no-trapping-math"="true" }')
        parts.append("!0 = !{}\n!1 = !{i32 1}")
        return "\n".join(parts) + "\n"


class Fn:
    """One function under construction. Pure operations are value-numbered within the scopes that dominate them."""

    def __init__(
        self, module: Module, name: str, params: Sequence[tuple[str, str]], ret: str, internal: bool, attrs: str
    ) -> None:
        self.module, self.name, self.ret = module, name, ret
        self.args = [Val(f"%{n}", t.split()[0] if t[0] != "<" else t) for n, t in params]
        self.branchless = False  # whether LLVM shall not make branches of what selects between single values
        head = ", ".join(f"{t} %{n}" for n, t in params)
        self.lines = [f"define {'internal ' if internal else ''}{ret} @{name}({head}) #0 {attrs} {{", "entry:"]
        self.allocas: list[str] = []
        self.block = "entry"
        self.count = 0
        self.scopes: list[dict[tuple[str, str], Val]] = [{}]
        self.flags = ""  # fast-math flags given to every floating operation, e.g. "contract "

    # --- text -------------------------------------------------------------------------------------------------
    def text(self) -> str:
        return "\n".join([*self.lines[:2], *self.allocas, *self.lines[2:]]) + "\n}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def fresh(self, hint: str = "v") -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def emit(self, rhs: str, ty: str) -> Val:
        """An instruction with a result that must not be shared (loads, calls with effects, phis)."""
        v = Val("%" + self.fresh(), ty)
        self.lines.append(f"  {v} = {rhs}")
        return v

    def pure(self, rhs: str, ty: str) -> Val:
        """An instruction whose result depends on its operands only: an equal one in scope is used again."""
        key = (rhs, ty)
        for s in reversed(self.scopes):
            if key in s:
                return s[key]
        v = self.emit(rhs, ty)
        self.scopes[-1][key] = v
        return v

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    # --- arithmetic -------------------------------------------------------------------------------------------
    def op(self, opcode: str, a: Val, b: Val) -> Val:
        """A two-operand instruction with operands of one type, e.g. `fadd`, `shl`, `udiv`."""
        if opcode[0] == "f":
            opcode = f"{opcode} {self.flags}".rstrip()
        return self.pure(f"{opcode} {a.ty} {a}, {b}", a.ty)

    def _arith(self, name: str, a: Val, b: Val) -> Val:
        return self.op(("f" if elem(a.ty) in FLOATS else "") + name, a, b)

    def add(self, a: Val, b: Val) -> Val:
        return self._arith("add", a, b)

    def sub(self, a: Val, b: Val) -> Val:
        return self._arith("sub", a, b)

    def mul(self, a: Val, b: Val) -> Val:
        return self._arith("mul", a, b)

    def fdiv(self, a: Val, b: Val) -> Val:
        return self.op("fdiv", a, b)

    def fneg(self, a: Val) -> Val:
        return self.pure(f"fneg {a.ty} {a}", a.ty)

    def and_(self, a: Val, b: Val) -> Val:
        return self.op("and", a, b)

    def or_(self, a: Val, b: Val) -> Val:
        return self.op("or", a, b)

    def xor(self, a: Val, b: Val) -> Val:
        return self.op("xor", a, b)

    def not_(self, a: Val) -> Val:
        return self.op("xor", a, const(a.ty, -1) if elem(a.ty) != "i1" else const(a.ty, True))

    def cmp(self, pred: str, a: Val, b: Val) -> Val:
        """Compare: `pred` is LLVM's (`slt`, `ult`, `eq`, … for integers and pointers; `olt`, `une`, … for floats)."""
        kind = "fcmp" if elem(a.ty) in FLOATS else "icmp"
        return self.pure(f"{kind} {pred} {a.ty} {a}, {b}", vec("i1", lanes(a.ty)))

    def select(self, c: Val, a: Val, b: Val) -> Val:
        hint = ", !unpredictable !0" if self.branchless and c.ty == "i1" else ""
        return a if a == b else self.pure(f"select {c.ty} {c}, {a.ty} {a}, {b.ty} {b}{hint}", a.ty)

    def cast(self, opcode: str, a: Val, ty: str) -> Val:
        """A conversion instruction (`bitcast`, `fpext`, `sitofp`, `zext`, …) to `ty`."""
        return a if a.ty == ty else self.pure(f"{opcode} {a.ty} {a} to {ty}", ty)

    def bits(self, a: Val) -> Val:
        """The integer with a float's bits."""
        return self.cast("bitcast", a, vec(f"i{FLOATS[elem(a.ty)]}", lanes(a.ty)))

    def intrinsic(self, name: str, *a: Val, ty: str | None = None) -> Val:
        """`llvm.<name>` overloaded on the first operand's type; all operands of that type, result `ty` or the same."""
        full = f"llvm.{name}.{suffix(a[0].ty)}"
        ret = ty or a[0].ty
        self.module.declare(full, ret, [x.ty for x in a])
        flags = self.flags if elem(ret) in FLOATS else ""
        return self.pure(f"call {flags}{ret} @{full}({', '.join(f'{x.ty} {x}' for x in a)})", ret)

    def fma(self, a: Val, b: Val, c: Val) -> Val:
        return self.intrinsic("fma", a, b, c)

    # --- lanes ------------------------------------------------------------------------------------------------
    def splat(self, a: Val, width: int) -> Val:
        """A scalar in every lane. Literals and already wide values are taken as they are."""
        if width == 1 or a.ty[0] == "<":
            return a
        ty = vec(a.ty, width)
        if a[0] not in "%@":
            return Val("zeroinitializer", ty) if a in ("null", "zeroinitializer") else Val(f"splat ({a.ty} {a})", ty)
        t = self.pure(f"insertelement {ty} poison, {a.ty} {a}, i32 0", ty)
        return self.pure(f"shufflevector {ty} {t}, {ty} poison, <{width} x i32> zeroinitializer", ty)

    def extract(self, a: Val, lane: int) -> Val:
        return a if a.ty[0] != "<" else self.pure(f"extractelement {a.ty} {a}, i32 {lane}", elem(a.ty))

    def shuffle(self, a: Val, b: Val, index: Sequence[int]) -> Val:
        n = len(index)
        idx = ", ".join(f"i32 {i}" for i in index)
        return self.pure(f"shufflevector {a.ty} {a}, {b.ty} {b}, <{n} x i32> <{idx}>", vec(elem(a.ty), n))

    def iota(self, ty: str) -> Val:
        """0, 1, 2 … in the lanes of an integer vector type."""
        if ty[0] != "<":
            return const(ty, 0)
        return Val("<" + ", ".join(f"{elem(ty)} {i}" for i in range(lanes(ty))) + ">", ty)

    def mask(self, count: Val, width: int) -> Val:
        """True in the first `count` (i64) lanes."""
        n = self.cast("trunc", self.intrinsic("smin", count, i64(width)), "i32")
        return self.cmp("ult", self.iota(vec("i32", width)), self.splat(n, width))

    # --- memory -----------------------------------------------------------------------------------------------
    def gep(self, p: Val, index: Val | int, ty: str = "i8") -> Val:
        """`p + index` elements of `ty` (bytes by default)."""
        i = index if isinstance(index, Val) else i64(index)
        return p if i == "0" else self.pure(f"getelementptr inbounds {ty}, ptr {p}, {i.ty} {i}", "ptr")

    def load(self, ty: str, p: Val, align: int | None = None, invariant: bool = False) -> Val:
        rhs = f"load {ty}, ptr {p}{f', align {align}' if align else ''}{', !invariant.load !0' if invariant else ''}"
        return self.pure(rhs, ty) if invariant else self.emit(rhs, ty)

    def store(self, v: Val, p: Val, align: int | None = None, nontemporal: bool = False) -> None:
        tail = (f", align {align}" if align else "") + (", !nontemporal !1" if nontemporal else "")
        self.line(f"store {v.ty} {v}, ptr {p}{tail}")

    def masked_load(self, ty: str, p: Val, mask: Val, align: int, other: Val | None = None) -> Val:
        name = f"llvm.masked.load.{suffix(ty)}.p0"
        # the alignment as an operand: the form of older LLVMs, which newer ones read too
        self.module.declare(name, ty, ["ptr", "i32 immarg", mask.ty, ty])
        return self.emit(
            f"call {ty} @{name}(ptr {p}, i32 {align}, {mask.ty} {mask}, {ty} {other or 'zeroinitializer'})", ty
        )

    def masked_store(self, v: Val, p: Val, mask: Val, align: int) -> None:
        name = f"llvm.masked.store.{suffix(v.ty)}.p0"
        self.module.declare(name, "void", [v.ty, "ptr", "i32 immarg", mask.ty])
        self.line(f"call void @{name}({v.ty} {v}, ptr {p}, i32 {align}, {mask.ty} {mask})")

    def atomic_load(self, ty: str, p: Val, order: str = "acquire") -> Val:
        return self.emit(f"load atomic {ty}, ptr {p} {order}, align {_bytes(ty)}", ty)

    def atomic_store(self, v: Val, p: Val, order: str = "release") -> None:
        self.line(f"store atomic {v.ty} {v}, ptr {p} {order}, align {_bytes(v.ty)}")

    def atomic_rmw(self, op: str, p: Val, v: Val, order: str = "acq_rel") -> Val:
        """`*p = *p op v` in one step (`add`, `sub`, `xchg` …); the result is what was there before."""
        return self.emit(f"atomicrmw {op} ptr {p}, {v.ty} {v} {order}", v.ty)

    def cas(self, p: Val, expected: Val, new: Val, order: str = "acq_rel acquire") -> Val:
        """Store `new` if `expected` is there; the result (i1) says whether it was."""
        pair = f"{{ {new.ty}, i1 }}"
        both = self.emit(f"cmpxchg ptr {p}, {new.ty} {expected}, {new.ty} {new} {order}", pair)
        return self.emit(f"extractvalue {pair} {both}, 1", "i1")

    def alloca(self, size: int, align: int = 64) -> Val:
        """Bytes on the stack, taken once at the function's entry."""
        v = Val("%" + self.fresh("buf"), "ptr")
        self.allocas.append(f"  {v} = alloca [{size} x i8], align {align}")
        return v

    # --- calls and control ------------------------------------------------------------------------------------
    def call(self, target: str | Val, args: Sequence[Val], ret: str = "void", declare: bool = False) -> Val:
        """Call a function by name (declared in the module if asked) or by pointer."""
        if isinstance(target, Val):
            callee = str(target)
        else:
            if declare:
                self.module.declare(target, ret, [a.ty for a in args])
            callee = f"@{target}"
        text = f"call {ret} {callee}({', '.join(f'{a.ty} {a}' for a in args)})"
        if ret == "void":
            self.line(text)
            return Val("", "void")
        return self.emit(text, ret)

    def br(self, name: str) -> None:
        self.line(f"br label %{name}")

    def br_if(self, c: Val, yes: str, no: str) -> None:
        self.line(f"br i1 {c}, label %{yes}, label %{no}")

    def ret_(self, v: Val | None = None) -> None:
        self.line("ret void" if v is None else f"ret {v.ty} {v}")

    def loop(
        self,
        lo: Val | int,
        hi: Val | int,
        body: Callable[..., Sequence[Val] | None],
        init: Sequence[Val] = (),
        step: Val | int = 1,
        nonempty: bool = False,
    ) -> list[Val]:
        """`for i in range(lo, hi, step): carried = body(i, *carried)`; returns the carried values after the loop."""
        lo, hi, step = (x if isinstance(x, Val) else i64(x) for x in (lo, hi, step))
        top, done = self.fresh("loop"), self.fresh("done")
        before = self.block
        if nonempty:
            self.br(top)
        else:
            self.br_if(self.cmp("slt", lo, hi), top, done)
        self.label(top)
        i = Val("%" + self.fresh("i"), "i64")
        carried = [Val("%" + self.fresh("c"), v.ty) for v in init]
        at = len(self.lines)
        self.scopes.append({})
        out = list(body(i, *carried) or ())
        if len(out) != len(init):
            raise ValueError(f"{self.name}: the loop body returned {len(out)} values for {len(init)} carried ones")
        nxt = self.emit(f"add nsw i64 {i}, {step}", "i64")
        more = self.emit(f"icmp slt i64 {nxt}, {hi}", "i1")
        latch = self.block
        phis = [f"  {i} = phi i64 [ {lo}, %{before} ], [ {nxt}, %{latch} ]"]
        phis += [
            f"  {c} = phi {c.ty} [ {a}, %{before} ], [ {o}, %{latch} ]"
            for c, a, o in zip(carried, init, out, strict=True)
        ]
        self.lines[at:at] = phis
        self.br_if(more, top, done)
        self.scopes.pop()
        self.label(done)
        if nonempty:
            return out
        return [
            self.emit(f"phi {a.ty} [ {a}, %{before} ], [ {o}, %{latch} ]", a.ty) for a, o in zip(init, out, strict=True)
        ]

    def while_(
        self, init: Sequence[Val], test: Callable[..., Val], body: Callable[..., Sequence[Val]]
    ) -> list[Val]:
        """`while test(*carried): carried = body(*carried)`."""
        head, top, done = self.fresh("head"), self.fresh("body"), self.fresh("done")
        before = self.block
        self.br(head)
        self.label(head)
        carried = [Val("%" + self.fresh("c"), v.ty) for v in init]
        at = len(self.lines)
        self.scopes.append({})
        c = test(*carried)
        self.br_if(c, top, done)
        self.label(top)
        self.scopes.append({})
        out = list(body(*carried))
        latch = self.block
        self.br(head)
        self.lines[at:at] = [
            f"  {k} = phi {k.ty} [ {a}, %{before} ], [ {o}, %{latch} ]"
            for k, a, o in zip(carried, init, out, strict=True)
        ]
        self.scopes.pop()
        self.scopes.pop()
        self.label(done)
        return carried

    def if_(
        self,
        c: Val,
        then: Callable[[], Sequence[Val] | None],
        orelse: Callable[[], Sequence[Val] | None] | None = None,
    ) -> list[Val]:
        """Both branches return the same number of values; the result is what the taken one returned.

        A branch that ends in `ret_` must be written with `guard` instead.
        """
        yes, no, done = self.fresh("then"), self.fresh("else"), self.fresh("end")
        self.br_if(c, yes, no)
        ends, outs = [], []
        for name, f in ((yes, then), (no, orelse)):
            self.label(name)
            self.scopes.append({})
            outs.append(list((f() if f else None) or ()))
            self.scopes.pop()
            ends.append(self.block)
            self.br(done)
        self.label(done)
        return [
            self.emit(f"phi {a.ty} [ {a}, %{ends[0]} ], [ {b}, %{ends[1]} ]", a.ty) for a, b in zip(*outs, strict=True)
        ]

    def guard(self, ok: Val, failure: str) -> None:
        """Go on if `ok`, else jump to the block `failure` (which the caller emits later with `label`)."""
        go = self.fresh("ok")
        self.br_if(ok, go, failure)
        self.label(go)
