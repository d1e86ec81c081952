"""Functions that stay Python in a traced one: the Variables that they see and assign, random numbers, derivatives."""

import concurrent.futures
import contextvars
import functools
import gc
import itertools
import pickle
import threading
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ControlFlowError, ConversionWarning

VECTOR = tj.TensorSpec((3,), tj.float32)


def _assigned_around(wrap):
    v = tj.Variable(1.0)
    seen = []

    def bump(x):
        seen.append(float(v))
        v.assign_add(x)
        return v * 1.0

    @wrap
    def f(x):
        v.assign_add(100.0)
        y = tj.py_function(bump, [x], tj.float32)
        v.assign_add(1000.0)
        return v * 1.0, y

    return [[float(q) for q in f(tj.constant(1.0))] + [float(v)] for _ in range(3)], seen


def _a_model_is_updated(wrap):
    class Model(tj.Module):
        def __init__(self):
            super().__init__()
            self.w = tj.Variable([1.0, 2.0, 3.0])
            self.steps = tj.Variable(0, trainable=False)

        def __call__(self, x):
            return tj.reduce_sum(self.w * x)

    m, o = Model(), tj.optimizers.SGD(0.1)

    def train(x):
        with tj.GradientTape() as t:
            loss = m(x) ** 2
        o.apply_gradients([(t.gradient(loss, m.w), m.w)])
        m.steps.assign_add(1)
        return loss

    @wrap
    def f(x):
        before = m(x)
        loss = tj.py_function(train, [x], tj.float32)
        return before, loss, m(x)

    return [[float(q) for q in f(tj.ones((3,)))] for _ in range(3)], int(m.steps)


def _in_branches_and_loops(wrap):
    v, log = tj.Variable(1.0), []

    def host(x):
        log.append(float(v))
        v.assign(v * 2.0 + x)
        return tj.identity(v)

    @wrap
    def f(x, n):
        y = x
        for i in tj.range(n):
            if y > 5.0:
                v.assign_sub(1.0)
            else:
                y = y + tj.py_function(host, [x], tj.float32)
            v.assign_add(0.5)
        return y, tj.identity(v)

    return [[float(q) for q in f(tj.constant(1.0), tj.constant(n))] for n in (0, 1, 4)], log


def _random_numbers(wrap):
    tj.random.set_seed(3)
    g = tj.random.Generator.from_seed(5)

    @wrap
    def f(x):
        a = tj.random.normal(())
        b = tj.py_function(lambda q: q + tj.random.normal(()) + g.normal(()), [x], tj.float32)
        c = tj.numpy_function(lambda q: np.float32(q + float(tj.random.uniform(()))), [x], tj.float32)
        return a, b, c, tj.random.normal(()), g.uniform(())

    return [[float(q) for q in f(tj.constant(0.0))] for _ in range(3)]


def _a_gradient(wrap):
    log, v, w = [], tj.Variable(3.0), tj.Variable(2.0)

    def g(x):
        log.append(float(x))
        return x * x * len(log) * w

    @wrap
    def f(x):
        with tj.GradientTape() as t:
            y = tj.py_function(g, [v * x], tj.float32)
        return y, *t.gradient(y, [v, w])

    return [[float(q) for q in f(tj.constant(1.0))] for _ in range(3)], log


def _a_gradient_asked_for_outside(wrap):
    log, w = [], tj.Variable(2.0)

    def g(x):
        log.append(1)
        return x * x * len(log) * w

    @wrap
    def f(x):
        return tj.py_function(g, [x * 2.0], VECTOR) + x

    out = []
    for k in range(3):
        x = tj.constant([1.0, 2.0, 3.0]) + float(k)
        with tj.GradientTape(persistent=True) as t:
            t.watch(x)
            y = f(x)
        out += [t.gradient(y, [x, w]), t.gradient(y, w)]
        f(x)
    return out, log


def _tangents(wrap):
    log = []

    def g(x):
        log.append(1)
        return tj.sin(x) * len(log)

    @wrap
    def f(x):
        return tj.py_function(g, [x * 2.0], VECTOR)

    @wrap
    def both(x):
        return tj.jvp(lambda q: tj.py_function(g, [q], VECTOR), (x,), (x * 2.0,))

    x = tj.constant([1.0, 2.0, 3.0])
    return f(x), both(x), both(x), log


def _a_gradient_of_a_loop(wrap):
    log = []

    def g(x):
        log.append(float(x))
        return x * x * (1.0 + 0.1 * len(log))

    @wrap
    def f(x, n):
        with tj.GradientTape() as t:
            t.watch(x)
            y = x
            for i in tj.range(n):
                y = tj.py_function(g, [y], tj.float32) + 0.5
        return y, t.gradient(y, x)

    return [[float(q) for q in f(tj.constant(0.5), tj.constant(n))] for n in (1, 3)], log


def _a_generator_draws(wrap):
    tj.random.set_seed(1)

    def data():
        while True:
            yield tj.random.normal((2,))

    it = data()

    @wrap
    def f(x):
        return x * tj.random.uniform(()) + next(it)

    return [f(tj.constant(1.0)) for _ in range(3)]


