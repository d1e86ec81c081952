"""Python values that tensors choose among a few: strings, enum members, objects, containers, functions, handlers."""

import contextlib
import copy
import dataclasses
import enum
import functools
import io
import operator
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning

VALUES = [0.5, 2.5, -0.5, -3.0, 5.5, 0.5, -1.5, *np.random.default_rng(3).normal(0, 3, 5).round(2).tolist()]


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class P:
    def __init__(self, v):
        self.v = v
        self.log = []

    def scaled(self, x):
        return x * self.v

    def grow(self, x):
        self.v = self.v + x
        return self.v

    @property
    def twice(self):
        return self.v * 2


class Q(P):
    def scaled(self, x):
        return x + self.v


class Named(P):
    def __str__(self):
        return f"named {self.v}"


@dataclasses.dataclass
class Record:
    v: object
    n: int = 0


class Machine:
    def __init__(self):
        self.state, self.n, self.seen = "idle", 0, []

    def step(self, x):
        if self.state == "idle":
            if x > 0:
                self.state = "run"
        elif self.state == "run":
            self.n = self.n + 1
            if x < 0:
                self.state = "idle"
        return x * 2


STATE = "idle"
COUNTS = {"up": 0, "down": 0}
LOG: list = []


def world():
    """What the functions may change: made anew for plain Python and for the traced form."""
    return {
        "machine": Machine(), "objs": [P(2.0), Q(3.0), P(tj.constant(4.0))], "a": [1.0], "b": [2.0, 3.0],
        "d": {"k": 1.0}, "e": {"k": 2.0},
    }  # fmt: skip


def plain(x):
    """A value without tensors: numbers by what they are, all else by type and value."""
    if isinstance(x, (tj.Tensor, bool, int, float)) and not isinstance(x, enum.Enum):
        return np.round(np.asarray(x, "f8"), 4).tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [type(x).__name__, *map(plain, x)]
    if isinstance(x, (P, Record, Machine)):
        return type(x).__name__, plain(vars(x))
    return type(x).__name__, x


def outcome(f, x, w):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            made = plain(f(x, w))
        except (ConversionError, ConversionWarning):
            raise
        except Exception as e:
            made = type(e).__name__, str(e)
    return made, out.getvalue(), plain(dict(w)), plain([STATE, COUNTS, LOG])


def reset():
    global STATE
    STATE = "idle"
    COUNTS.update(up=0, down=0)
    LOG.clear()


def check(f, values=VALUES):
    """The traced form gives, prints and leaves behind what plain Python does, in call after call, and natively."""
    reset()
    w = world()
    expected = [copy.deepcopy(outcome(f, tj.constant(v), w)) for v in values]
    reset()
    w = world()
    traced = tj.function(lambda x: f(x, w))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for v, want in zip(values, expected, strict=True):
            assert outcome(lambda x, _: traced(x), tj.constant(v), w) == want, v
    reset()


# --- constants --------------------------------------------------------------------------------------------------------
def two_states(x, w):
    state = "up" if x > 0 else "down"
    y = x * 2 if state == "up" else x * 3
    return y, state


def compared(x, w):
    if x > 1:
        s = "a"
    elif x > 0:
        s = "b"
    elif x > -1:
        s = None
    else:
        s = "c"
    same = s == "a", s != "b", s is None, s is not None, "a" == s
    return s, same, s in ("a", "c"), s not in ("a", None), s in {"a": 1}, not s, bool(s)


def compared_with_another(x, w):
    s = "u" if x > 0 else "v"
    t = "v" if x > 1 else "u"
    return s == t, s != t, s < t, s >= t, "u" <= s <= t, (s, t)


def members(x, w):
    s = Color.RED if x > 0 else Color.BLUE
    if s is Color.RED:
        x = x + 1
    if s == Color.BLUE:
        x = x - 1
    return x, s, s.name, s.value, s in (Color.RED,)


def members_that_are_numbers(x, w):
    s = Level.LOW if x > 0 else Level.HIGH
    return s, s + 1, x * s, s is Level.LOW, s > Level.LOW


def of_several_kinds(x, w):
    s = 0 if x > 1 else "zero" if x > 0 else b"0" if x > -1 else None
    return s, s == 0, s is None


