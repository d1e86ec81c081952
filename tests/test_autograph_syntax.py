"""Constructs of Python that stand beside branches and loops: the traced function does what the plain one does."""

import contextlib
import enum

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

VALUES = (1.0, -1.0, 4.0)


def match_with_exits(x, mode="a"):
    match mode:
        case "a":
            if x > 0:
                return x * 5.0
            y = x
        case "b":
            y = x * 3.0
        case _:
            raise ValueError(mode)
    return y + 1.0


def match_in_a_loop(x):
    n = 0
    for kind in ("skip", "add", "stop", "add"):
        match kind:
            case "skip":
                continue
            case "stop":
                if x > 2:
                    break
            case other:
                n += len(other)
        x = x + 1.0
    return x, n


def match_sets_a_name(x, kind=3):
    match kind:
        case 3:
            y = x * 2.0
    if x > 0:
        return y
    return -y


def walrus(x):
    if (y := x * 2.0) > 1:
        return y
    return y - 5.0


def return_in_with(x):
    with contextlib.nullcontext(3.0) as k:
        if x > 0:
            return x * k
    return x


def generator_inside(x):
    def parts():
        for k in range(3):
            yield x * k

    total = 0.0
    for y in parts():
        if y > 1:
            total = total + y
    return total


def raise_in_an_expression(x):
    def boom():
        raise ValueError("boom")

    return x if x > 0 else boom()


def raise_in_a_nested_function(x):
    def checked(a):
        if a > 0:
            return a
        raise KeyError("negative")

    return checked(x) + checked(x + 1.5)


def loop_else_that_returns(x):
    n = 0
    while x < 10:
        x = x * 3.0
        n += 1
        if n > 2:
            break
    else:
        return x, n
    raise RuntimeError(f"too long: {n}")


def loop_else_that_breaks(x):
    out = 0.0
    for i in range(4):
        for j in range(3):
            if x + i + j > 5:
                break
        else:
            if x + i > 3:
                out = out + 100.0
                break
        out = out + i
    return out


def loop_else_that_continues(x):
    out = 0.0
    for i in range(3):
        while x > i:
            x = x - 2.0
            if x > 1.5:
                break
        else:
            out = out + 10.0
            continue
        out = out + x
    return out


def try_in_a_loop(x):
    out = 0.0
    for i in range(3):
        try:
            if i == 1:
                raise ValueError
            out = out + x
        except ValueError:
            out = out * 2.0
            continue
        finally:
            out = out + 1.0
    return out


def return_in_try(x):
    try:
        if x > 0:
            return x * 2.0
        y = x * 3.0
    finally:
        x = x * 0.0
    return y + x


def raise_again(x):
    try:
        return x * {}["a"]
    except KeyError:
        if x > 0:
            raise
        return x


def delete(x):
    y = z = x
    if x > 0:
        del y
        y = z * 9.0
    del z
    return y


def class_inside(x):
    class Box:
        def __init__(self, v):
            self.v = v

        def get(self):
            return self.v if self.v > 0 else -self.v * 2.0

    return Box(x).get()


def star_arguments(x, *more, **named):
    if x > 0:
        return x * (len(more) + 1), named
    return x, named


def match_with_a_guard(x):
    match x:
        case y if y > 0:
            z = y * 3.0
        case _:
            z = x * 2.0
    return z


class Mode(enum.Enum):
    SLOW = 1
    FAST = 2


def match_names_of_a_class(x, mode=Mode.FAST):
    match mode:
        case Mode.SLOW:
            x = x + 1.0
        case Mode.FAST if x > 0:
            x = x + 2.0
        case Mode.FAST:
            x = x + 3.0
    match (1, 2):
        case (1, y):
            x = x * y
    match {"k": x}:
        case {"k": v, **rest}:
            x = x + v
    return x, rest


def match_a_tensor(x):
    match int(x):
        case 0 | 1:
            y = x
        case 4 as q:
            y = x * q
        case -1:
            return x - 1.0
        case n if n > 5:
            y = x * n
        case _:
            y = x * 0.0
    match x:
        case 1.0:
            y = y + 1.0
        case 4.0:
            y = y * 10.0
    return y


def match_leaves_a_loop(x):
    for s in ("a", "b", "c"):
        match s:
            case "a":
                continue
            case "b" if x > 2:
                break
            case w:
                x = x + len(w)
    return x


def walrus_behind_and(x):
    if x > 0 and (y := x * 2.0) > 5:
        return y
    return x