def _a_generator_of_tensors(wrap):
    def data():
        for i in range(4):
            yield tj.constant([float(i)]) * 2.0, tj.constant(i)

    it = data()

    @wrap
    def f(x):
        a, b = next(it)
        return x * a, b

    return [f(tj.constant(1.0)) for _ in range(4)]


def _a_cycle(wrap):
    numbers = itertools.cycle([1.0, 2.0, 3.0])

    @wrap
    def f(x):
        return x * next(numbers)

    return [f(tj.constant(1.0)) for _ in range(5)]


SCENES = [
    _assigned_around, _a_model_is_updated, _in_branches_and_loops, _random_numbers, _a_gradient,
    _a_gradient_asked_for_outside, _tangents, _a_gradient_of_a_loop,
    _a_generator_of_tensors, _a_cycle,
]  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
def test_python_called_from_a_program_acts_as_in_python(scene, twins):
    twins(scene)


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_generators_that_draw_numbers_keep_their_place_in_the_stream(twins):
    twins(_a_generator_draws)


def test_a_cycle_of_strings_stays_in_step():
    letters, out = itertools.cycle("abc"), []

    @tj.function
    def f(x):
        out.append(next(letters))
        return x

    with pytest.warns(ConversionWarning, match="next"):
        for _ in range(4):
            f(tj.constant(0.0))
    assert out == ["a", "b", "c", "a"]


def test_effects_of_a_function_happen_once_for_its_hessian(twins):
    @twins
    def scene(wrap):
        log = []

        @wrap
        def f(x):
            log.append(1)
            print("f runs")
            return tj.sin(x) * x

        return tj.hessian(f)(tj.constant(2.0)), log


# --- derivatives of derivatives ---------------------------------------------------------------------------------------
def _counting():
    log = []

    def fourth(x):
        log.append(float(x))
        return x * x * x * x * float(len(log))

    return log, lambda x: tj.py_function(fourth, [x], tj.float32) * 1.0


def _gradient(f, x):
    with tj.GradientTape() as t:
        t.watch(x)
        y = f(x)
    return t.gradient(y, x)


def _second(f, x):
    return _gradient(f, x), _gradient(lambda q: _gradient(f, q), x)


def _third(f, x):
    return _gradient(lambda q: _gradient(lambda r: _gradient(f, r), q), x)


def _forward(f, x):
    return tj.jvp(f, (x,), (x * 0.5,))


def _forward_twice(f, x):
    return tj.jvp(lambda q: tj.jvp(f, (q,), (x,))[1], (x,), (x * 0.5,))


def _forward_over_reverse(f, x):
    return tj.jvp(lambda q: _gradient(f, q), (x,), (x * 0.5,))


def _reverse_over_forward(f, x):
    return _gradient(lambda q: tj.jvp(f, (q,), (x,))[1], x)


def _hessian(f, x):
    return tj.hvp(f, (x,), (x,)), tj.hessian(f)(x)


HIGHER = [_second, _third, _forward, _forward_twice, _forward_over_reverse, _reverse_over_forward, _hessian]


@pytest.mark.parametrize("derive", HIGHER)
@pytest.mark.parametrize("where", ["outside", "inside", "between"])
def test_higher_derivatives_call_the_function_as_often_as_in_python(derive, where, twins):
    @twins
    def scene(wrap):
        log, f = _counting()
        if where == "outside":
            f = wrap(f)
        elif where == "between":
            inner = f
            f = wrap(lambda x: _gradient(inner, x))
        g = wrap(lambda x: derive(f, x)) if where == "inside" else lambda x: derive(f, x)
        return [g(tj.constant(k)) for k in (2.0, 3.0)], log


# --- Variables that the code of such a function does not name ---------------------------------------------------------
class Holder:
    def __init__(self, x):
        self.x = x


def _by_weak_reference(v):
    r = weakref.ref(v)
    return lambda: r()


def _in_a_weak_dictionary(v):
    d = weakref.WeakValueDictionary({1: v})
    return lambda: d[1]


def _of_a_thread(v):
    kept = threading.local()
    kept.hidden = v
    return lambda: vars(kept)["hid" + "den"]


def _in_a_context(v):
    kept = contextvars.ContextVar("kept", default=v)
    return lambda: kept.get()


def _by_a_cached_function(v):
    return functools.lru_cache(lambda: v)


def _by_an_iterator(v):
    it = itertools.repeat(v)
    return lambda: next(it)


def _by_a_default(v):
    return lambda v=v: v


def _by_a_name_that_is_computed(v):
    h = Holder(v)
    return lambda: getattr(h, "xyz"[:1])


FOUND = [
    _by_weak_reference, _in_a_weak_dictionary, _of_a_thread, _in_a_context, _by_a_cached_function, _by_an_iterator,
    _by_a_default, _by_a_name_that_is_computed,
]  # fmt: skip


def _hidden(x):
    """A way that no code tells."""
    at = id(x)
    return lambda: next(y for y in gc.get_objects() if id(y) == at)