def key_of_a_dict(x, w):
    d = {"up": 0.0, "down": 0.0}
    s = "up" if x > 0 else "down"
    d[s] += x
    d["up"] = d["up"] + 1
    return d[s], d.get(s), s in d, d["up"], d["down"], {"up": x, "down": -x}[s], ["a", "b"].index("a" if x > 0 else "b")


def counted_outside(x, w):
    s = "up" if x > 0 else "down"
    COUNTS[s] += 1
    return COUNTS[s]


def keys_of_two(x, w):
    d = {("up", 1): 10.0, ("up", 2): 20.0, ("down", 1): 30.0, ("down", 2): 40.0}
    s = "up" if x > 0 else "down"
    n = "p" if x > 1 else "q"
    k = ("up", 1) if x > 0 else ("down", 1)
    d[s, 1] = d[s, 2] + x
    return d[s, 1], d[k], n, k[0]


def deleted_key(x, w):
    d = {"up": 1.0, "down": 2.0, "mid": x}
    del d["up" if x > 0 else "down"]
    return "up" in d, "down" in d, len(d)


def shown(x, w):
    s = "up" if x > 0 else "down"
    print("is", s, [s], f"{s!r:>8} {x}", s + "!", f"{s}{s}", sep="|")
    print("{} and".format(s), str(s), repr(s), ",".join([s, "b"]))  # noqa: UP032
    return f"{s}", f"is {s}", str(s), s.upper(), s + "x", "x" + s, len(s), s[0], s * 2


def used_as_its_text(x, w):
    s = "up" if x > 0 else "down"
    return {"is up": 1.0, "is down": 2.0}[f"is {s}"] * x


def matched(x, w):
    s = "up" if x > 0 else "down" if x > -1 else None
    match s:
        case "up":
            y = x + 1
        case "down" | "left":
            y = x - 1
        case None:
            y = x * 5
    return y


def chosen_names(x, w):
    name = "a" if x > 0 else ""
    return name or "none", name and "some", not name, "full" if name else "empty"


def exchanged(x, w):
    a, b = "l", "r"
    if x > 0:
        a, b = b, a
    return a, b, a == b, a + b


def early_returns(x, w):
    if x > 0:
        return "positive"
    if x < -1:
        return "negative"
    return None


def tuples_of_two_lengths(x, w):
    axes = () if x > 0 else (1, 2)
    return axes, len(axes)


def raised_with(x, w):
    s = "up" if x > 0 else "down"
    if s == "down":
        raise ValueError(s)
    if x > 5:
        raise KeyError(f"bad {s}")
    assert s == "up" or x < 10
    return x


def kept_outside(x, w):
    global STATE
    s = "up" if x > 0 else "down"
    LOG.append(s)
    if x > 1:
        LOG.append(s + "!")
    STATE = s
    w["machine"].seen.append(s)
    w["machine"].state = "run" if x > 0 else "idle"
    w["machine"].name = s
    return STATE, w["machine"].state


def machine(x, w):
    y = w["machine"].step(x)
    y = y + w["machine"].step(x - 1)
    return y, w["machine"].state, w["machine"].n


def handed_on(x, w):
    def act(v, mode="none"):
        if mode == "relu":
            return tj.maximum(v, 0.0)
        return tj.tanh(v) if mode == "tanh" else v

    mode = "relu" if x > 0 else "tanh"
    return act(x, mode), act(x, mode=mode), act(x)


def of_a_library(x, w):
    s = "up" if x > 0 else "down"
    return s.startswith("u"), isinstance(s, str), s.replace("u", "v"), s.partition("o")[0], hash(s) == hash("up")


def in_a_list(x, w):
    out = ["p" if x > i else "n" for i in range(3)]
    out.append("q" if x > 1 else None)
    return out, out[0], {"k": out[1]}


CONSTANTS = [
    two_states, compared, compared_with_another, members, members_that_are_numbers, of_several_kinds, key_of_a_dict,
    counted_outside, keys_of_two, deleted_key, shown, used_as_its_text, matched, chosen_names, exchanged, early_returns,
    tuples_of_two_lengths, raised_with, kept_outside, machine, handed_on, of_a_library, in_a_list,
]  # fmt: skip


