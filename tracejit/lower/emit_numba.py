"""Kernel → readable Numba source: rows in parallel, plain loops, expressions as a person would write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tracejit.errors import Location
from tracejit.ir.graph import Value
from tracejit.ir.types import DType, int64
from tracejit.lower.keptrows import kept_values
from tracejit.lower.kernel import FULL, ROW, SCALAR, Access, Instance, Kernel, Late, Stmt, Stride
from tracejit.lower.numba_access import Placement, Size, place, place_parts, same
from tracejit.lower.numba_args import Arguments, Setting, Written
from tracejit.lower.numba_chunks import LABELS, Chunks, line_of
from tracejit.lower.numba_expr import Binds, Expr, Names, Scope, Writer
from tracejit.lower.numba_scalar import NumbaScalar
from tracejit.passes.groups import rounds

LETTERS = ("i", "j", "k", "l")
PARTS = {None: "", 0: ".real", 1: ".imag"}
SPARE = ("m", "p", "r", "s", "t")  # loop indices where the user has arrays of those names


class KernelPrinter:
    """Writes one kernel. `at` maps the kernel's axes to those of the loops around, for the epilogues of products."""

    def __init__(
        self, setting: Setting, instance: Instance | None, sizes: Sequence[Size], at: Sequence[int],
        loops: Sequence[str],
    ) -> None:  # fmt: skip
        self.s, self.sizes, self.at = setting, list(sizes), list(at)
        self.instance = instance
        self.k = instance.kernel if instance else Kernel()
        self.names = Names(setting.helpers.names)
        setting.helpers.local = self.names
        self.args = Arguments(setting, self.names, self.sizes)
        self.m = NumbaScalar(setting.helpers)
        self.out = Writer(1)
        self.top = Scope(self.out, self.names, None, setting.comment)
        self.row = self.top
        self.env: dict[int, Expr] = {}
        self.placements: dict[int, Placement] = {}
        self.buffers: dict[int, str] = {}  # row buffers of values that a later phase needs again
        self.live = self._live()
        self.kept = self._kept()
        self.place_operands()
        self.loops = [self._loop(x) for x in loops]

    def _loop(self, wish: str) -> str:
        """The name of a loop index; operands keep the user's names."""
        return self.names.new(next((x for x in (wish, *SPARE) if x not in self.names), wish))

    def place_operands(self) -> None:
        """Make arguments of the buffers that are read and written."""
        for s in self.k.stmts:
            if s.kind == "load" and s.id in self.live:
                self._place(s.access, False)
            elif s.kind == "gather" and s.id in self.live:
                self._place_gather(s)
        for _, a in self.k.stores:
            self._place(a, True)

    # --- what is needed -----------------------------------------------------------------------------------------------
    def _live(self) -> set[int]:
        stack = [i for i, _ in self.k.stores] + [x.stmt for x in self.k.lates]
        seen: set[int] = set()
        while stack:
            i = stack.pop()
            if i not in seen:
                seen.add(i)
                stack += self.k.stmts[i].args
        return seen

    def _roots(self, phase: int) -> list[int]:
        """Statements that the loop of a phase computes for its reductions and stores."""
        k = self.k
        ids = [s.args[0] for s in self.reductions(phase)] + [i for i, _ in self.stores(phase)]
        return ids + [x.stmt for x in k.lates if x.over != "outer" and k.stmts[x.stmt].phase == phase]

    def _visited(self, phase: int, kept: Iterable[int]) -> set[int]:
        """Full statements that the loop of a phase computes."""
        seen: set[int] = set()
        stack = self._roots(phase)
        while stack:
            s = self.k.stmts[stack.pop()]
            if s.level == FULL and s.id not in seen and not (s.id in kept and s.phase < phase):
                seen.add(s.id)
                stack += s.args
        return seen

    def _kept(self) -> set[int]:
        """Heavy values that one phase computes and a later one reads again."""
        k = self.k
        inner = len(k.axes) - k.outer
        if not k.keep or k.phases() == 0 or inner != 1 or not self.s.dialect.row_buffers:
            return set()
        wanted = {s.id for s in kept_values(k)}
        return {i for i in wanted if i in self._visited(k.stmts[i].phase, wanted)}

    def reductions(self, phase: int) -> list[Stmt]:
        return [s for s in self.k.stmts if s.kind == "reduce" and s.phase == phase + 1 and s.id in self.live]

    def stores(self, phase: int) -> list[tuple[int, Access]]:
        k = self.k
        return [(i, a) for i, a in k.stores if self.store_level(a) == FULL and k.stmts[i].phase == phase]

    def store_level(self, a: Access) -> int:
        if any(s != Stride.ZERO for s in a.strides[self.k.outer :]):
            return FULL
        rows = self.k.outer or any(s.level == ROW for s in self.k.stmts)
        return ROW if rows or any(s != Stride.ZERO for s in a.strides) else SCALAR

    # --- operands -----------------------------------------------------------------------------------------------------
    def _size_of(self, code: int) -> Size:
        assert self.instance is not None
        known = {Stride.ZERO: 0, Stride.UNIT: 1, Stride.PAIR: 2}
        return known[code] if code in known else self.instance.operands[code]

    def spread(self, strides: Sequence[Size]) -> list[Size]:
        """Strides along the kernel's axes as strides along all loops."""
        out: list[Size] = [0] * len(self.sizes)
        for a, s in zip(self.at, strides, strict=True):
            out[a] = s
        return out

    def _place(self, a: Access | None, output: bool) -> None:
        assert a is not None and self.instance is not None
        v = self.instance.operands[a.operand]
        put = place_parts if v.dtype.kind == "c" else place
        p = put(v.shape, self.sizes, self.spread([self._size_of(s) for s in a.strides]), self._size_of(a.offset))
        self.placements[id(a)] = p
        self.args.add(v, p, output)

    def _place_gather(self, s: Stmt) -> None:
        """The position that is data stands for one more loop, over the axis that it picks from."""
        assert s.access is not None and self.instance is not None
        step, size = s.value
        v = self.instance.operands[s.access.operand]
        sizes = [*self.sizes, self._size_of(size)]
        strides = [*self.spread([self._size_of(x) for x in s.access.strides]), self._size_of(step)]
        put = place_parts if v.dtype.kind == "c" else place
        p = self.placements[id(s.access)] = put(v.shape, sizes, strides, self._size_of(s.access.offset))
        self.args.add(v, p)

    def gather(self, s: Stmt, at: Expr) -> Expr:
        """An element at a position that is data."""
        assert s.access is not None and self.instance is not None
        v, p = self.instance.operands[s.access.operand], self.placements[id(s.access)]
        line = s.source.loc if s.source else None
        n = Expr(int64, self.args.size(self._size_of(s.value[1])))
        self.m.label, self.m.line = "position", line
        i = self.m.call(self.s.helpers.standard("position", int64), (at, n), int64)
        loops = [*self.loops, "{}"]
        text = f"{self.args.add(v, p)}{p.text(lambda a: loops[a], self.args.size)}{PARTS[s.access.part]}"
        args = (i,) if "{}" in text else ()
        if v.dtype.kind == "f" and v.dtype.bits == 16:
            text = f"{self.m.from_bits(v.dtype)}({text})"
        return Expr(v.dtype, text, args, label="gather", line=line)

    def element(self, v: Value, p: Placement) -> str:
        """An element of a buffer at the loop indices."""
        return self.args.add(v, p) + p.text(lambda a: self.loops[a], self.args.size)

    def load(self, v: Value, p: Placement, part: int | None = None, dtype: DType | None = None) -> Expr:
        """An element's value, or that of a part of it, which has `dtype`."""
        if self.s.number(v) and not p.shape:
            return Expr(dtype or v.dtype, self.args.add(v, p) + PARTS[part])
        name = self.args.add(v, p)
        indices = "_".join([i.text(lambda a: self.loops[a], self.args.size) for i in p.indices])
        label = f"{name}_{indices or 'value'}{PARTS[part].replace('.', '_')}"
        e = Expr(dtype or v.dtype, self.element(v, p) + PARTS[part], label=label)
        if v.dtype.kind == "f" and v.dtype.bits == 16:
            return Expr(v.dtype, f"{self.m.from_bits(v.dtype)}({{}})", (e,), label=e.label)
        return e

    def stored(self, e: Expr, scope: Scope) -> str:
        """The text of a value as it is written to memory."""
        if e.dtype.kind == "f" and e.dtype.bits == 16:
            bits = f"{self.m.to_bits(e.dtype)}({{}})"
            if e.args and e.args[0].template == bits and scope.find(e) is None and scope.uses[e] <= 1:
                e = e.args[0]  # rounded already
            else:
                e = Expr(e.dtype, bits, (e,), line=e.line)
        text = scope.text(e)
        scope.at(e.line)
        return text

    def position(self, s: Stmt) -> Expr:
        """The value of a position: an iota's, or what an op makes of the linear index."""
        assert s.access is not None and s.op is not None
        strides = self.spread([self._size_of(c) for c in s.access.strides])
        parts = [
            self.loops[a] if same(d, 1) else f"{self.loops[a]} * {self.args.size(d)}"
            for a, d in enumerate(strides) if not same(d, 0)
        ]  # fmt: skip
        text = " + ".join(parts) or "0"
        line = s.source.loc if s.source else None
        at = Expr(int64, f"np.int64({text})", label="position", line=line)
        if s.op.scalar is not None:
            return self.m.apply(s.op, s.attrs, (at,), s.dtype, line)
        self.m.label, self.m.line = "position", line
        plain = Expr(int64, text, binds=Binds.SUM)
        return at if s.dtype is int64 else self.m.call(self.m.kept(s.dtype), (plain,), s.dtype)

    # --- statements ---------------------------------------------------------------------------------------------------
    def value(self, s: Stmt, get: Callable[[int], Expr]) -> Expr:
        if s.kind == "const":
            return self.m.const(s.value, s.dtype)
        if s.kind == "load":
            assert s.access is not None and self.instance is not None
            return self.load(
                self.instance.operands[s.access.operand], self.placements[id(s.access)], s.access.part, s.dtype
            )
        if s.kind == "index":
            return self.position(s)
        if s.kind == "gather":
            return self.gather(s, get(s.args[0]))
        assert s.op is not None
        line = s.source.loc if s.source else None
        args = tuple([get(a) for a in s.args])
        if s.dtype.kind == "c":
            return Expr(s.dtype, "complex({}, {})", args, line=line)
        e = self.m.apply(s.op, s.attrs, args, s.dtype, line)
        if e not in args and (wish := self._wish(s)):
            e.label = wish
        return e

    def _wish(self, s: Stmt) -> str | None:
        """What a statement's value is called: as the user does, or by what it means."""
        if s.source is not None and s.source.out in self.s.wishes:
            return self.s.wishes[s.source.out]
        totals = [a for a in s.args if self.k.stmts[a].kind == "reduce" and self.k.stmts[a].value == "sum"]
        mean = s.op is not None and s.op.name == "div" and s.args[:1] == tuple(totals)
        return "mean" if mean and self.k.stmts[s.args[1]].kind == "const" else None

    def outer_values(self) -> None:
        """Expressions for all that is computed once, or once per row."""
        for s in self.k.stmts:
            if s.id not in self.live or s.level == FULL:
                continue
            if s.kind == "reduce":
                self.env[s.id] = Expr(s.dtype, self.names.new(LABELS[s.value]))
            else:
                self.env[s.id] = self.value(s, self.env.__getitem__)

    def deeper(self, level: int, phase: int | None = None) -> list[Expr]:
        """Values of a level that are read further inside, so that they need names before."""
        k = self.k
        users: dict[int, int] = {}
        for s in k.stmts:
            if s.id in self.live:
                for a in s.args:
                    users[a] = max(users.get(a, 0), FULL if s.kind == "reduce" else s.level)
        for i, to in k.stores:
            users[i] = max(users.get(i, 0), self.store_level(to))
        for x in k.lates:
            users[x.stmt] = max(users.get(x.stmt, 0), ROW if x.over == "outer" else FULL)
        mine = [s for s in k.stmts if s.id in self.live and s.level == level and users.get(s.id, 0) > level]
        return [self.env[s.id] for s in mine if phase is None or s.phase == phase]

    def name_outer(self, scope: Scope, level: int, phase: int | None = None) -> None:
        for e in self.deeper(level, phase):
            if not e.cheap:
                scope.name(e)

    def update(self, scope: Scope, name: str, kind: str, value: Expr, line: Location | None = None) -> None:
        """`name` combined with one more value."""
        self.m.label, self.m.line = name, line
        e = self.m.combiner(kind)(Expr(value.dtype, name), value)
        if e.template in ("{} + {}", "{} * {}", "{} & {}", "{} | {}"):
            text = scope.text(value, 0, e)
            scope.at(line or value.line)
            self.out.line(f"{name} {e.template[3]}= {text}")
        else:
            text = scope.text(e)
            scope.at(line or value.line)
            self.out.line(f"{name} = {text}")

    # --- inner loops --------------------------------------------------------------------------------------------------
    def full(self, sid: int, memo: dict[int, Expr], phase: int) -> Expr:
        """A statement's value within the loop of a phase."""
        if sid in memo:
            return memo[sid]
        s = self.k.stmts[sid]
        if s.level < FULL:
            return self.env[sid]
        if sid in self.kept and s.phase < phase:
            memo[sid] = Expr(s.dtype, f"{self.buffers[sid]}[{self.loops[self.at[-1]]}]", cheap=True)
        else:
            memo[sid] = self.value(s, lambda a: self.full(a, memo, phase))
        return memo[sid]

    def body(
        self, phase: int, accs: dict[int, str], columns: dict[int, str], memo: dict[int, Expr] | None = None
    ) -> None:
        """What one element does: reductions, late ones too, and stores."""
        k = self.k
        scope = Scope(self.out, self.names, self.row)
        memo = {} if memo is None else memo
        roots = [self.full(i, memo, phase) for i in self._roots(phase)]
        held = [i for i in self.kept if k.stmts[i].phase == phase and i in memo]
        scope.count([*roots, *[memo[i] for i in held]])
        for i in sorted(held):
            e = memo[i]
            text = scope.own(e)
            scope.at(e.line)
            scope.known[e] = f"{self.buffers[i]}[{self.loops[self.at[-1]]}]"
            self.out.line(f"{scope.known[e]} = {text}")
        for s in self.reductions(phase):
            line = s.source.loc if s.source else None
            self.update(scope, self.env[s.id].template, s.value, self.full(s.args[0], memo, phase), line)
        for x in self.lates(phase, "rows"):
            self.update(scope, accs[x.partial], x.kind, self.full(x.stmt, memo, phase), line_of(x))
        for x in self.lates(phase, "columns"):
            self.update(scope, columns[x.partial], x.kind, self.full(x.stmt, memo, phase), line_of(x))
        for i, to in self.stores(phase):
            self.write(to, self.full(i, memo, phase), scope)

    def write(self, a: Access, e: Expr, scope: Scope) -> None:
        assert self.instance is not None
        text = self.stored(e, scope)
        self.out.line(f"{self.element(self.instance.operands[a.operand], self.placements[id(a)])} = {text}")

    def lates(self, phase: int, over: str) -> list[Late]:
        return [x for x in self.k.lates if x.over == over and self.k.stmts[x.stmt].phase == phase]

    @contextmanager
    def nest(self, axes: Iterable[int]) -> Iterator[None]:
        """Plain loops over axes."""
        with ExitStack() as stack:
            for a in axes:
                stack.enter_context(self.out.block(f"for {self.loops[a]} in range({self.args.counts[a]}):"))
            yield

    # --- rows ---------------------------------------------------------------------------------------------------------
    def one_row(self, accs: dict[int, str], columns: dict[int, str]) -> None:
        """All phases of one row. `accs` and `columns`: what late reductions are collected in."""
        k = self.k
        self.row = Scope(self.out, self.names, self.top)
        ends = [(i, a) for i, a in k.stores if self.store_level(a) == ROW]
        outer = [x for x in k.lates if x.over == "outer"]
        self.row.count([*self.deeper(ROW), *[self.env[i] for i, _ in ends], *[self.env[x.stmt] for x in outer]])
        for i in sorted(self.kept):
            s = k.stmts[i]
            self.buffers[i] = self.names.new(f"{s.op.name}_row" if s.op else "row")
            self.out.line(f"{self.buffers[i]} = np.empty({self.args.counts[-1]}, {self.m.kept(s.dtype)})")
        for phase in range(k.phases() + 1):
            self.name_outer(self.row, ROW, phase)
            if not self._roots(phase):
                continue
            for s in self.reductions(phase):
                self.row.at(s.source.loc if s.source else None)
                self.out.line(f"{self.env[s.id].template} = {self.m.neutral(s.value, s.dtype).template}")
            with self.nest(self.at[k.outer :]):
                self.body(phase, accs, columns)
            for s in self.reductions(phase):
                if s.op is not None and rounds(s.op, s.dtype):
                    whole = self.m.rounded(Expr(s.dtype, self.env[s.id].template))
                    self.out.line(f"{self.env[s.id].template} = {self.row.text(whole)}")
        for x in outer:
            self.update(self.row, accs[x.partial], x.kind, self.env[x.stmt], line_of(x))
        for i, a in ends:
            self.write(a, self.env[i], self.row)
        self.row = self.top

    # --- the function -------------------------------------------------------------------------------------------------
    def run(self) -> Written:
        """A loop nest as a function."""
        k = self.k
        for x in k.lates:
            self._place_late(x)
        self.args.open(self.out, size_names(len(self.sizes)))
        self.outer_values()
        alone = [(i, a) for i, a in k.stores if self.store_level(a) == SCALAR]
        self.top.count([*self.deeper(SCALAR), *[self.env[i] for i, _ in alone]])
        self.name_outer(self.top, SCALAR)
        for i, a in alone:
            self.write(a, self.env[i], self.top)
        if not k.axes and not any(s.level == ROW for s in k.stmts):
            for x in k.lates:
                self.finish(x, self.env[x.stmt])
        elif k.lates:
            Chunks(self).run()
        elif k.flat:
            with self.s.dialect.tasks(self.out, self.loops[0], self.args.counts[0]):
                self.body(0, {}, {})
        elif k.outer == 0:
            self.one_row({}, {})
        else:
            with self.s.dialect.tasks(self.out, self.loops[0], self.args.counts[0]), self.nest(range(1, k.outer)):
                self.one_row({}, {})
        return self.written()

    def written(self) -> Written:
        self.s.helpers.local = None
        return Written(self.out.text(), self.args.list())

    def _place_late(self, x: Late) -> None:
        inner = range(self.k.outer, len(self.k.axes)) if x.over == "columns" else ()
        strides: list[Size] = [0] * len(self.sizes)
        n: Size = 1
        for a in reversed(inner):
            strides[a], n = n, n * self.sizes[a]
        self.placements[id(x)] = place(x.out.shape, self.sizes, strides, 0)
        self.args.add(x.out, self.placements[id(x)], True)

    def finish(self, x: Late, e: Expr) -> None:
        text = self.stored(e, self.top)
        self.out.line(f"{self.element(x.out, self.placements[id(x)])} = {text}")


def loop_names(n: int) -> list[str]:
    return list(LETTERS[:n]) if n <= len(LETTERS) else [f"i{a}" for a in range(n)]


def size_names(n: int) -> list[str]:
    return {0: [], 1: ["n"], 2: ["rows", "columns"]}.get(n) or [f"n{a}" for a in range(n)]


def emit(setting: Setting, instance: Instance) -> Written:
    """The text of a loop nest's function."""
    n = len(instance.domain)
    return KernelPrinter(setting, instance, instance.domain, range(n), loop_names(n)).run()
