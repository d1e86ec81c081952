"""When gradient functions of the user's own run, what they find then and what they do: as in plain Python."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning, GradientError

C = tj.constant


class State:
    def __init__(self):
        self.n, self.s, self.items = 0, 1.0, {"s": 1.0}


class Spied:
    """A function whose gradient function does something more than computing."""

    def __init__(self, kind):
        tj.random.set_seed(7)
        self.kind, self.state, self.log, self.v = kind, State(), [], tj.Variable(1.0)
        self.generator, self.rng = tj.random.Generator.from_seed(5), np.random.default_rng(3)
        self.numbers = iter(range(99))
        self.said = []  # by functions that stay Python, which say it while the program runs

        def more(u):
            return KINDS[kind](self, u)

        @tj.custom_gradient
        def spy(x):
            def grad(u, variables=None):
                made = more(u)
                return made if variables is None else (made, [None] * len(variables))

            return x * x, grad

        self.spy = spy

    def change(self, k):
        self.state.s = self.state.items["s"] = k

    def seen(self):
        return [float(x) if isinstance(x, tj.Tensor) else x for x in self.log], self.state.n, float(self.v), self.said


def _counts(s, u):
    s.state.n += 1
    return u * 2.0


def _appends(s, u):
    s.log.append(tj.reduce_sum(u))
    return u * 2.0


def _prints(s, u):
    print("the gradient", u)
    return u * 2.0


def _prints_tensors(s, u):
    tj.print("the gradient", u, output_stream=s.said.append)
    return u * 2.0


def _assigns(s, u):
    s.v.assign_add(u)
    return u * s.v


def _calls_python(s, u):
    def told(x):
        s.said.append(float(x))
        return x * 2.0

    return tj.py_function(told, [u], tj.float32)


def _raises(s, u):
    raise KeyError("no gradient")


def _raises_perhaps(s, u):
    if u > 1.5:
        raise ValueError("too steep")
    return u


def _asserts(s, u):
    tj.debugging.assert_less(u, 1.5)
    return u


KINDS = {
    "counts": _counts, "appends": _appends, "prints": _prints, "prints tensors": _prints_tensors, "assigns": _assigns,
    "calls Python": _calls_python, "raises": _raises, "raises perhaps": _raises_perhaps, "asserts": _asserts,
    "draws": lambda s, u: u * tj.random.normal(()), "draws from a generator": lambda s, u: u * s.generator.normal(()),
    "draws from NumPy": lambda s, u: u * float(s.rng.normal()),
    "takes the next": lambda s, u: u * float(next(s.numbers)),
    "reads an attribute": lambda s, u: u * s.state.s, "reads an item": lambda s, u: u * s.state.items["s"],
    "reads a Variable": lambda s, u: u * s.v,
}  # fmt: skip


def _no_tape(wrap, s):
    f = wrap(lambda x: s.spy(x * 3.0) + 1.0)
    return [f(C(2.0)), f(C(3.0))]


def _in_parts_and_no_tape(wrap, s):
    @wrap
    def f(x, n):
        for _ in tj.range(n):
            if x > 0.5:
                x = s.spy(x * 0.3)
        return x

    return [f(C(2.0), C(n)) for n in (0, 1, 3)]


def _outside(wrap, s, asked=1, persistent=False):
    f, out = wrap(lambda x: s.spy(x * 3.0) + 1.0), []
    for k in (2.0, 3.0):
        x = C(k)
        with tj.GradientTape(persistent=persistent) as t:
            t.watch(x)
            out.append(f(x))
        s.log.append("between")
        out += [t.gradient(out[-1], x) for _ in range(asked)]
        s.log.append("after")
    return out


def _outside_not_asked(wrap, s):
    return _outside(wrap, s, 0)


def _outside_twice(wrap, s):
    f, x = wrap(lambda x: s.spy(x * 3.0)), C(2.0)
    with tj.GradientTape(persistent=True) as t:
        t.watch(x)
        y = f(x)
    return [t.gradient(y, x), t.gradient(y, x)]


def _outside_of_another_result(wrap, s):
    f, out = wrap(lambda x, z: (s.spy(x * 3.0), z * z)), []
    for k in (2.0, 3.0):
        x, z = C(k), C(k)
        with tj.GradientTape() as t:
            t.watch([x, z])
            _, w = f(x, z)
        out.append(t.gradient(w, z))
    return out


def _inside(wrap, s):
    @wrap
    def f(x, k):
        s.change(1.0)
        with tj.GradientTape() as t:
            t.watch(x)
            y = s.spy(x * 3.0)
        s.log.append("between")
        s.change(k)
        s.v.assign(k + 4.0)
        g = t.gradient(y, x)
        s.log.append("after")
        return y, g

    return [f(C(2.0), C(2.0)), f(C(3.0), C(3.0))]


def _inside_not_asked(wrap, s):
    @wrap
    def f(x):
        with tj.GradientTape() as t:
            t.watch(x)
            y = s.spy(x * 3.0)
            z = x * x
        return y, t.gradient(z, x)

    return [f(C(2.0)), f(C(3.0))]


def _called_in_a_branch(wrap, s):
    @wrap
    def f(x, k):
        s.change(1.0)
        with tj.GradientTape() as t:
            t.watch(x)
            y = x * 2.0
            if x > 2.5:
                y = s.spy(y)
        s.log.append("between")
        s.change(k)
        s.v.assign(k)
        return y, t.gradient(y, x)

    return [f(C(2.0), C(5.0)), f(C(3.0), C(6.0)), f(C(4.0), C(7.0))]


def _called_in_a_loop(wrap, s):
    @wrap
    def f(x, n):
        with tj.GradientTape() as t:
            t.watch(x)
            y = x
            for _ in tj.range(n):
                y = s.spy(y * 0.3)
        s.log.append("between")
        return y, t.gradient(y, x)

    return [f(C(2.0), C(n)) for n in (0, 1, 3)]


def _asked_in_a_branch(wrap, s):
    @wrap
    def f(x):
        with tj.GradientTape() as t:
            t.watch(x)
            y = s.spy(x * 3.0)
        g = x
        if x > 2.5:
            g = t.gradient(y, x)
        return g

    return [f(C(2.0)), f(C(3.0))]


def _all_in_a_loop(wrap, s):
    @wrap
    def f(x, n):
        for _ in tj.range(n):
            with tj.GradientTape() as t:
                t.watch(x)
                y = s.spy(x * 0.3)
            x = x + 0.1 * t.gradient(y, x)
        return x

    return [f(C(2.0), C(n)) for n in (0, 1, 3)]


def _second_order_inside(wrap, s):
    @wrap
    def f(x):
        with tj.GradientTape() as outer:
            outer.watch(x)
            with tj.GradientTape() as t:
                t.watch(x)
                y = s.spy(x * x)
            g = t.gradient(y, x)
        return g, outer.gradient(g, x)

    return [f(C(2.0)), f(C(3.0))]


def _second_order_outside(wrap, s):
    f, out = wrap(lambda x: s.spy(x * x)), []
    for k in (2.0, 3.0):
        x = C(k)
        with tj.GradientTape() as outer:
            outer.watch(x)
            with tj.GradientTape() as t:
                t.watch(x)
                y = f(x)
            g = t.gradient(y, x)
        out += [g, outer.gradient(g, x)]
    return out


def _recomputed(wrap, s):
    again = tj.recompute_grad(lambda x: s.spy(x * 3.0))

    @wrap
    def f(x):
        with tj.GradientTape() as t:
            t.watch(x)
            y = again(x)
        s.log.append("between")
        return y, t.gradient(y, x)

    return [f(C(2.0)), f(C(3.0))]


def _forward_mode(wrap, s):
    f = wrap(lambda x: s.spy(x * 3.0))
    g = wrap(lambda x: tj.jvp(f, (x,), (C(1.0),)))
    return tj.jvp(f, (C(2.0),), (C(1.0),)), g(C(3.0))


def _a_vjp_called_twice(wrap, s):
    f = wrap(lambda x: s.spy(x * 3.0))
    y, back = tj.vjp(f, C(2.0))
    s.log.append("between")
    return y, back(C(0.5)), back(C(1.0))


SCENES = [
    _no_tape, _in_parts_and_no_tape, _outside, _outside_not_asked, _outside_twice, _outside_of_another_result, _inside,
    _inside_not_asked, _called_in_a_branch, _called_in_a_loop, _asked_in_a_branch, _all_in_a_loop, _second_order_inside,
    _second_order_outside, _recomputed, _forward_mode, _a_vjp_called_twice,
]  # fmt: skip
UNDER_NO_TAPE = {_no_tape, _in_parts_and_no_tape, _inside_not_asked}


def _numbers(x):
    if isinstance(x, (list, tuple)):
        return [_numbers(y) for y in x]
    return x if x is None else np.round(float(x), 4).tolist()


def _play(scene, kind, wrap, capsys):
    s = Spied(kind)
    try:
        out = _numbers(scene(wrap, s))
    except (KeyError, ValueError, tj.errors.ArgumentError) as e:
        return type(e), capsys.readouterr().out
    return out, s.seen(), capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", SCENES)
def test_it_runs_when_it_is_asked_for(scene, kind, capsys):
    plain = _play(scene, kind, lambda f: f, capsys)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert _play(scene, kind, tj.function, capsys) == plain
    assert {w.category for w in said} <= {ConversionWarning} and len(said) <= 2  # one for each traced function
    assert not (said and scene in UNDER_NO_TAPE)


# --- what it reads ----------------------------------------------------------------------------------------------------
def _reading(kind):
    """A function whose gradient function reads a Variable, or an attribute, and what changes that."""
    state, v = State(), tj.Variable(np.ones(50, np.float32))

    @tj.custom_gradient
    def scale(x):
        def grad(u, variables=None):
            made = u * v if kind == "variable" else u * state.s
            return made if variables is None else (made, [None])

        return x * 2.0, grad

    def change(k):
        state.s = k
        v.assign_add(tj.ones((50,)) * k)

    return scale, change, v


def test_variables_are_read_when_the_gradient_is_asked(twins):
    @twins
    def scene(wrap):
        scale, change, v = _reading("variable")
        f, out = wrap(lambda x: tj.reduce_sum(tj.sin(scale(x)))), []
        update = wrap(lambda k: (v.assign_add(tj.ones((50,)) * k), None)[1])
        for k in (1.0, 2.0, 3.0):
            x = tj.ones((50,)) * k
            with tj.GradientTape(persistent=True) as t:
                t.watch(x)
                y = f(x)
            out.append(t.gradient(y, x))
            change(k)
            out.append(t.gradient(y, x))
            update(C(k))
            out.append(t.gradient(y, x))
        return out


@pytest.mark.parametrize("when", ["before", "after"])
def test_variables_that_the_function_assigns_itself(when, twins):
    def scene(wrap):
        scale, _, v = _reading("variable")

        @wrap
        def f(x):
            if when == "before":
                v.assign_add(x)
            y = scale(x)
            if when == "after":
                v.assign_add(x)
            return y

        out = []
        for k in (1.0, 2.0):
            x = tj.ones((50,)) * k
            with tj.GradientTape() as t:
                t.watch(x)
                y = f(x)
            out.append(t.gradient(y, x))
        return out

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        twins(scene)
    assert len(said) == (when == "after")


def test_a_layer_in_a_loop_that_reads_its_weights_stays_compiled(twins):
    @twins
    def scene(wrap):
        scale, _, v = _reading("variable")

        @wrap
        def f(x, n):
            v.assign_add(x)
            with tj.GradientTape() as t:
                t.watch(x)
                y = x
                for _ in tj.range(n):
                    y = scale(y)
            return t.gradient(y, x)

        return [f(tj.ones((50,)) * float(n), C(n)) for n in (1, 3)]


def test_a_loop_that_assigns_them():
    def scene(wrap):
        scale, _, v = _reading("variable")

        @wrap
        def f(x, n):
            with tj.GradientTape() as t:
                t.watch(x)
                y = x
                for _ in tj.range(n):
                    y = scale(y)
                    v.assign_add(x)
            return t.gradient(y, x)

        return [f(tj.ones((50,)) * float(n), C(n)).numpy().tolist() for n in (1, 3)]

    with pytest.warns(ConversionWarning, match="reads 'Variable:0', which has been assigned since"):
        assert scene(tj.function) == scene(lambda f: f)


def test_attributes_that_have_changed_since():
    scale, change, _ = _reading("attribute")
    f, x = tj.function(lambda x: scale(x)), C(2.0)
    for k in (1.0, 2.0, 3.0, 4.0, 5.0):
        change(k)
        with tj.GradientTape(persistent=True) as t:
            t.watch(x)
            y = f(x)
        assert float(t.gradient(y, x)) == k
    change(7.0)
    with pytest.raises(GradientError, match=r"scale reads attribute State\.s, which has changed since"):
        t.gradient(y, x)


def test_variables_of_a_branch_that_have_changed_since():
    scale, change, _ = _reading("variable")

    @tj.function
    def f(x):
        if tj.reduce_sum(x) > 0.0:
            x = scale(x)
        return x

    x = tj.ones((50,))
    with tj.GradientTape(persistent=True) as t:
        t.watch(x)
        y = f(x)
    assert t.gradient(y, x).numpy().tolist() == [1.0] * 50
    change(7.0)
    with pytest.raises(ConversionError, match="reads 'Variable:0', which has been assigned since"):
        t.gradient(y, x)


def test_it_is_not_traced_unless_a_tape_listens():
    calls = []

    def told():
        calls.append(tj.inside_function())

    @tj.custom_gradient
    def f(x):
        def grad(u):
            tj.py_function(told, [], [])
            return u

        return x * 2.0, grad

    g = tj.function(lambda x: f(x) + 1.0, strict=True)
    assert float(g(C(1.0))) == 3.0 and calls == []
    with pytest.raises(ConversionError, match="the gradient function of f prints, or calls Python"):
        with tj.GradientTape() as t:
            t.watch(x := C(1.0))
            g(x)
    assert float(g(C(2.0))) == 5.0


# --- tapes ------------------------------------------------------------------------------------------------------------
def test_a_tape_is_asked_in_both_branches(twins):
    @twins
    def scene(wrap):
        state = State()

        @wrap
        def f(x):
            with tj.GradientTape() as t:
                t.watch(x)
                y = x * x
            if x > 2.0:
                g = t.gradient(y, x)
                state.n += 1
            else:
                g = 3.0 * t.gradient(y, x)
            return g

        return [f(C(1.0)), f(C(3.0))], state.n


def test_a_tape_gives_one_gradient_in_a_trace_too():
    @tj.function
    def f(x):
        with tj.GradientTape() as t:
            t.watch(x)
            y = x * x
        if x > 2.0:
            x = t.gradient(y, x)
            x = t.gradient(y, x)
        return x

    with pytest.raises(GradientError, match="one gradient only"):
        f(C(1.0))


def test_checks_of_gradients_that_are_not_asked(twins):
    @twins
    def scene(wrap):
        @tj.custom_gradient
        def square(x):
            def grad(u):
                tj.debugging.assert_positive(u)
                return u * x

            return x * x, grad

        f, x, z = wrap(lambda x, z: (square(x), z * z)), C(2.0), C(3.0)
        with tj.GradientTape(persistent=True) as t:
            t.watch([x, z])
            y, w = f(x, z)
        return t.gradient(w, z), t.gradient(y, x), t.gradient([y, w], [x, z])


def test_recomputed_functions_keep_what_gradients_assign(twins):
    @twins
    def scene(wrap):
        v = tj.Variable(2.0)

        @tj.custom_gradient
        def spy(x):
            def grad(u, variables=None):
                v.assign_add(1.0)
                return u * v, [None]

            return x * v, grad

        again, x = tj.recompute_grad(lambda x: spy(x) * 2.0), C(3.0)
        with tj.GradientTape() as t:
            t.watch(x)
            y = again(x)
        return t.gradient(y, x), float(v)


def test_variables_that_have_changed_since_where_python_is_called():
    scale, change, _ = _reading("variable")
    numbers = iter(np.arange(9.0, dtype=np.float32))
    f, x = tj.function(lambda x: scale(x * next(numbers))), tj.ones((50,))
    with tj.GradientTape(persistent=True) as t:
        t.watch(x)
        y = f(x)
    t.gradient(y, x)
    change(7.0)
    with pytest.raises(GradientError, match="scale reads 'Variable:0', which has changed since"):
        t.gradient(y, x)


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
@pytest.mark.parametrize("asked", [False, True])
def test_checks_of_what_the_forward_part_knows(asked, twins):
    @twins
    def scene(wrap):
        @tj.custom_gradient
        def square(x):
            def grad(u):
                tj.debugging.assert_less(x, 1.5)
                return u * 2.0

            return x * x, grad

        f, out = wrap(lambda x: square(x * 1.0)), []
        for k in (1.0, 2.0):
            x = C(k)
            with tj.GradientTape() as t:
                t.watch(x)
                y = f(x)
            out.append(y)
            try:
                out.append(t.gradient(y, x) if asked else None)
            except tj.errors.ArgumentError:
                out.append("too large")
        return out
