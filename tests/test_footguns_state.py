"""Footguns of state: Variables made, assigned and read in traced functions behave as in Python."""

import numpy as np

import tracejit as tj

X = np.array([1.0, -2.0, 3.0])


# --- Variables and state ----------------------------------------------------------------------------------------------
def test_variables_made_in_a_method_once_per_object(twins):
    @twins
    def scene(wrap):
        class Dense:
            def __init__(self, units):
                self.units, self.built = units, False

            @wrap
            def __call__(self, x):
                if not self.built:
                    self.w = tj.Variable(tj.ones((x.shape[-1], self.units)) * 0.5)
                    self.n = tj.Variable(0)
                    self.built = True
                self.n.assign_add(1)
                return x @ self.w

        a, b = Dense(2), Dense(4)
        x = tj.ones((5, 3))
        out = [a(x), a(x), b(x), a(x)]
        a.w.assign(a.w * 2.0)
        return [out, a(x), a.n, b.n]


def test_a_variable_kept_in_a_global_by_the_first_call(twins):
    @twins
    def scene(wrap):
        state = {}

        @wrap
        def f(x):
            if "v" not in state:
                state["v"] = tj.Variable(1.0)
            return state["v"].assign_add(x) * 1.0

        return [f(1.0), f(2.0), f(3.0), state["v"]]


def test_a_local_variable_is_new_in_each_call(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            v = tj.Variable([0.0, 0.0, 0.0])
            v.assign_add(tj.cast(x, tj.float32))
            if v[0] > 0:
                v[1].assign(10.0)
            return v * 2.0

        return [f(X), f(X), f(-X)]


def test_two_models_and_two_optimizers_through_one_step(twins):
    class Momentum:
        def __init__(self, rate):
            self.rate, self.slots = rate, {}

        def apply(self, pairs):
            for k, (g, v) in enumerate(pairs):
                if k not in self.slots:
                    self.slots[k] = tj.Variable(tj.zeros_like(v))
                self.slots[k].assign(self.slots[k] * 0.5 + g)
                v.assign_sub(self.slots[k] * self.rate)

    class Line:
        def __init__(self, w):
            self.w, self.b = tj.Variable(w), tj.Variable(0.0)

        def __call__(self, x):
            return x * self.w + self.b

    @twins
    def scene(wrap):
        @wrap
        def step(model, optimizer, x):
            with tj.GradientTape() as tape:
                loss = tj.reduce_mean(tj.square(model(x) - 3.0))
            optimizer.apply(zip(tape.gradient(loss, [model.w, model.b]), [model.w, model.b]))
            return loss

        x = tj.constant([0.5, 1.0])
        models, optimizers = [Line(1.0), Line(-2.0)], [Momentum(0.1), Momentum(0.02)]
        out = []
        for _ in range(3):
            for m, o in zip(models, optimizers):
                out.append(step(m, o, x))
        return [out, [(m.w, m.b) for m in models]]


def test_assignments_in_branches_and_loops_keep_their_order(twins):
    @twins
    def scene(wrap):
        v, w = tj.Variable(1.0), tj.Variable([0.0, 0.0])

        @wrap
        def f(n):
            before = v.read_value()
            for i in tj.range(n):
                v.assign(v * 2.0)
                if v > 5.0:
                    w[0].assign(v)
                    v.assign_sub(4.0)
                w.assign_add([0.0, 1.0])
            if before > v:
                v.assign(-v)
            return before, v.read_value(), w * 1.0

        return [f(tj.constant(k)) for k in (0, 1, 3, 2)] + [v, w]


def test_a_variable_that_decides(twins):
    @twins
    def scene(wrap):
        lives = tj.Variable(2)

        @wrap
        def play_once(hit):
            if hit:
                lives.assign_sub(1)
            if lives <= 0:
                return -1.0
            return 1.0

        return [play_once(tj.constant(k)) for k in (True, False, True, True)] + [lives]


def test_the_gradient_of_a_variable_read_in_a_branch(twins):
    @twins
    def scene(wrap):
        v, w = tj.Variable(2.0), tj.Variable(3.0)

        @wrap
        def f(x):
            if x > 0:
                return v * x * x
            return w * x

        out = []
        for k in (1.5, -1.5):
            with tj.GradientTape() as tape:
                y = f(tj.constant(k))
            out.append(tape.gradient(y, [v, w], unconnected_gradients="zero"))
        return out


def test_results_of_earlier_calls_stay(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(n, x):
            for _ in tj.range(n):
                x = x * 2.0
            return x

        return [f(tj.constant(2), X), f(tj.constant(0), X), f(tj.constant(3), X)]


def test_traced_functions_inside_traced_functions(twins):
    @twins
    def scene(wrap):
        @wrap
        def inner(x, n):
            while n > 0:
                x = x + 1.0
                n = n - 1
            return x

        @wrap
        def outer(x, n):
            if tj.reduce_sum(x) > 0:
                return inner(x, n) * 2.0
            return inner(inner(x, n), 2)

        return [outer(tj.constant(s * X), tj.constant(k)) for s in (1.0, -1.0) for k in (0, 3)]
