"""What may stand in a condition: Variables, arrays of one element, NumPy's numbers, captured tensors, other objects."""

from collections import Counter, deque

import numpy as np
import pytest

import tracejit as tj

X = np.float32(3.0)


class Truthful:
    def __init__(self, yes):
        self.yes = yes

    def __bool__(self):
        return bool(self.yes)


class Sized:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


TESTS = {
    "a bool Variable": lambda yes: tj.Variable(bool(yes)),
    "an int Variable": lambda yes: tj.Variable(2 * yes),
    "a float Variable": lambda yes: tj.Variable(0.5 * yes),
    "a Variable of one element": lambda yes: tj.Variable([[float(yes)]]),
    "a bool tensor": lambda yes: tj.constant(bool(yes)),
    "a float tensor": lambda yes: tj.constant(float(yes)),
    "a tensor of one element": lambda yes: tj.constant([yes]),
    "a bool array": lambda yes: np.array(bool(yes)),
    "an array of one element": lambda yes: np.array([[2.0 * yes]]),
    "np.bool_": lambda yes: np.bool_(yes),
    "np.int32": lambda yes: np.int32(yes),
    "np.float64": lambda yes: np.float64(yes),
    "an int": lambda yes: yes,
    "a float": lambda yes: yes / 2,
    "a complex": lambda yes: yes * 1j,
    "None or an object": lambda yes: object() if yes else None,
    "a string": lambda yes: "x" * yes,
    "bytes": lambda yes: b"x" * yes,
    "a list": lambda yes: [0] * yes,
    "a tuple": lambda yes: (0,) * yes,
    "a dict": lambda yes: {0: 0} if yes else {},
    "a set": lambda yes: {0} if yes else set(),
    "a range": lambda yes: range(yes),
    "__bool__": Truthful,
    "__bool__ of an array": lambda yes: Truthful(np.array([yes])),
    "__len__": Sized,
}


class Holder:
    pass


def _forms(wrap, test):
    """Each form of a condition, with what it asks captured, an attribute, an item and an argument."""
    held, items = Holder(), [test]
    held.on = test

    @wrap
    def statement(x):
        if test:
            return x * 2.0
        return x

    @wrap
    def statements(x):
        if x > 100.0:
            y = x
        elif test:
            y = x * 2.0
        else:
            y = x - 1.0
        return y

    @wrap
    def expression(x):
        return x * 2.0 if test else x

    @wrap
    def ands(x):
        y = x
        if test and x > 1.0:
            y = y + 1.0
        if x > 1.0 and test:
            y = y + 2.0
        if not (test and x > 1.0):
            y = y + 4.0
        return y

    @wrap
    def ors(x):
        y = x
        if test or x > 100.0:
            y = y + 1.0
        if x > 100.0 or test:
            y = y + 2.0
        if not test or x < 0.0:
            y = y + 4.0
        return y

    @wrap
    def attribute(x):
        if held.on:
            return x * 2.0
        return x * 3.0

    @wrap
    def an_item(x):
        return x * 2.0 if items[0] else x * 3.0

    @wrap
    def under(x):
        y = x
        if x > 0.0:
            if test:
                y = y + 1.0
            if not test:
                y = y + 2.0
        for i in range(3):
            if test and i < 2:
                y = y + 4.0
        return y

    @wrap
    def loop(x):
        for _ in tj.range(3):
            if test:
                x = x + 1.0
            else:
                x = x * 2.0
        while test and x < 10.0:
            x = x * 2.0
        return x

    @wrap
    def asserted(x):
        assert test or x > 0.0
        return x

    @wrap
    def truth(x):
        return x + float(bool(held.on) if not isinstance(held.on, (tj.Variable, tj.Tensor)) else 0.0)

    every = (statement, statements, expression, ands, ors, attribute, an_item, under, loop, asserted, truth)
    return [f(X) for f in every]


@pytest.mark.parametrize("name", TESTS)
def test_each_form(name, twins):
    @twins
    def scene(wrap):
        return [_forms(wrap, TESTS[name](yes)) for yes in (1, 0)]


@pytest.mark.parametrize("name", [n for n in TESTS if not n.startswith(("__", "None"))])
def test_as_an_argument(name, twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x, test):
            y = x * 2.0 if test else x
            if test and x > 1.0:
                y = y + 1.0
            return y if not test else y - 1.0

        return [f(X, TESTS[name](yes)) for yes in (1, 0, 1)]


KINDS = {
    "a list": (lambda yes: [0] * yes, lambda s: s.append(0)),
    "a dict": (lambda yes: {0: 0} if yes else {}, lambda s: s.update({0: 0})),
    "a set": (lambda yes: {0} if yes else set(), lambda s: s.add(0)),
    "a deque": (lambda yes: deque([0] * yes), lambda s: s.append(0)),
    "a Counter": (lambda yes: Counter([0] * yes), lambda s: s.update([0])),
    "a bytearray": (lambda yes: bytearray(yes), lambda s: s.append(0)),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_container_given_that_changes(name, twins):
    make, fill = KINDS[name]

    @twins
    def scene(wrap):
        asks = [
            wrap(lambda x, s: x * 2.0 if s else x), wrap(lambda x, s: x * 2.0 if len(s) else x),
            wrap(lambda x, s: x * 2.0 if 0 in s else x), wrap(lambda x, s: x * 2.0 if not s else x),
            wrap(lambda x, s: x + sum(3.0 for _ in s)), wrap(lambda x, s: x * 2.0 if s == make(1) else x),
        ]  # fmt: skip
        out = []
        for f in asks:
            s = make(0)
            out.append(f(X, s))
            fill(s)
            out += [f(X, s), f(tj.constant(X), s)]
            s.clear()
            out += [f(X, s), f(X, make(1)), f(X, make(0))]
        return out


def test_a_variable_that_changes_between_calls_and_in_branches(twins):
    @twins
    def scene(wrap):
        v, n = tj.Variable(True), tj.Variable(3)

        @wrap
        def f(x):
            if v:
                v.assign(x > 2.0)
                x = x * 2.0
            elif n:
                n.assign_sub(1)
                x = x + 1.0
            return x * 3.0 if v and n else x

        out = [f(X), f(np.float32(1.0)), f(X), f(X), f(X), f(X)]
        v.assign(True)
        return [*out, f(X), n, v]


def test_what_has_no_truth(twins):
    @twins
    def scene(wrap):
        out = []
        for test in (tj.Variable([1.0, 2.0]), np.array([1.0, 2.0]), tj.constant([True, False])):
            f = wrap(lambda x, test=test: x if test else -x)
            try:
                out.append(f(X))
            except ValueError as e:
                out.append(isinstance(e, ValueError))
        return out
