"""Random programs as Python source: what they compute is compared in several ways of running them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import tracejit as tj

MAX_RANK, MAX_SIZE = 4, 400


@dataclass(frozen=True)
class Batch:
    """The size a·B + c, where B is a different number in each call."""

    a: int
    c: int = 0

    def at(self, b: int) -> int:
        return self.a * b + self.c

    def __str__(self) -> str:
        left = "B" if self.a == 1 else f"{self.a} * B"
        return left if not self.c else f"{left} {'-' if self.c < 0 else '+'} {abs(self.c)}"


Size = int | Batch


class Val(NamedTuple):
    """A value of the program. `exact`: it has the same bits however the program runs, so that it may be compared."""

    name: str
    dtype: str
    shape: tuple[Size, ...]
    exact: bool


def show(shape: tuple[Size, ...]) -> str:
    return "(" + "".join(f"{d}, " for d in shape) + ")"


def count(shape: tuple[Size, ...]) -> tuple[int, int]:
    """Elements as (known factor, number of batch sizes)."""
    n, batches = 1, 0
    for d in shape:
        if isinstance(d, Batch):
            batches += 1
        else:
            n *= d
    return n, batches


def broadcast(a: tuple[Size, ...], b: tuple[Size, ...]) -> tuple[Size, ...] | None:
    out: list[Size] = []
    for i in range(max(len(a), len(b))):
        x = a[len(a) - 1 - i] if i < len(a) else 1
        y = b[len(b) - 1 - i] if i < len(b) else 1
        if x != y and x != 1 and y != 1:
            return None
        out.append(y if x == 1 else x)
    return tuple(reversed(out))


SMOOTH = (
    "tj.tanh({})", "tj.sigmoid({})", "tj.sin({})", "tj.cos({})", "tj.exp(tj.minimum({}, 3.0))", "tj.square({}) * 0.125",
    "tj.sqrt(tj.abs({}) + 1.0)", "tj.math.log1p(tj.abs({}))", "tj.nn.relu({})", "tj.nn.softplus({})", "-{}",
    "tj.abs({})",
    "{} * 0.5 + 1.0", "tj.math.erf({})", "tj.nn.gelu({})", "tj.nn.silu({})", "1.0 - {}",
    "tj.clip_by_value({}, -1.5, 1.5)",
    "tj.math.expm1(tj.minimum({}, 2.0))", "tj.nn.leaky_relu({})", "tj.math.rsqrt(tj.square({}) + 1.0)",
    "tj.stop_gradient({})",
    "tj.identity({})", "tj.atan({})",
)  # fmt: skip
KEEPS_BITS = ("-{}", "tj.abs({})", "tj.identity({})", "tj.nn.relu({})", "tj.stop_gradient({})")
FLOAT_PAIRS = (
    "{} + {}", "{} - {}", "{} * {}", "{} / (1.0 + tj.square({}))", "tj.maximum({}, {})", "tj.minimum({}, {})",
    "tj.atan2({}, 2.0 + tj.abs({}))", "tj.math.squared_difference({}, {})",
)  # fmt: skip
INT_UNARY = (
    "-{}",
    "tj.abs({})",
    "{} + 3",
    "{} * 5",
    "{} // 3",
    "{} % 7",
    "~{}",
    "{} >> 1",
    "{} << 2",
    "tj.sign({})",
    "tj.square({})",
)
INT_PAIRS = (
    "{} + {}", "{} - {}", "{} * {}", "tj.maximum({}, {})", "tj.minimum({}, {})", "{} & {}", "{} | {}", "{} ^ {}",
    "{} // (tj.abs({}) % 11 + 1)", "{} % (tj.abs({}) % 5 + 1)",
)  # fmt: skip
COMPARISONS = ("{} < {}", "{} <= {}", "{} > {}", "{} >= {}", "tj.equal({}, {})", "tj.not_equal({}, {})")
BOOL_PAIRS = ("tj.logical_and({}, {})", "tj.logical_or({}, {})", "tj.not_equal({}, {})")
FLOATS = ("float32", "float64")


@dataclass
class Program:
    """A function body over the parameters `x0, x1 …`, and Variables `v0, v1 …` from outside."""

    params: list[Val]
    variables: list[Val]
    source: str
    smallest: int  # batch size from which every shape makes sense

    @property
    def tolerance(self) -> float:
        """How far results may differ, relative to the largest."""
        narrow = "float32" in self.source or any(v.dtype == "float32" for v in (*self.params, *self.variables))
        return 2e-3 if narrow else 1e-9

    def make(self, values: list[np.ndarray]) -> tuple[Any, list[tj.Variable]]:
        """The Python function, and the Variables that it uses, with these values."""
        variables = [tj.Variable(a) for a in values]
        space: dict[str, Any] = {"tj": tj, "np": np}
        space.update({v.name: x for v, x in zip(self.variables, variables, strict=True)})
        exec(compile(self.source, "<program>", "exec"), space)
        return space["program"], variables

    def arrays(self, vals: list[Val], batch: int, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        out = []
        for v in vals:
            shape = tuple(d.at(batch) if isinstance(d, Batch) else d for d in v.shape)
            if v.dtype == "bool":
                out.append(rng.integers(0, 2, shape).astype(bool))
            elif "int" in v.dtype:
                out.append(rng.integers(0 if v.dtype[0] == "u" else -20, 20, shape).astype(v.dtype))
            else:
                out.append(np.asarray(rng.normal(size=shape)).astype(v.dtype))
        return out


class Writer:
    """Draws one program, line by line."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.vals: list[Val] = []
        self.variables: list[Val] = []
        self.smallest = 1
        self.n = 0

    # --- choices ----------------------------------------------------------------------------------------------------
    def pick(self, xs: Any) -> Any:
        return self.draw(st.sampled_from(list(xs)))

    def upto(self, n: int, low: int = 0) -> int:
        return self.draw(st.integers(low, n))

    def value(self, test: Any = lambda v: True) -> Val | None:
        """A value that passes the test, late ones more often."""
        fit = [v for v in self.vals if test(v)]
        if not fit:
            return None
        late = fit[-4:]
        return self.pick(late + fit)

    def emit(self, text: str, dtype: str, shape: tuple[Size, ...], exact: bool) -> Val | None:
        if len(shape) > MAX_RANK or count(shape)[0] > MAX_SIZE or count(shape)[1] > 1:
            return None
        v = Val(f"t{self.n}", dtype, shape, exact)
        self.n += 1
        self.lines.append(f"{v.name} = {text}")
        self.vals.append(v)
        return v

    # --- instructions -----------------------------------------------------------------------------------------------
    def unary(self) -> None:
        v = self.value()
        assert v is not None
        if v.dtype in FLOATS:
            t = self.pick(SMOOTH)
            self.emit(t.format(v.name), v.dtype, v.shape, v.exact and t in KEEPS_BITS)
        elif v.dtype == "bool":
            self.emit(f"tj.logical_not({v.name})", "bool", v.shape, True)
        else:
            self.emit(self.pick(INT_UNARY).format(v.name), v.dtype, v.shape, True)

    def partner(self, v: Val, **want: Any) -> Val | None:
        return self.value(
            lambda w: broadcast(v.shape, w.shape) is not None and all(getattr(w, k) == x for k, x in want.items())
        )

    def pair(self) -> None:
        a = self.value()
        assert a is not None
        b = self.partner(a, dtype=a.dtype)
        if b is None:
            return
        shape = broadcast(a.shape, b.shape)
        assert shape is not None
        table = FLOAT_PAIRS if a.dtype in FLOATS else BOOL_PAIRS if a.dtype == "bool" else INT_PAIRS
        t = self.pick(table)
        keeps = a.dtype not in FLOATS or (t.startswith(("tj.max", "tj.min")) and a.exact and b.exact)
        self.emit(t.format(a.name, b.name), a.dtype, shape, keeps)

    def compare(self) -> None:
        a = self.value(lambda v: v.exact and v.dtype != "bool")
        b = self.partner(a, dtype=a.dtype, exact=True) if a else None
        if a and b:
            self.emit(self.pick(COMPARISONS).format(a.name, b.name), "bool", broadcast(a.shape, b.shape) or (), True)

    def choose(self) -> None:
        c = self.value(lambda v: v.dtype == "bool")
        a = self.partner(c) if c else None
        if c is None or a is None or a.dtype == "bool":
            return
        shape = broadcast(c.shape, a.shape)
        assert shape is not None
        b = self.value(lambda w: w.dtype == a.dtype and broadcast(shape, w.shape) is not None)
        other = b.name if b and self.upto(2) else "0"
        full = broadcast(shape, b.shape) if other != "0" and b else shape
        self.emit(f"tj.where({c.name}, {a.name}, {other})", a.dtype, full or (), a.exact and (other == "0" or b.exact))  # type: ignore

    def convert(self) -> None:
        v = self.value(lambda v: v.exact or v.dtype in FLOATS)
        if v is None:
            return
        to = self.pick(("float32", "float64", "int32", "int64", "uint8", "bool") if v.exact else FLOATS)
        if v.dtype != to and not (v.dtype == "float64" and to == "float32" and not v.exact):
            self.emit(f"tj.cast({v.name}, tj.{to})", to, v.shape, v.exact)

    def reduce(self) -> None:
        v = self.value(lambda v: bool(v.shape))
        if v is None:
            return
        rank = len(v.shape)
        axes = sorted(self.draw(st.sets(st.integers(0, rank - 1), min_size=1, max_size=rank)))
        keep = bool(self.upto(1))
        shape = tuple(1 if i in axes else d for i, d in enumerate(v.shape) if keep or i not in axes)
        zero = any(d == 0 or (isinstance(d, Batch) and d.c < 0) for i, d in enumerate(v.shape) if i in axes)
        extremes = () if zero else ("max", "min")
        if v.dtype in FLOATS:
            name = self.pick(("sum", "sum", "mean", *extremes, *(("logsumexp",) if not zero else ())))
            exact = v.exact and name in ("max", "min")
        elif v.dtype == "bool":
            name, exact = self.pick(("any", "all")), True
        else:
            name, exact = self.pick(("sum", "prod", *extremes)), True
        axis = tuple(axes) if len(axes) > 1 or self.upto(1) else axes[0]
        whole = len(axes) == rank and self.upto(1)
        self.emit(f"tj.reduce_{name}({v.name}, axis={None if whole else axis}, keepdims={keep})", v.dtype, shape, exact)

    def arg_extreme(self) -> None:
        v = self.value(lambda v: v.exact and v.dtype != "bool" and v.shape and all(d != 0 for d in v.shape))
        if v is None:
            return
        axis = self.upto(len(v.shape) - 1)
        d = v.shape[axis]
        if isinstance(d, Batch) and d.c < 0:
            return
        rest = tuple(d for i, d in enumerate(v.shape) if i != axis)
        self.emit(f"tj.{self.pick(('argmax', 'argmin'))}({v.name}, axis={axis})", "int64", rest, True)

    def move(self) -> None:
        v = self.value()
        assert v is not None
        rank = len(v.shape)
        what = self.pick(
            ("transpose", "expand", "squeeze", "flatten", "split", "merge", "broadcast", "reverse", "tile")
        )
        if what == "transpose" and rank > 1:
            perm = self.draw(st.permutations(range(rank)))
            self.emit(f"tj.transpose({v.name}, {tuple(perm)})", v.dtype, tuple(v.shape[p] for p in perm), v.exact)
        elif what == "expand":
            at = self.upto(rank)
            self.emit(f"tj.expand_dims({v.name}, {at})", v.dtype, (*v.shape[:at], 1, *v.shape[at:]), v.exact)
        elif what == "squeeze" and 1 in v.shape:
            at = v.shape.index(1)
            self.emit(f"tj.squeeze({v.name}, {at})", v.dtype, v.shape[:at] + v.shape[at + 1 :], v.exact)
        elif what == "flatten" and rank > 1:
            n, b = count(v.shape)
            batch = [d for d in v.shape if isinstance(d, Batch)]
            size: Size = n if not b else Batch(batch[0].a * n, batch[0].c * n)
            if b < 2 and n:
                self.emit(f"tj.reshape({v.name}, (-1,))", v.dtype, (size,), v.exact)
        elif what == "split" and rank:
            at = self.upto(rank - 1)
            d = v.shape[at]
            if isinstance(d, int) and d in (4, 6, 8, 12):
                to = (*v.shape[:at], 2, d // 2, *v.shape[at + 1 :])
                self.emit(f"tj.reshape({v.name}, {show(to)})", v.dtype, to, v.exact)
        elif what == "merge" and rank > 1:
            at = self.upto(rank - 2)
            a, b = v.shape[at : at + 2]
            if isinstance(a, int) and isinstance(b, int):
                to = (*v.shape[:at], a * b, *v.shape[at + 2 :])
                self.emit(f"tj.reshape({v.name}, {show(to)})", v.dtype, to, v.exact)
        elif what == "broadcast" and rank < MAX_RANK:
            to = (self.pick((1, 2, 3)), *(3 if d == 1 and self.upto(1) else d for d in v.shape))
            self.emit(f"tj.broadcast_to({v.name}, {show(to)})", v.dtype, to, v.exact)
        elif what == "reverse" and rank:
            self.emit(f"tj.reverse({v.name}, [{self.upto(rank - 1)}])", v.dtype, v.shape, v.exact)
        elif what == "tile" and rank:
            times = [self.pick((1, 2)) if isinstance(d, int) else 1 for d in v.shape]
            to = tuple(d * k if isinstance(d, int) else d for d, k in zip(v.shape, times))
            if to != v.shape:
                self.emit(f"tj.tile({v.name}, {times})", v.dtype, to, v.exact)

    def slice(self) -> None:
        v = self.value(lambda v: bool(v.shape))
        if v is None:
            return
        index, shape = [], []
        for d in v.shape:
            if isinstance(d, Batch):
                k = self.upto(3)
                if k == 1 and d.c == 0:
                    index.append(self.pick(("0", "-1")))
                elif k > 1 and d.c == 0:
                    index.append("1:" if k == 2 else ":-1")
                    shape.append(Batch(d.a, d.c - 1))
                    self.smallest = max(self.smallest, 2)
                else:
                    index.append(":")
                    shape.append(d)
                continue
            k = self.upto(4)
            if d == 0 or k == 0:
                index.append(":")
                shape.append(d)
            elif k == 1:
                index.append(str(self.upto(d - 1) - (d if self.upto(1) else 0)))
            elif k == 2:
                index.append("::-1")
                shape.append(d)
            else:
                a, b = sorted((self.upto(d), self.upto(d)))
                step = self.pick((1, 1, 2, 3))
                index.append(f"{a}:{b}:{step}")
                shape.append(len(range(a, b, step)))
        if tuple(shape) != v.shape or "::-1" in index:  # the whole is the tensor itself, for tapes too
            self.emit(f"{v.name}[{', '.join(index)}]", v.dtype, tuple(shape), v.exact)

    def join(self) -> None:
        a = self.value(lambda v: bool(v.shape))
        if a is None:
            return
        if self.upto(1):
            b = self.value(lambda w: w.dtype == a.dtype and w.shape == a.shape)
            at = self.upto(len(a.shape))
            assert b is not None
            self.emit(
                f"tj.stack([{a.name}, {b.name}], axis={at})",
                a.dtype,
                (*a.shape[:at], 2, *a.shape[at:]),
                a.exact and b.exact,
            )
            return
        at = self.upto(len(a.shape) - 1)
        b = self.value(
            lambda w: w.dtype == a.dtype and len(w.shape) == len(a.shape)
            and all(x == y or i == at for i, (x, y) in enumerate(zip(a.shape, w.shape)))
        )  # fmt: skip
        assert b is not None
        x, y = a.shape[at], b.shape[at]
        if isinstance(x, int) and isinstance(y, int):
            size: Size = x + y
        else:
            p, q = (d if isinstance(d, Batch) else Batch(0, d) for d in (x, y))
            size = Batch(p.a + q.a, p.c + q.c)
        self.emit(
            f"tj.concat([{a.name}, {b.name}], axis={at})",
            a.dtype,
            (*a.shape[:at], size, *a.shape[at + 1 :]),
            a.exact and b.exact,
        )

    def pad(self) -> None:
        v = self.value(lambda v: bool(v.shape) and v.dtype != "bool")
        if v is None:
            return
        widths, shape = [], []
        for d in v.shape:
            a, b = (self.upto(2), self.upto(1)) if isinstance(d, int) else (0, 0)
            widths.append([a, b])
            shape.append(d + a + b if isinstance(d, int) else d)
        self.emit(f"tj.pad({v.name}, {widths}, constant_values={self.pick((0, 1))})", v.dtype, tuple(shape), v.exact)

    def matmul(self) -> None:
        a = self.value(lambda v: v.dtype in FLOATS and len(v.shape) >= 2)
        if a is None:
            return
        ta, tb = bool(self.upto(1)), bool(self.upto(1))
        m, k = a.shape[-2:] if not ta else a.shape[:-3:-1]
        b = self.value(lambda w: w.dtype == a.dtype and len(w.shape) >= 2 and w.shape[-1 if tb else -2] == k)
        if b is None:
            return
        lead = broadcast(a.shape[:-2], b.shape[:-2])
        n = b.shape[-2 if tb else -1]
        if lead is None:
            return
        self.emit(
            f"0.25 * tj.matmul({a.name}, {b.name}, transpose_a={ta}, transpose_b={tb})", a.dtype, (*lead, m, n), False
        )

    def network(self) -> None:
        v = self.value(lambda v: v.dtype in FLOATS and v.shape and isinstance(v.shape[-1], int) and v.shape[-1] > 0)
        if v is None:
            return
        what = self.pick(("softmax", "log_softmax", "norm"))
        if what == "norm":
            self.lines.append(f"m{self.n} = {v.name} - tj.reduce_mean({v.name}, axis=-1, keepdims=True)")
            m = f"m{self.n}"
            text = f"{m} / tj.sqrt(tj.reduce_mean(tj.square({m}), axis=-1, keepdims=True) + 0.1)"
            self.emit(text, v.dtype, v.shape, False)
        else:
            self.emit(f"tj.nn.{what}({v.name})", v.dtype, v.shape, False)

    def gather(self) -> None:
        v = self.value(lambda v: any(isinstance(d, int) and d > 0 for d in v.shape))
        if v is None:
            return
        axis = self.pick([i for i, d in enumerate(v.shape) if isinstance(d, int) and d > 0])
        index = [self.upto(v.shape[axis] - 1) for _ in range(self.upto(3, 1))]
        self.emit(
            f"tj.gather({v.name}, {index}, axis={axis})",
            v.dtype,
            (*v.shape[:axis], len(index), *v.shape[axis + 1 :]),
            v.exact,
        )

    def scan(self) -> None:
        v = self.value(lambda v: bool(v.shape) and v.dtype != "bool")
        if v is not None:
            text = f"tj.cumsum({v.name}, axis={self.upto(len(v.shape) - 1)}, reverse={bool(self.upto(1))})"
            self.emit(text, v.dtype, v.shape, v.dtype not in FLOATS)

    def scalar(self) -> None:
        """A number from the batch size, or a constant."""
        if self.upto(1):
            self.emit("tj.cast(tj.shape(x0)[0], tj.float64)", "float64", (), True)
        else:
            v = self.value(lambda v: v.dtype in FLOATS)
            if v is not None:
                self.emit(f"{v.name} / tj.cast(tj.size({v.name}) + 1, tj.{v.dtype})", v.dtype, v.shape, False)

    def variable(self) -> None:
        if not self.variables:
            return
        v = self.pick(self.variables)
        if self.upto(2) == 0:
            self.emit(f"{v.name} * 1", v.dtype, v.shape, False)
            return
        w = self.value(lambda w: w.dtype == v.dtype and w.shape == v.shape)
        if w is None:
            w = self.value(lambda w: w.dtype == v.dtype)
            if w is None:
                return
            text = (
                f"{v.name} * 0.5 + tj.reduce_sum({w.name})"
                if v.dtype in FLOATS
                else f"{v.name} + tj.reduce_sum({w.name})"
            )
            self.lines.append(f"{v.name}.assign(tj.clip_by_value({text}, -2, 2))")
            return
        self.lines.append(f"{v.name}.{self.pick(('assign', 'assign_add', 'assign_sub'))}({w.name})")

    # --- the whole --------------------------------------------------------------------------------------------------
    def body(self, n: int) -> None:
        often = {self.unary: 4, self.pair: 5, self.reduce: 4, self.move: 3}
        often |= {self.slice: 2, self.variable: 2, self.matmul: 2}
        seldom = (self.compare, self.choose, self.convert, self.arg_extreme, self.join, self.pad, self.network)
        steps = [step for step, times in often.items() for _ in range(times)]
        steps += [*seldom, self.gather, self.scan, self.scalar]
        for _ in range(n):
            self.pick(steps)()

    def whole(self, taped: bool | None) -> Program:
        batch = Batch(1)
        pool: list[tuple[Size, ...]] = [
            (),
            (1,),
            (3,),
            (4,),
            (2, 3),
            (3, 4),
            (4, 1),
            (1, 5),
            (2, 3, 4),
            (17,),
            (0, 3),
            (8,),
        ]
        mixed: list[tuple[Size, ...]] = [
            (batch,),
            (batch, 3),
            (batch, 4),
            (2, batch),
            (batch, 1),
            (batch, 2, 3),
            (batch, 17),
        ]
        main = self.pick(("float64", "float64", "float32"))
        params = [Val("x0", main, self.pick([s for s in mixed if s[0] == batch]), True)]
        for i in range(1, self.upto(3, 2) + 1):
            dtype = self.pick((main, main, main, "int32", "int64", "int8", "uint8", "uint64", "bool"))
            params.append(Val(f"x{i}", dtype, self.pick(pool + mixed), True))
        self.variables = [
            Val(f"v{i}", self.pick((main, main, "int32")), self.pick([s for s in pool if 0 not in s]), False)
            for i in range(self.upto(2))
        ]
        self.vals = list(params)
        self.emit("x0 * 2.0 - 0.5", main, params[0].shape, False)
        if taped is None:
            taped = self.upto(2) == 0
        self.body(self.upto(14, 3))
        lines = list(self.lines)
        if taped:
            lines += self.tape(params)
        unread = self.unread(lines)
        outs = unread[-6:] if self.upto(3) else [self.pick(unread), self.pick(self.vals)]
        result = ", ".join(v.name for v in outs) + (", *grads" if taped else "")
        head = "B = x0.shape[0]"
        text = "\n".join([head, *lines, f"return ({result},)"])
        source = f"def program({', '.join(p.name for p in params)}):\n{textwrap.indent(text, '    ')}\n"
        return Program(params, self.variables, source, self.smallest)

    def unread(self, lines: list[str]) -> list[Val]:
        """The values that no line reads."""
        words = set(re.findall(r"\bt\d+\b", " ".join(line.split(" = ", 1)[-1] for line in lines)))
        return [v for v in self.vals if v.name not in words]

    def tape(self, params: list[Val]) -> list[str]:
        """Lines that differentiate what comes next with respect to some floating values."""
        sources = [p.name for p in params if p.dtype in FLOATS]
        sources += [v.name for v in self.variables if v.dtype in FLOATS]
        before = len(self.lines)
        self.body(self.upto(8, 2))
        inside = self.lines[before:]
        ends = [v for v in self.unread(self.lines) if v.dtype in FLOATS][-4:]
        watched = [p.name for p in params if p.dtype in FLOATS]
        inside = [f"tape.watch({n})" for n in watched] + inside
        inside.append("loss = tj.reduce_sum(tj.square(x0))")
        inside += [f"loss += tj.cast(tj.reduce_sum(tj.tanh({v.name})), loss.dtype)" for v in ends]
        text = [f"    {line}" for line in inside]
        end = f"grads = tape.gradient(loss, [{', '.join(sources)}], unconnected_gradients='zero')"
        return ["with tj.GradientTape() as tape:", *text, end]


@st.composite
def programs(draw: Any, taped: bool | None = None) -> Program:
    """A program; `taped` says whether it contains a tape, None leaves that open."""
    return Writer(draw).whole(taped)