# --- loops ------------------------------------------------------------------------------------------------------------
def machine_in_a_loop(x, w):
    state, n = "idle", 0
    while n < 10:
        if state == "idle":
            state = "run" if x > n else "stop"
        elif state == "run":
            state = "idle"
            x = x - 1
        else:
            x = x + 1
            state = "idle" if x > 3 else "stop"
        n = n + 1 + tj.cast(x > 0, tj.int32)
    return x, n, state


def turned_by_a_dict(x, w):
    s = "q"
    while x > 1:
        s = {"q": "w", "w": "e", "e": "q"}[s]
        x = x - 1
    return s, x


def none_before(x, w):
    s = None
    for i in tj.range(5):
        if x > i:
            s = "last"
        elif s is None:
            s = "never"
    return s


def one_after_another(x, w):
    v, s = 0, None
    while v < 5:
        prev = s
        s = "odd" if v % 2 == 1 else "even"
        if x > v:
            s = "big"
        v = v + 1
    return prev, s


def left_by_break(x, w):
    s, k = "a", 0
    for i in tj.range(6):
        if i > x:
            s = "broke"
            break
        s = "b" if s == "a" else "a"
        k = k + 1
    else:
        s = s + " to the end"
    return s, k


def steps_of_python(x, w):
    s = "none"
    for name in ("a", "b", "c"):
        if x > len(s) - 3:
            s = s + name
    return s


def linked(x, w):
    cur, n = w["objs"][0], 0
    while n < x:
        cur = w["objs"][1] if cur is w["objs"][0] else w["objs"][0]
        cur.v = cur.v + 1.0
        n = n + 1
    return cur is w["objs"][0], cur.v


def best_of(x, w):
    best, most = None, -99.0
    for o in w["objs"][:2]:
        if o.scaled(x) > most:
            best, most = o, o.scaled(x)
    best.v = most
    return best.v, best is w["objs"][1]


def changed_by_a_function(x, w):
    mode = "a"

    def flip():
        nonlocal mode
        mode = "b" if mode == "a" else "a"

    if x > 0:
        flip()
    for i in tj.range(3):
        if x > i:
            flip()
    return mode


def attributes_in_a_loop(x, w):
    for i in tj.range(4):
        w["machine"].step(x - tj.cast(i, tj.float32))
    return w["machine"].state


def items_in_a_loop(x, w):
    d, names = {"mode": "a", "n": 0.0}, ["l", "r", x]
    for i in tj.range(4):
        if x > i:
            d["mode"] = "b"
            names[0], names[1] = names[1], names[0]
        elif d["mode"] == "b":
            d["mode"] = "c"
            d["n"] += 1.0
    return d["mode"], d["n"], names


def globals_in_a_loop(x, w):
    global STATE
    for i in tj.range(3):
        if x > i:
            STATE = "b" if STATE == "a" else "a"
    return STATE


def part_of_a_tuple(x, w):
    state = ("a", 0)
    for i in tj.range(4):
        _, k = state
        state = ("b" if x > i else "a", k + 1)
    return state


def functions_in_a_loop(x, w):
    f = tj.sin
    for _ in tj.range(3):
        x = f(x)
        f = tj.cos if x > 0 else tj.sin
    return x, f is tj.sin


LOOPS = [
    machine_in_a_loop, turned_by_a_dict, none_before, one_after_another, left_by_break, steps_of_python, linked,
    best_of, changed_by_a_function, attributes_in_a_loop, items_in_a_loop, globals_in_a_loop, part_of_a_tuple,
    functions_in_a_loop,
]  # fmt: skip


# --- objects ----------------------------------------------------------------------------------------------------------
def read(x, w):
    a = w["objs"][0]
    if x < 0:
        a = w["objs"][1]
    return a.v * 2 * x, a.scaled(x), a.twice, getattr(a, "v"), hasattr(a, "z")


def written(x, w):
    a = w["objs"][0] if x < 0 else w["objs"][1]
    a.v = x
    a.v += 1
    return w["objs"][0].v, w["objs"][1].v, a.v


