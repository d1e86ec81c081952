"""The corpus: branches, conditions, returns, and what stands in one branch only."""

import collections

from control_flow_corpus import case, real, truth, vector, whole

Pair = collections.namedtuple("Pair", "left right")


# --- if, elif, else ---------------------------------------------------------------------------------------------------
@case(real(-2, 2), smooth=True)
def if_else(m, x):
    if x > 0:
        y = x * x
    else:
        y = -m.sin(x)
    return y


@case(real(-2, 2), smooth=True)
def if_without_else(m, x):
    y = x * 3.0
    if x > 0:
        y = y * x
        y += 1.0
    return y


@case(real(-4, 4), draws=12, smooth=True)
def elif_chain(m, x):
    if x < -2:
        y = x + 10.0
    elif x < 0:
        y = m.exp(x)
    elif x < 2:
        y = x * x * x
    else:
        y = m.sqrt(x)
    return y * 2.0


@case(real(-2, 2), real(-2, 2), draws=10, smooth=True)
def nested_if(m, x, y):
    z = x - y
    if x > 0:
        z = z * 2.0
        if y > 0:
            z = z * x
        else:
            if x > 1:
                z = z + y
    else:
        if y > x:
            z = m.cos(z)
    return z, x * z


@case(real(-1, 1, 4), draws=10, smooth=True)
def branch_on_a_reduction(m, v):
    if m.reduce_sum(v) > 0.2:
        v = v * 2.0
    elif m.reduce_any(v > 0.4):
        v = -v
    return m.reduce_sum(v * v), v


@case(real(-1, 1, 4), real(-1, 1), truth(), draws=8, smooth=True)
def branch_on_a_bool(m, v, x, c):
    if c:
        v = v * x
    else:
        v = v + x
    return v


@case(real(-2, 2), smooth=True)
def static_and_tensor_conditions(m, x):
    use_square, factor = True, None
    if use_square:
        y = x * x
    else:
        y = x.no_such_attribute
    if factor is None and x > 0:
        y = y + 1.0
    if factor is not None and x > factor:
        y = y.no_such_attribute
    return y


@case(real(-2, 2), real(-2, 2), smooth=True)
def swap_in_a_branch(m, a, b):
    if a > b:
        a, b = b, a
    return a, b * 2.0


@case(real(-2, 2), smooth=True)
def pass_and_assert(m, x):
    assert x > -100, f"{x} is too small"
    if x > 1:
        pass
    elif x > 0:
        x = x * 2.0
    assert x == x
    return x


@case(real(-2, 2), smooth=True)
def walrus(m, x):
    if (y := x * 2.0) > 1.0:
        z = y * y
    else:
        z = y + 1.0
    return z + y


# --- returns ----------------------------------------------------------------------------------------------------------
@case(real(-2, 2), smooth=True)
def early_return(m, x):
    if x > 0:
        return x * x
    return m.exp(x)


@case(real(-4, 4), draws=12, smooth=True)
def returns_between_statements(m, x):
    y = x + 1.0
    if y > 3:
        return y
    y = y * x
    if y < 1:
        y = y - 5.0
        if x < -1:
            return y * y
        y = y * 0.5
    return y + x


@case(real(-2, 2), real(-2, 2), draws=10, smooth=True)
def returns_in_nested_branches(m, x, y):
    if x > 0:
        if y > 0:
            return x * y
        elif y > -1:
            return x + y
    else:
        if y > -0.5:
            return y
    return x - y


@case(real(-2, 2), smooth=True)
def every_branch_returns(m, x):
    if x > 1:
        return x, x * 2.0
    elif x > 0:
        return x * x, x
    else:
        return -x, m.sin(x)


@case(real(-2, 2), smooth=True)
def return_inside_try_finally(m, x):
    log = []
    try:
        if x > 0:
            return x * 2.0
        y = x * x
    finally:
        log.append("left")
    assert log == ["left"]
    return y


def _clipped(x, low, high):
    if x < low:
        return low
    if x > high:
        return high
    return x


@case(real(-2, 2), draws=10, smooth=True)
def helper_with_returns(m, x):
    return _clipped(x * 2.0, x * 0.0 - 1.0, x * 0.0 + 1.0) + _clipped(x, x - 1.0, x + 1.0)


# --- expressions ------------------------------------------------------------------------------------------------------
@case(real(-2, 2), smooth=True)
def ternary(m, x):
    return x * x if x > 0 else m.exp(x)


@case(real(-3, 3), draws=10, smooth=True)
def nested_ternaries(m, x):
    sign = 1.0 if x > 0 else -1.0
    y = (x if x < 1 else x * x) if x > 0 else (-x if x < -1 else x * 3.0)
    return y * sign + (2.0 if x > 2 else 0.5)


