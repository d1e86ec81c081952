"""The corpus: attributes, items, closures, globals, methods, helpers and recursion in branches and loops."""

import contextlib
import dataclasses
import functools

from control_flow_branches import Pair
from control_flow_corpus import case, real, vector, whole

TOTAL = 0.0


# --- closures and globals ---------------------------------------------------------------------------------------------
@case(vector(-1, 1, 2, 6), smooth=True)
def global_changed_in_a_loop(m, v):
    global TOTAL
    TOTAL = v[0] * 0.0
    for a in v:
        TOTAL = TOTAL + a * a
    result, TOTAL = TOTAL, 0.0
    return result


def _add_to_total(a):
    global TOTAL
    if a > 0:
        TOTAL = TOTAL + a


@case(vector(-1, 1, 2, 6), smooth=True)
def global_changed_by_a_helper(m, v):
    global TOTAL
    TOTAL = v[0] * 0.0
    for a in v:
        _add_to_total(a)
    result, TOTAL = TOTAL, 0.0
    return result


@case(vector(-1, 1, 2, 6), smooth=True)
def nonlocal_changed_in_a_loop(m, v):
    total, calls = v[0] * 0.0, 0

    def add(a):
        nonlocal total, calls
        if a > 0:
            total = total + a
        calls += 1

    for a in v:
        add(a)
    return total, calls


@case(real(-1, 1), smooth=True)
def nonlocal_changed_in_a_branch(m, x):
    y = x

    def grow():
        nonlocal y
        y = y * 2.0

    if x > 0:
        grow()
    else:
        grow()
        grow()
    return y


@case(whole(1, 5), real(-1, 1), smooth=True)
def lambda_sees_the_new_value(m, n, x):
    y = x * 0.0
    read = lambda: y + x  # noqa: E731
    i = 0
    while i < n:
        y = y + read()
        i += 1
    return y, read()


@case(vector(-1, 1, 2, 5), smooth=True)
def function_made_in_a_loop(m, v):
    total = v[0] * 0.0
    for i, a in enumerate(v):

        def scaled(z, k=i):
            return z * a * k

        total = total + scaled(total + 1.0)
    return total


@case(real(-1, 1), whole(0, 4), smooth=True)
def functions_made_by_functions(m, x, n):
    def power(k):
        def apply(z):
            y = z * 0.0 + 1.0
            for _ in range(k):
                y = y * z
            return y

        return apply

    square, nth = power(2), power(n)
    return square(x) + nth(x)


@case(vector(-1, 1, 2, 5), smooth=True)
def map_partial_and_star_arguments(m, v):
    def weighted(k, *xs, bias=0.0, **more):
        total = bias
        for a in xs:
            if a > 0:
                total = total + a * k
        return total + more.get("shift", 0.0)

    half = functools.partial(weighted, 0.5, bias=v[0])
    return half(v[0], v[1], shift=1.0) + sum(map(lambda a: a * a if a > 0 else a, v))  # noqa: C417


# --- objects ----------------------------------------------------------------------------------------------------------
class Counter:
    """Methods that change their object under conditions."""

    def __init__(self, start):
        self.value, self.count = start, 0

    def add(self, a):
        if a > 0:
            self.value = self.value + a
        else:
            self.lower(a)
        self.count += 1

    def lower(self, a):
        self.value = self.value + a * 0.5

    @property
    def doubled(self):
        return self.value * 2.0 if self.value > 0 else self.value

    def __call__(self, a):
        self.add(a)
        return self.value


class Bounded(Counter):
    def add(self, a):
        if self.value < 1:
            super().add(a)


@case(vector(-1, 1, 2, 6), smooth=True)
def attributes_changed_in_a_loop(m, v):
    c = Counter(v[0] * 0.0)
    for a in v:
        if a > 0:
            c.value = c.value + a
        c.count += 1
    return c.value, c.count


@case(vector(-1, 1, 2, 6), smooth=True)
def methods_that_change_their_object(m, v):
    c = Counter(v[0] * 0.0)
    for a in v:
        c.add(a)
    return c.value, c.count, c.doubled


@case(vector(-1, 1, 3, 7), draws=8, smooth=True)
def methods_of_base_classes(m, v):
    c, total = Bounded(v[0] * 0.0), v[0] * 0.0
    for a in v:
        total = total + c(a)
    return total, c.count


@dataclasses.dataclass
class State:
    x: object
    inner: object = None


@case(real(-1, 1), whole(0, 4), smooth=True)
def nested_attributes(m, x, n):
    s = State(x, State(x * 2.0))
    for i in m.range(n):
        s.inner.x = s.inner.x * 0.5 + s.x
        if i > 1:
            s.x = s.x + 1.0
    return s.x, s.inner.x


@case(real(-1, 1), smooth=True)
def attribute_made_in_a_branch(m, x):
    s = State(x)
    if x > 0:
        s.extra = x * 3.0
    else:
        s.extra = -x
    return s.extra + s.x


@case(vector(-1, 1, 2, 6), smooth=True)
def new_objects_in_a_loop(m, v):
    s = State(v[0] * 0.0)
    for a in v:
        s = State(s.x + a, None)
        if a > 0.3:
            s = dataclasses.replace(s, x=s.x * 2.0)
    return s.x


