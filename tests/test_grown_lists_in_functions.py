"""Functions of lists that have grown, numbers among their tensors, shapes that change from step to step, and prints."""

import numpy as np
import pytest

import tracejit as tj


def plain(x):
    if isinstance(x, tj.Tensor):
        return x.numpy().tolist(), str(x.dtype)
    return [plain(y) for y in x] if isinstance(x, (list, tuple)) else x


def agree(f, *draws):
    traced = tj.function(f, strict=True)
    for draw in draws:
        args = [tj.constant(x) for x in draw]
        assert plain(traced(*args)) == plain(f(*args))


# --- functions --------------------------------------------------------------------------------------------------------
def sums(x):
    out = [x, x + 1.0]
    if x > 0:
        out.append(x * 2.0)
    return tj.add_n(out), tj.math.accumulate_n(out)


def joined(x):
    out = [tj.stack([[x, 1.0], [2.0, 3.0]]), tj.stack([[4.0, x], [x, x]])]
    if x > 0:
        out.append(out[0] * 2.0)
    return tj.concat(out, 0), tj.concat(out, 1), tj.concat(out, axis=-1)


def stacked_elsewhere(x):
    out = [tj.stack([x, 1.0])]
    while x > 0:
        x = x - 1.0
        out.append(tj.stack([x, 2.0]))
    return tj.stack(out), tj.stack(out, axis=1), tj.stack(out, -1)


def first_and_last(x):
    out = [x, x + 1.0]
    if x > 0:
        out.append(x * 5.0)
    return tj.zeros([2]) + tj.stack(out[:2]), tj.zeros([2]) + tj.stack(out[-2:]), tj.stack(out[1:2]) + tj.zeros([1])


def sum_or_another(x):
    out = []
    if x > 0:
        out.append(x * 5.0)
    return tj.add_n(out) if out else tj.constant(-1.0)


@pytest.mark.parametrize("f", [sums, joined, stacked_elsewhere, first_and_last, sum_or_another])
def test_functions_of_lists(f):
    agree(f, [2.0], [-1.0], [3.5])


def test_functions_that_need_the_list_itself_fall_back():
    def f(x):
        out = [x, x + 1.0]
        if x > 0:
            out.append(x)
        return tj.linalg.global_norm(out)

    with pytest.warns(tj.errors.ConversionWarning, match="goes to a function of lists"):
        np.testing.assert_allclose(tj.function(f)(tj.constant(2.0)), f(tj.constant(2.0)))


# --- numbers ----------------------------------------------------------------------------------------------------------
def numbers_in_a_branch(x):
    out = [x]
    if x > 0:
        out.append(1)
        out.append(x)
    else:
        out.append(2)
    return tj.stack(out)


def numbers_in_steps(rows):
    out = []
    for x in rows:
        out.append(x)
        out.append(1)
    return tj.stack(out), sum(out)


def numbers_before_a_loop(x):
    out = [1, 2]
    while x < 10.0:
        x = x * 2.0
        out.append(x)
    return tj.stack(out), out[-1]


def numbers_that_are_taken_again(x):
    out = [1, 2.5]
    while x < 10.0:
        x = x * 2.0
        out.append(x)
        if len(out) > 4:
            out.pop()
    return tj.stack(out), out[-1]


@pytest.mark.parametrize("f", [numbers_in_a_branch, numbers_before_a_loop, numbers_that_are_taken_again])
def test_numbers_give_way_to_tensors(f):
    agree(f, [1.0], [0.5], [7.0])


def test_numbers_give_way_to_rows():
    agree(numbers_in_steps, [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])


# --- shapes -----------------------------------------------------------------------------------------------------------
def halved(x):
    h = x
    while h.shape[0] > 2:
        h = h[::2]
        if tj.reduce_sum(h) > 100.0:
            break
    return tj.reduce_sum(h) * 2.0


def halved_itself(x):
    h = x
    while h.shape[0] > 2:
        h = h[::2]
        if tj.reduce_sum(h) > 100.0:
            break
    return h


def test_a_loop_whose_shapes_python_knows_is_unrolled():
    agree(halved, [np.arange(10.0)], [np.arange(10.0) * 100], [np.arange(33.0)])


def test_what_it_leaves_has_the_shape_of_its_last_step():
    traced = tj.function(halved_itself, strict=True)
    for x in (tj.range(10.0), tj.range(10.0) * 100.0, tj.range(33.0)):
        np.testing.assert_array_equal(traced(x), halved_itself(x))


# --- texts ------------------------------------------------------------------------------------------------------------
def test_numbers_that_are_inputs_are_printed_as_numbers(capsys):
    @tj.function
    def f(n, x, scale):
        print("n", n, f"{n:3d}", [n, scale], n * 2 + 1)
        if x > 0:
            print("in", n, f"{scale}")
        return x * n * scale

    for n in range(1, 8):
        f(n, tj.constant(1.0), n / 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        s for n in range(1, 8) for s in (f"n {n} {n:3d} [{n}, {n / 4}] {n * 2 + 1}", f"in {n} {n / 4}")
    ]


def test_a_sum_of_nothing_is_a_tensor_of_zero():
    @tj.function(strict=True)
    def f(x):
        return sum(v for v in x if v > 0)

    for x in ([-1.0] * 6, [1.0, 2.0, -3.0, 0.0, 0.0, 5.0]):
        got = f(tj.constant(x))
        assert got.dtype is tj.float32
        assert float(got) == sum(v for v in x if v > 0)


def test_lists_that_have_grown_are_printed_as_lists(capsys):
    def f(x):
        numbers, tensors = [1, 2], [x]
        if x > 0:
            numbers.append(3)
            tensors.append(x * 2.0)
        print(numbers, f"{numbers}", str(tensors), "%s" % (numbers,), "{}".format(tensors), repr(numbers))  # noqa: UP031,UP032
        print({"k": numbers}, (tensors, 1))
        return x

    said = []
    for g in (f, tj.function(f, strict=True)):
        for x in (1.0, -1.0):
            g(tj.constant(x))
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