@case(real(-2, 2), real(-2, 2), draws=12, smooth=True)
def and_or_not(m, x, y):
    if (x > 0 and y > 0) or not (x < 1 or y > -1):
        return x * y
    if not x > 0 and y > 0:
        return x + y
    return x - y


@case(whole(0, 4), real(0.4, 1, 3), draws=24)
def and_stops_early(m, n, v):
    if n < 3 and v[n] > 0.7:
        return v[n] * 2.0
    if n >= 3 or v[n] > 0.6:
        return v[0]
    return v[1]


@case(whole(-2, 2), real(-2, 2), draws=10)
def and_or_give_operands(m, n, x):
    a = n or 7
    b = x > 0 and x
    c = n and n * 2
    return m.cast(a, m.int64), (b or -x), m.cast(c, m.int64)


@case(real(-1, 3), real(-1, 3), draws=12, smooth=True)
def chained_comparison(m, x, y):
    z = x * y
    if 0 < x < y <= 2:
        z = z + 1.0
    elif x < 0 <= y:
        z = z * 2.0
    return z


@case(whole(0, 6), draws=12)
def membership(m, n):
    if n in (1, 3, 5):
        return n * 2
    if n not in [2, 4]:
        return n + 100
    return -n


@case(whole(0, 6), whole(0, 6, 5), draws=10)
def membership_in_a_tensor(m, n, v):
    found = 1 if n in v else 0
    if n + 1 not in v:
        found = found + 10
    return n * found


@case(real(-2, 2), whole(0, 3), draws=12, smooth=True)
def chosen_function(m, x, n):
    square = lambda z: z * z  # noqa: E731
    if n == 0:
        y = square(x)
    elif n == 1:
        y = m.sin(x)
    else:
        y = (lambda z: z + 1.0 if z > 0 else z)(x)
    return y


# --- in one branch only -----------------------------------------------------------------------------------------------
@case(real(-2, 2), smooth=True)
def set_in_one_branch(m, x):
    if x > 0:
        extra = m.exp(x)
    y = x * 2.0
    if x > 0:
        y = y + extra
    return y


@case(real(-2, 2), smooth=True)
def set_and_used_in_one_branch(m, x):
    y = x
    if x > 0:
        scratch = x * x
        y = scratch + 1.0
    return y


@case(real(-2, 2), smooth=True)
def none_in_one_branch(m, x):
    extra = None
    if x > 0:
        extra = x * 2.0
    y = x + 1.0
    if extra is not None:
        y = y * extra
    return y


def _root(m, x):
    if x < 0:
        return None
    return m.sqrt(x)


@case(real(-2, 2), smooth=True)
def helper_returns_none(m, x):
    r = _root(m, x)
    if r is None:
        return x * 5.0
    return r + 1.0


@case(vector(-2, 2, 1, 6))
def best_begins_as_none(m, v):
    best, where = None, None
    for i, a in enumerate(v):
        if best is None or a > best:
            best, where = a, i
    return best, where


# --- dtypes -----------------------------------------------------------------------------------------------------------
@case(real(-2, 2), smooth=True)
def number_and_tensor(m, x):
    if x > 0:
        y = 1
    else:
        y = x * 0.5
    return y * 2.0 + x


@case(whole(-3, 3), real(-2, 2), promotes=True)
def int_and_float_tensors(m, n, x):
    if x > 0:
        y = n
    else:
        y = x
    return y


@case(whole(-3, 3), truth(), promotes=True)
def bool_and_int(m, n, c):
    return n > 0 if c else n


@case(real(-2, 2), promotes=True)
def single_and_double(m, x):
    y = m.cast(0.0, m.float32)
    if x > 0:
        y = m.cast(x, m.float64)
    return y


# --- structures -------------------------------------------------------------------------------------------------------
@case(real(-2, 2), smooth=True)
def structures_in_branches(m, x):
    if x > 0:
        pair, parts = Pair(x, (x * 2.0, x * 3.0)), {"a": x, "b": [x]}
    else:
        pair, parts = Pair(-x, (x * 4.0, x * 5.0)), {"a": x * x, "b": [m.exp(x)]}
    return pair, parts["a"] + pair.right[1], parts


@case(real(-2, 2, 3), real(-2, 2), smooth=True)
def items_in_branches(m, v, x):
    parts, values = {"a": x}, [x, x, x]
    if m.reduce_sum(v) > 0:
        parts["a"] = x * 2.0
        parts["b"] = v[0]
        values[1] = v[1]
    else:
        parts["b"] = -v[0]
        values[-1] += v[2]
    return parts, values