def exchanged_objects(x, w):
    a, b = w["objs"][0], w["objs"][1]
    if x < 0:
        a, b = b, a
    a.v = a.v + 1
    b.grow(x)
    return a.v, b.v, a is b, a is w["objs"][0]


def one_or_none(x, w):
    a = None
    if x > 0:
        a = w["objs"][0]
    if a is not None and a.v > 1:
        x = x * a.v
    return x, a is None, a


def by_its_class(x, w):
    a = w["objs"][0] if x > 0 else w["objs"][1]
    return a.scaled(x) if isinstance(a, Q) else a.twice + x


def made_in_branches(x, w):
    cls = P if x > 0 else Q
    o = cls(x)
    o.grow(1.0)
    return o.scaled(x), o.v, o, type(o) is P


def made_in_one_branch(x, w):
    a = P(x * 2) if x > 0 else w["objs"][1]
    a.v = a.v + 1
    return a.scaled(x), a, w["objs"][1].v


def appended(x, w):
    o = w["objs"][0] if x < 0 else w["objs"][1]
    w["objs"].append(o)
    o.log.append(x)
    return w["objs"][-1].v


def at_a_tensors_place(x, w):
    i = tj.cast(tj.minimum(tj.abs(x), 2.0), tj.int32)
    w["objs"][i].v = w["objs"][i].v + x
    return ["a", "b", "c"][i], [tj.sin, tj.cos, tj.abs][i](x), (None, "b", "c")[-1 - i]


def told(x, w):
    a, b = Named(x), Named(x * 2)
    c = a if x > 0 else b
    print(c, f"{c}")
    return str(c) if x is None else c.v


OBJECTS = [
    read, written, exchanged_objects, one_or_none, by_its_class, made_in_branches, made_in_one_branch, appended,
    at_a_tensors_place, told,
]  # fmt: skip


# --- containers and records -------------------------------------------------------------------------------------------
def lists_of_outside(x, w):
    chosen = w["a"] if x < 0 else w["b"]
    chosen.append(x)
    return len(chosen), chosen[0], chosen[-1]


def lists_of_its_own(x, w):
    a, b = [1.0], [2.0, 3.0]
    c = a if x < 0 else b
    c.append(x)
    a[0] = a[0] + 10
    return a, b, c[0], len(c)


def items_of_lists(x, w):
    a, b = [1.0, 2.0], [3.0, 4.0]
    c = a if x > 0 else b
    c[0] += x
    c[1] = c[0]
    total = 0.0
    for v in c:
        total = total + v
    p, q = c
    return a, b, p, q, total, sum(c)


def dicts(x, w):
    d = w["d"] if x > 0 else w["e"]
    d["k"] = x
    one, two = {"u": 1.0}, {"u": 2.0}
    own = one if x > 0 else two
    own["u"] += x
    return d["k"], one, two, own["u"], "u" in own


def records(x, w):
    a, b = Record(1.0), Record(2.0)
    c = a if x > 0 else b
    c.v = x
    return a.v, b.v, c.v


def exchanged_lists(x, w):
    a, b = [1.0], [2.0]
    if x > 0:
        a, b = b, a
        a.append(x)
    return a, b, len(a)


CONTAINERS = [lists_of_outside, lists_of_its_own, items_of_lists, dicts, records, exchanged_lists]


# --- functions --------------------------------------------------------------------------------------------------------
def operations(x, w):
    act = tj.sin if x > 0 else tj.cos
    return act(x), act is tj.sin


def lambdas(x, w):
    f = (lambda v: v + 1) if x > 0 else (lambda v: v * x)
    return f(x), f(2.0)


def defined_in_branches(x, w):
    if x > 0:

        def g(v):
            return v + x

    else:

        def g(v):
            return v * 2

    return g(x)


def methods(x, w):
    m = w["objs"][0].scaled if x > 0 else w["objs"][1].grow
    return m(x)


def partials(x, w):
    f = functools.partial(operator.mul, 2.0) if x > 0 else functools.partial(operator.add, 1.0)
    return f(x)


def tables(x, w):
    fs = {"up": tj.sin, "down": lambda v: v * 3}
    return fs["up" if x > 0 else "down"](x)