def walrus_behind_or(x):
    y = 0.0
    if (x > 0 and (y := x * 2.0) > 5) or (z := x) < -5:
        return y
    return y + z


def walrus_in_a_while(x):
    n = 0
    while x < 100.0 and (n := n + 1) < 5:
        x = x * 2.0
        if x > 50.0:
            break
    else:
        n = n + 100
    return x, n


def walrus_in_either(x):
    k = (y := x + 1.0) if x > 0 else (y := x - 1.0)
    return k * y


def walrus_in_a_chain(x):
    if 0 < (y := x * 2.0) < (z := y + 1.0) < 10:
        return y + z
    return y


def walrus_among_operands(x):
    r = abs(x) + (x > 0 and (y := x * 2.0)) + (y if x > 0 else 1.0)
    if x in (both := (1.0, 2.0)):
        return r + both[0]
    return r + both[1]


def walrus_in_an_assert(x):
    assert (y := x * 2.0) > -9 and (z := y + 1.0) > -9  # noqa: RUF018
    return y + z


def finally_after_a_tensors_raise(x):
    try:
        if x < 0:
            raise ValueError("neg")
        y = x * 2.0
    except ValueError:
        y = x * 100.0
    finally:
        y = y + 0.5
    return y


def bare_except(x):
    try:
        if x < 0:
            raise ValueError("neg")
        y = x * 2.0
    except:  # noqa: E722
        y = x * 100.0
    return y


def except_type_error(x):
    try:
        y = x.numpy()
    except TypeError:
        y = 17.0
    return x * y


def number_in_try(x, n=3):
    try:
        y = [0.5] * n
    except BaseException:
        y = [1.0]
    finally:
        z = y[0]
    return x * y[0] + z


def exit_passes_over_the_else_of_try(x):
    for i in range(3):
        try:
            if x > i:
                continue
            x = x + 1.0
        except ValueError:
            pass
        else:
            x = x + 10.0
        finally:
            x = x + 100.0
    return x


def walrus_in_a_lambda(x):
    f = lambda a: a > 0 and (b := a * 2.0) > 1 and b > 0  # noqa: E731
    return x if f(x) else -x


def dict_by_a_condition(x):
    return sum({k: v for k, v in {"a": x, "b": x * 2.0}.items() if v > 0}.values())


def sorted_tensors(x):
    return sorted([x, x * 2.0, x - 1.0])[0]


CONVERTED = [
    match_with_exits, match_in_a_loop, match_sets_a_name, walrus, return_in_with, generator_inside,
    raise_in_an_expression, raise_in_a_nested_function, loop_else_that_returns, loop_else_that_breaks,
    loop_else_that_continues, try_in_a_loop, return_in_try, raise_again, delete, class_inside, star_arguments,
    match_with_a_guard, match_names_of_a_class, match_a_tensor, match_leaves_a_loop, walrus_behind_and,
    walrus_behind_or, walrus_in_a_while, walrus_in_either, walrus_in_a_chain, walrus_among_operands,
    walrus_in_an_assert, number_in_try, exit_passes_over_the_else_of_try, sorted_tensors, bare_except,
    finally_after_a_tensors_raise,
]  # fmt: skip
FALLING_BACK = [dict_by_a_condition]


def outcome(f, x):
    try:
        y = f(tj.constant(x))
    except Exception as e:
        return type(e), str(e)
    return [v if isinstance(v, dict) else float(v) for v in (y if isinstance(y, tuple) else (y,))]


@pytest.mark.parametrize("f", CONVERTED, ids=lambda f: f.__name__)
def test_traced_as_plain(f):
    traced = tj.function(f, strict=True)
    for x in VALUES:
        assert outcome(traced, x) == outcome(f, x)


@pytest.mark.parametrize("f", [except_type_error, walrus_in_a_lambda], ids=lambda f: f.__name__)
def test_what_a_try_would_hide_runs_as_python(f):
    traced = tj.function(f)
    with pytest.warns(ConversionWarning) as told:
        for x in VALUES:
            assert outcome(traced, x) == outcome(f, x)
    assert len(told) == 1


@pytest.mark.parametrize("f", FALLING_BACK, ids=lambda f: f.__name__)
def test_what_is_not_converted_runs_as_python(f):
    traced = tj.function(f)
    why = "this use of it is not converted|everything in a dict is read"
    with pytest.warns(ConversionWarning, match=why) as told:
        for x in VALUES:
            assert outcome(traced, x) == outcome(f, x)
    assert len(told) == 1