# --- items ------------------------------------------------------------------------------------------------------------
@case(vector(-1, 1, 2, 6), smooth=True)
def items_of_a_dict(m, v):
    d = {"up": v[0] * 0.0, "down": v[0] * 0.0, "n": 0}
    for a in v:
        if a > 0:
            d["up"] += a
        else:
            d["down"] = d["down"] - a
        d["n"] += 1
    return d


@case(real(-1, 1, 3), whole(0, 5), smooth=True)
def items_of_a_list(m, v, n):
    xs = [v[0], v[1], v[2]]
    for _ in m.range(n):
        xs[0] = xs[1] * 0.5 + xs[2]
        if xs[0] > 0:
            xs[1], xs[2] = xs[2], xs[0]
        xs[-1] -= 0.1
    return xs


@case(real(-1, 1, 3), whole(0, 4), smooth=True)
def items_of_nested_containers(m, v, n):
    s = {"layers": [{"w": v[0]}, {"w": v[1]}], "step": 0}
    while s["step"] < n:
        for k, layer in enumerate(s["layers"]):
            layer["w"] = layer["w"] * v[2] + k
        s["step"] += 1
    return s["layers"][0]["w"] + s["layers"][1]["w"], s["step"]


@case(real(-1, 1), whole(0, 5), smooth=True)
def tuples_carried_by_a_loop(m, x, n):
    state = (x, (x * 2.0, 0))
    for _ in range(n):
        a, (b, k) = state
        state = (b * 0.5, (a + b, k + 1))
    return state


@case(real(-1, 1), whole(0, 5), smooth=True)
def namedtuples_carried_by_a_loop(m, x, n):
    p = Pair(x, 1.0)
    while n > 0:
        p = p._replace(left=p.left + p.right * 0.25)
        if p.left > 0.5:
            p = Pair(p.right * x, p.left)
        n = n - 1
    return p


@case(real(-1, 1, 4), smooth=True)
def static_containers_of_tensors(m, v):
    parts = {"a": v[:2], "b": v[2:]}
    total, names = v[0] * 0.0, []
    for name, part in parts.items():
        if m.reduce_sum(part) > 0:
            total = total + m.reduce_sum(part * part)
        names.append(name)
    for f, k in zip((m.sin, m.cos), (1.0, 2.0)):
        if total < k:
            total = total + f(total)
    first, *rest = [total, v[0], v[1]]
    return first + rest[-1] * len(names)


@case(real(-1, 1), smooth=True)
def list_used_as_a_stack(m, x):
    todo, total = [x, x * 2.0, x * 3.0], x * 0.0
    while todo:
        a = todo.pop()
        if a > 0.5:
            total = total + a
        else:
            total = total - a * a
    return total


# --- calls ------------------------------------------------------------------------------------------------------------
def _power(m, x, n):
    if n == 0:
        return m.ones_like(x)
    half = _power(m, x, n // 2)
    return half * half * x if n % 2 else half * half


@case(real(-1, 1, 3), smooth=True)
def recursion_on_a_number(m, v):
    return _power(m, v, 5) + _power(m, v, 2)


def _tree(m, v, depth):
    if depth == 0:
        return m.reduce_sum(v)
    left, right = _tree(m, v * 0.5, depth - 1), _tree(m, v + 1.0, depth - 1)
    if left > right:
        return left - right
    return right * 0.25


@case(real(-3, 3, 2), smooth=True)
def recursion_with_tensor_branches(m, v):
    return _tree(m, v, 2)


def _settled(m, x):
    while x > 1:
        x = x * 0.5
    return x


@case(vector(0.5, 9, 2, 5), smooth=True)
def loop_in_a_helper_in_a_loop(m, v):
    total = v[0] * 0.0
    for a in v:
        total = total + _settled(m, a)
    return _settled(m, total)


def _collect(out, a):
    if a > 0:
        out.append(a)
    else:
        out.append(a * a)


@case(vector(-1, 1, 2, 6), smooth=True)
def helper_appends(m, v):
    out = []
    for a in v:
        _collect(out, a)
    return m.stack(out)


@contextlib.contextmanager
def _logged(log, name):
    log.append(f"{name} begins")
    try:
        yield
    finally:
        log.append(f"{name} ends")


@case(vector(-1, 1, 2, 5), smooth=True)
def with_around_and_in_a_loop(m, v):
    log, total = [], v[0] * 0.0
    with _logged(log, "outer"):
        for a in v:
            with contextlib.nullcontext():
                if a > 0:
                    total = total + a
    assert log == ["outer begins", "outer ends"]
    return total


@case(vector(-1, 1, 2, 5), smooth=True)
def try_in_a_loop(m, v):
    total = v[0] * 0.0
    for a in v:
        try:
            if a > 0.2:
                total = total + a
                continue
            total = total - a
        finally:
            total = total * 1.5
    return total


@case(vector(-1, 1, 2, 5), smooth=True)
def exception_caught_on_the_static_path(m, v):
    options = {"gain": 2.0}
    try:
        bias = options["bias"]
    except KeyError:
        bias = 0.25
    if m.reduce_sum(v) > 0:
        return v * options["gain"] + bias
    return v - bias