@pytest.mark.parametrize("way", FOUND)
def test_ways_to_variables_that_are_found(way, twins):
    @twins
    def scene(wrap):
        v, seen = tj.Variable(1.0), []
        get = way(v)

        def host(x):
            seen.append(float(get()))
            get().assign_add(x)
            return x

        @wrap
        def f(x):
            v.assign_add(10.0)
            y = tj.py_function(host, [x], tj.float32)
            v.assign_add(100.0)
            return y + v

        return [float(f(tj.constant(1.0))) for _ in range(2)], seen, float(v)


def test_hidden_variables_that_the_program_does_not_go_on_with(twins):
    @twins
    def scene(wrap):
        v, w, seen = tj.Variable(1.0), tj.Variable(2.0), []
        get, get_w = _hidden(v), _hidden(w)

        def host(x):
            seen.append((float(get()), get_w().shape.as_list(), get_w().dtype.name))
            get().assign_add(x)
            return x

        @wrap
        def f(x):
            w.assign_add(x)
            return tj.py_function(host, [x * v], tj.float32)

        return [float(f(tj.constant(1.0))) for _ in range(3)], seen, float(v), type(w) is tj.Variable


def _reads_what_was_assigned(v, host, x):
    v.assign_add(x)
    return tj.py_function(host, [x], tj.float32)


def _reads_it_in_a_loop(v, host, x):
    for _ in tj.range(tj.cast(x, tj.int32)):
        x = tj.py_function(host, [x], tj.float32)
        v.assign_add(x)
    return x


def _reads_it_in_a_branch(v, host, x):
    v.assign_add(x)
    if x > 0.0:
        x = tj.py_function(host, [x], tj.float32)
    return x


@pytest.mark.parametrize("scene", [_reads_what_was_assigned, _reads_it_in_a_loop, _reads_it_in_a_branch])
@pytest.mark.parametrize("caught", [False, True])
def test_hidden_variables_that_hold_something_else_by_then(scene, caught):
    v = tj.Variable(1.0)
    get = _hidden(v)

    def host(x):
        try:
            return x + get()
        except ControlFlowError:
            if caught:
                return x
            raise

    f = tj.function(lambda x: scene(v, host, x))
    for _ in range(2):
        with pytest.raises(ControlFlowError, match="host reads 'Variable:0', which the traced function has assigned"):
            f(tj.constant(2.0))
        assert float(v) == 1.0 and type(v) is tj.Variable
    named = tj.function(lambda x: scene(v, lambda x, v=v: x + v, x))
    named(tj.constant(2.0))
    assert float(v) > 1.0


@pytest.mark.parametrize("later", ["reads it", "assigns it"])
def test_hidden_variables_that_the_program_uses_later(later):
    v = tj.Variable(1.0)
    get = _hidden(v)

    def host(x):
        get().assign(5.0)
        return x

    @tj.function
    def f(x):
        x = tj.py_function(host, [x], tj.float32)
        if later == "assigns it":
            v.assign(x)
        return x * v

    with pytest.raises(ControlFlowError, match="host assigns 'Variable:0', which cannot be told from its code"):
        f(tj.constant(2.0))
    assert float(v) == 1.0


@pytest.mark.parametrize("what", ["a compiled function", "rows", "a part", "a sum"])
def test_ways_to_assign_hidden_variables(what):
    v = tj.Variable([1.0, 2.0])
    bump = tj.function(lambda: v.assign_add([1.0, 1.0]) + 0.0)
    get, get_bump = _hidden(v), _hidden(bump)
    bump()

    def host(x):
        if what == "a compiled function":
            get_bump()()
        elif what == "rows":
            get().scatter_nd_add([[0]], [1.0])
        elif what == "a part":
            get()[0].assign(9.0)
        else:
            get().assign_add([1.0, 1.0])
        return x

    @tj.function
    def f(x):
        return tj.py_function(host, [x], tj.float32) * v

    with pytest.raises(ControlFlowError, match="host assigns 'Variable:0', which cannot be told"):
        f(tj.constant(1.0))
    assert v.numpy().tolist() == [2.0, 3.0]


def test_other_threads_use_them_meanwhile():
    v = tj.Variable(np.ones(64, np.float32))
    known, made = tj.function(lambda x: tj.reduce_sum(v) * x), []
    known(tj.constant(1.0))

    def others():
        made.append(float(known(tj.constant(2.0))))
        made.append(float(tj.function(lambda x: tj.reduce_sum(v * x))(tj.constant(2.0))))
        with tj.GradientTape() as t:
            y = tj.reduce_sum(v * v)
        made.append(float(tj.reduce_sum(t.gradient(y, v))))
        made.append(float(tj.reduce_sum(pickle.loads(pickle.dumps(v)))))
        made.append(repr(v)[:12])

    def host(x):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(others).result()
        return x

    hidden = _hidden(host)

    @tj.function
    def f(x):
        v.assign_add(tj.ones((64,)) * x)
        return tj.py_function(lambda x: hidden()(x), [x], tj.float32)

    assert float(f(tj.constant(2.0))) == 2.0
    assert made == [128.0, 128.0, 128.0, 64.0, "<tj.Variable"]
    assert v.numpy().tolist() == [3.0] * 64 and type(v) is tj.Variable