FUNCTIONS = [operations, lambdas, defined_in_branches, methods, partials, tables]


# --- errors that are caught -------------------------------------------------------------------------------------------
def caught(x, w):
    try:
        if x < 0:
            raise ValueError
        y = x * 2
    except ValueError:
        y = -x
    return y


def caught_by_one_of_several(x, w):
    try:
        if x < 0:
            raise ValueError("neg")
        if x > 2:
            raise KeyError("big")
        y = x * 2
    except ValueError as e:
        y = -x
        print(e, type(e).__name__)
    except (KeyError, TypeError) as e:
        y = x * 100
        print("key", e)
    else:
        y = y + 1
    finally:
        x = x + 5
    return y + x


def caught_in_steps(x, w):
    n, s = 0, 0.0
    for i in range(4):
        try:
            if x < i:
                raise ValueError
            n = n + 1
        except ValueError:
            n = n + 10
    for i in tj.range(4):
        try:
            if x < tj.cast(i, tj.float32):
                raise ValueError
            s = s + x
        except ValueError:
            s = s - 1.0
    return n, s


def caught_around_a_loop(x, w):
    try:
        for _ in tj.range(5):
            x = x + 1
            if x > 3:
                raise StopIteration
        y = x
    except StopIteration:
        y = -x
    return y


def caught_further_out(x, w):
    try:
        try:
            if x < 0:
                raise KeyError("k")
        except KeyError:
            if x < -1:
                raise ValueError("v") from None
            x = x + 100
    except ValueError:
        x = x * 7
    return x


def caught_and_raised(x, w):
    try:
        if x < -1:
            raise KeyError("very")
        if x < 0:
            raise ValueError("neg")
    except (ValueError, KeyError):
        x = x + 1
        raise
    return x


def not_caught(x, w):
    try:
        if x < 0:
            raise KeyError("k")
        return x
    except ValueError:
        return -x


def raised_after_a_return(x, w):
    try:
        if x > 0:
            return x
        raise ValueError
    except ValueError:
        return -x


ERRORS = [
    caught, caught_by_one_of_several, caught_in_steps, caught_around_a_loop, caught_and_raised, not_caught,
    raised_after_a_return,
]  # fmt: skip


@pytest.mark.parametrize(
    "f", [*CONSTANTS, *LOOPS, *OBJECTS, *CONTAINERS, *FUNCTIONS, *ERRORS], ids=lambda f: f.__name__
)
def test_what_tensors_choose_is_what_python_chooses(f):
    check(f)


def test_a_handler_that_raises_for_another():
    def f(x, w):
        return caught_further_out(x, w)

    check(f, [0.5, -0.5, -3.0])


# --- next -------------------------------------------------------------------------------------------------------------
def first_above(x):
    return next((v for v in x if v > 1), None), next((v * 2 for v in x if v > 1), -1.0)


def its_number(x):
    return next((i for i, v in enumerate(x) if v > 1), None)


def its_name(x):
    return next((n for n, v in zip(("a", "b", "c"), x, strict=False) if v > 1), "none")


def first_or_error(x):
    return next(v for v in x if v > 1)


@pytest.mark.parametrize("f", [first_above, its_number, its_name, first_or_error], ids=lambda f: f.__name__)
def test_next_of_a_generator_expression(f):
    def run(g, x):
        try:
            return plain(g(x))
        except StopIteration as e:
            return repr(e)

    rng = np.random.default_rng(0)
    traced = tj.function(f, strict=True)
    for n in (3, 5, 9):
        for k in range(4):
            x = tj.constant((rng.normal(size=n) * (1 + k)).astype("f"))
            assert run(traced, x) == run(f, x)


# --- what is known, and what not --------------------------------------------------------------------------------------
def test_attributes_of_candidates_are_guarded():
    objs = [P(2.0), P(3.0)]

    @tj.function(strict=True)
    def f(x):
        a = objs[0] if x > 0 else objs[1]
        return a.v * x

    one = tj.constant(1.0)
    assert float(f(one)) == 2.0
    objs[0].v = 5.0
    objs[1].v = 7.0
    assert float(f(one)) == 5.0
    assert float(f(-one)) == -7.0
    objs[1] = P(11.0)
    assert float(f(-one)) == -11.0


def test_the_object_itself_is_returned():
    objs = [P(2.0), P(3.0)]
    f = tj.function(lambda x: (objs[0] if x > 0 else objs[1], tj.sin if x > 0 else None), strict=True)
    for v, o, g in ((1.0, objs[0], tj.sin), (-1.0, objs[1], None)):
        made = f(tj.constant(v))
        assert made[0] is o and made[1] is g


def test_gradients_go_through_attributes_and_functions():
    w = [tj.Variable(2.0), tj.Variable(3.0)]
    objs = [P(w[0]), Q(w[1])]

    def loss(x):
        a = objs[0] if x > 0 else objs[1]
        mode = "square" if x > 1 else "same"
        act = tj.sin if x < 2 else tj.cos
        y = act(a.scaled(x))
        for _ in tj.range(3):
            y = y * a.v if mode == "square" else y + x
            mode = "same" if mode == "square" else "square"
        return y

    traced = tj.function(loss, strict=True)
    for v in VALUES:
        found = []
        for f in (loss, traced):
            x = tj.constant(v)
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            grads = tape.gradient(y, [x, *w], unconnected_gradients="zero")
            found.append([float(g) for g in (y, *grads)])
        np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_a_branch_knows_what_it_has_asked():
    """No branch is made for a value that is ruled out: an attribute of None would be an error in the program."""

    @tj.function(strict=True)
    def f(x):
        a = P(2.0) if x is None else None
        s = "up" if x > 0 else None
        if s is not None:
            x = x * len(s.upper())
        return x, a

    f(tj.constant(1.0))
    assert "host_call" not in str(f.get_concrete_function(tj.constant(1.0)).graph)


def too_many(x):
    s = "a"
    while x > 0:
        s = s + "a"
        x = x - 1
    return s


def in_what_a_library_gets(x):
    s = "up" if x > 0 else "down"
    return len(repr(sorted([s, "b"]))) * x


def taken_apart(x):
    o = P(1.0) if x > 0 else Record(2.0)
    match o:
        case Record(v=v):
            return x * v
        case P():
            return x - 1
    return x


def of_two_kinds(x):
    s = "up" if x > 0 else x
    return x * (2.0 if isinstance(s, str) else 3.0)


def looked_at_in_a_handler(x):
    try:
        if x < 0:
            raise ValueError(f"neg {x}")
    except ValueError as e:
        return x, str(e)
    return x, ""


@pytest.mark.parametrize(
    "f", [too_many, in_what_a_library_gets, taken_apart, of_two_kinds, looked_at_in_a_handler], ids=lambda f: f.__name__
)
def test_what_cannot_be_chosen_runs_as_python(f):
    traced = tj.function(f)
    with pytest.warns(ConversionWarning, match="runs as plain Python") as said:
        for v in (3.0, 0.5, -1.0, 20.0):
            assert plain(traced(tj.constant(v))) == plain(f(tj.constant(v)))
    assert len(said) == 1
    with pytest.raises(ConversionError):
        tj.function(f, strict=True)(tj.constant(1.0))


def test_random_machines():
    """Machines with random transitions, in a loop whose number of steps a tensor decides."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        names = [f"s{i}" for i in range(int(rng.integers(2, 6)))]
        table = {s: (names[rng.integers(len(names))], names[rng.integers(len(names))]) for s in names}
        weight = {s: float(rng.normal()) for s in names}

        def run(x, n, names=names, table=table, weight=weight):
            state, seen = names[0], dict.fromkeys(names, 0.0)
            for _ in tj.range(n):
                up, down = table[state]
                x = x * 0.9 + weight[state]
                seen[state] += x
                state = up if x > 0 else down
            return x, state, seen

        traced = tj.function(run, strict=True)
        for n in (0, 1, 7, 20):
            x = tj.constant(float(rng.normal()))
            want, got = run(x, tj.constant(n)), traced(x, tj.constant(n))
            assert got[1] == want[1]
            np.testing.assert_allclose(
                [float(v) for v in (got[0], *got[2].values())], [float(v) for v in (want[0], *want[2].values())],
                rtol=1e-4, atol=1e-5,
            )  # fmt: skip
