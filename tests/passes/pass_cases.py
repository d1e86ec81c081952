"""Small functions that show what each pass does: the pass, a sentence, the function, and the types it is traced for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tracejit as tj
from tracejit.ir.dim import Dim
from tracejit.ir.types import TensorType, complex64, float32, int32

n, t = Dim.symbol("n", 8), Dim.symbol("t", 5)


def f32(*shape: Any) -> TensorType:
    return TensorType(float32, shape)


def i32(*shape: Any) -> TensorType:
    return TensorType(int32, shape)


def c64(*shape: Any) -> TensorType:
    return TensorType(complex64, shape)


@dataclass(frozen=True)
class Case:
    """`stage` is the pass, `title` says what it does to `f`; `wrt` are the arguments that `f` is differentiated for."""

    stage: str
    title: str
    f: Callable[..., Any]
    types: tuple[TensorType, ...]
    numerics: str = "finite"
    wrt: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.f.__name__.replace('_', '-')}"


CASES: list[Case] = []


def case(stage: str, title: str, *types: TensorType, **more: Any) -> Callable[[Callable[..., Any]], Any]:
    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(stage, title, f, types, **more))
        return f

    return enter


# --- simplify, and what it asks of loops.py ---------------------------------------------------------------------------
@case("simplify", "a·b is computed once; operands of commutative operations may be swapped.", f32(n), f32(n), f32(n))
def common_product(a, b, c):
    return a * b + c, c * (b * a)


@case("simplify", "What depends on constants only is computed while compiling; neutral elements go.", f32(n))
def constants(x):
    scale = tj.exp(tj.constant(0.0)) * 2.0
    return (x * 1.0 + 0.0) * scale - tj.zeros(())


@case("simplify", "Transposes become flags of the product, and two that undo each other go.", f32(n, 3), f32(4, 3))
def transposes(x, w):
    return tj.transpose(tj.transpose(x)) @ tj.transpose(w)


@case("simplify", 'Under "exact" the zero stays: it changes the sign of −0.', f32(n), numerics="exact")
def exact_zero(x):
    return x + 0.0, x * 1.0, x * 0.0


@case("simplify", "The gradient of a dense layer: tanh is read from the forward half, dead nodes are gone.",
      f32(n, 3), f32(3, 4), f32(4))  # fmt: skip
def dense_gradient(x, w, b):
    with tj.GradientTape() as tape:
        tape.watch((w, b))
        y = tj.tanh(x @ w + b)
    return tape.gradient(y, (w, b))


@case("simplify", "A branch whose condition is known is all that is left.", f32(n))
def known_branch(x):
    return tj.cond(tj.constant(2) > 1, lambda: tj.sin(x), lambda: tj.cos(x))


@case("simplify", "Branches of a few operations on single elements are both computed, and one is selected.", f32())
def cheap_branches(x):
    if x > 0.0:
        y = x * 2.0
    else:
        y = x - 1.0
    return y


@case("simplify", "A state that no step changes becomes an operand that the steps only read.", f32(), f32())
def fixed_state(x, a):
    return tj.while_loop(lambda x, a: x < 100.0, lambda x, a: (x * 2.0 + a, a), (x, a))


@case("simplify-2", "What both branches turn out to pass on is that operand; the other result still needs the branch.",
      f32(), f32(n))  # fmt: skip
def passed_on(x, v):
    return tj.cond(x > 0.0, lambda: (v * 1.0, tj.sin(v)), lambda: (v + 0.0, tj.exp(v)))


# --- neighbours -------------------------------------------------------------------------------------------------------
@case("neighbours", "The gradient of a split is a concat.", f32(n, 3), f32(n, 5))
def two_halves(x, y):
    return tj.pad(x, [[0, 0], [0, 5]]) + tj.pad(y, [[0, 0], [3, 0]])


@case("neighbours", "Other summands stand in between.", f32(4), f32(4), f32(8))
def around_a_sum(x, y, z):
    return tj.pad(x, [[0, 4]]) + z + tj.pad(y, [[4, 0]])


@case("neighbours", "What overlaps stays a sum.", f32(5), f32(4))
def overlap(x, y):
    return tj.pad(x, [[0, 3]]) + tj.pad(y, [[4, 0]])


# --- loops ------------------------------------------------------------------------------------------------------------
@case("share", "The gradient runs the loop again to keep its states; the first run is then not needed.", f32(), i32())
def loop_and_gradient(x, k):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.while_loop(lambda i, y: i < k, lambda i, y: (i + 1, tj.sin(y * x)), (0, x))[1]
    return y, tape.gradient(y, x)


@case("share", "The gradient of a scan stacks the states that its steps began with; the scan for the value goes.",
      f32(t, 3))  # fmt: skip
def scan_and_gradient(xs):
    with tj.GradientTape() as tape:
        tape.watch(xs)
        y = tj.foldl(lambda h, x: tj.tanh(h + x), xs, tj.zeros((3,)))
    return y, tape.gradient(y, xs)


@case("share", "Loops that were written twice stay two, even if one stacks what the other one computes.", f32(t, 3))
def written_twice(xs):
    def step(h, x):
        return tj.tanh(h + x)

    hs = tj.scan(step, xs, tj.zeros((3,)))
    return tj.foldl(step, xs, tj.zeros((3,))), hs


@case("open", "The layer is computed at once and again for its gradient, behind a barrier that keeps the two apart.",
      f32(n, 3), f32(3, 3))  # fmt: skip
def recomputed(x, w):
    @tj.recompute_grad
    def layer(x, w):
        return tj.tanh(x @ w)

    with tj.GradientTape() as tape:
        tape.watch(w)
        y = layer(x, w)
    return y, tape.gradient(y, w)


@case("open", "Where no gradient is taken, the layer is computed like any other function.", f32(n, 3), f32(3, 3))
def recompute_without_gradient(x, w):
    return tj.recompute_grad(lambda x, w: tj.tanh(x @ w))(x, w)


@case("trim", "A counter that nothing reads leaves the loop, with the rows that fed it.", f32(t, 3))
def unread_counter(xs):
    total, count = tj.zeros((3,)), 0.0
    for x in xs:
        total = tj.sin(total) + x
        count = count + tj.reduce_sum(x)
    return total


@case("trim", "Stacked results of which only the last state is read are not stacked.", f32(t, 3))
def unread_rows(xs):
    def step(s, x):
        return tj.tanh(s[0] + x), s[0] * 2.0

    return tj.scan(step, xs, (tj.zeros((3,)), tj.zeros((3,))))[0]


@case("keep", "The backward loop reads tanh from the forward loop, which stacks it, and does not multiply again.",
      f32(t, 2, 3), f32(3, 3))  # fmt: skip
def recurrent_gradient(xs, w):
    with tj.GradientTape() as tape:
        tape.watch(w)
        y = tj.foldl(lambda h, x: tj.tanh(h @ w + x), xs, tj.zeros((2, 3)))
    return tape.gradient(y, w)


@case("keep", "A second loop over what the first one stacked reads its exponential, too.", f32(t, 64))
def second_loop(xs):
    hs = tj.scan(lambda h, x: tj.exp(x) + h * 0.5, xs, tj.zeros((64,)))
    both = (hs, xs)
    return hs, tj.foldl(lambda s, hx: s * 0.5 + hx[0] * tj.exp(hx[1]), both, tj.zeros((64,)))


@case("sums", "A state to which each step only adds a product is one product over all steps, after the loop.",
      f32(t, 2, 8), f32(t, 2, 8))  # fmt: skip
def summed_products(xs, ys):
    start = tj.zeros((8, 8)), tj.zeros((2, 8))

    def step(s, xy):
        total, h = s
        h = tj.tanh(h + xy[1])
        return total + tj.matmul(xy[0], h, transpose_a=True), h

    return tj.foldl(step, (xs, ys), start)


@case("sums", 'Under "exact" the order of the sum stays, and so does the loop.', f32(t, 2, 8), numerics="exact")
def exact_sum(xs):
    return tj.foldl(lambda s, x: s + tj.matmul(x, x, transpose_a=True), xs, tj.zeros((8, 8)))


@case("sink", "The product that the steps only stack comes after the loop: one product of all states.",
      f32(t, 2, 4), f32(4, 16))  # fmt: skip
def projected_states(xs, w):
    def step(s, x):
        h = tj.tanh(s[0] + x)
        return h, h @ w

    return tj.scan(step, xs, (tj.zeros((2, 4)), tj.zeros((2, 16))))[1]


@case("sink", "A factor that is larger than the product would take more memory: the product stays.",
      f32(t, 2, 16), f32(16, 4))  # fmt: skip
def larger_factor(xs, w):
    def step(s, x):
        h = tj.tanh(s[0] + x)
        return h, h @ w

    return tj.scan(step, xs, (tj.zeros((2, 16)), tj.zeros((2, 4))))[1]


@case("hoist", "What is the same in every step is computed once, before the loop.", f32(t, 3), f32(3))
def same_in_every_step(xs, w):
    return tj.foldl(lambda h, x: h * tj.exp(w) + x, xs, tj.zeros((3,)))


@case("hoist", "The products of the rows are one product of all rows, before the loop.", f32(t, 2, 16), f32(16, 4))
def products_of_rows(xs, w):
    return tj.foldl(lambda h, x: tj.tanh(x @ w + h), xs, tj.zeros((2, 4)))


@case("hoist", "Elementwise work on the rows stays, where it joins the rest of the step.", f32(t, 3))
def work_that_stays(xs):
    return tj.foldl(lambda h, x: h * 0.5 + tj.sin(x), xs, tj.zeros((3,)))


@case("proofs", "The loop's counter cannot leave the array; the checks of the position go.", f32(10))
def counter_within(v):
    s, i = 0.0, tj.constant(0)
    while i < 10:
        s = s * 0.5 + v[i]
        i = i + 1
    return s


@case("proofs", "A position that comes from outside may be anywhere: its check stays.", f32(10), i32())
def position_from_outside(v, k):
    s, i = 0.0, tj.constant(0)
    while i < 10:
        s = s * 0.5 + v[i]
        i = i + 1
    return s + v[k]


@case("counters", "Loops over ranges count; no array of numbers stands in the outer loop's steps.", f32(40, 50))
def nested_ranges(x):
    y = tj.zeros((40, 50))
    for i in tj.range(40):
        for j in tj.range(1, 50):
            y[i, j] = x[i, j] + y[i, j - 1]
    return y


@case("counters", "Steps that compute with whole rows read the range as they read other rows.", f32(10, 3))
def range_of_rows(x):
    h = tj.zeros(3)
    for i in tj.range(10):
        h = tj.tanh(h * 0.5 + x[i])
    return h


@case("branches", "What both branches compute comes before them, and so does what one of them and the rest compute.",
      f32(n, n), f32())  # fmt: skip
def branches_with_the_same_work(x, c):
    if c > 0:
        y = tj.exp(x @ x) + 1.0
    else:
        y = tj.exp(x @ x) * tj.sin(x)
    return y, tj.sin(x)


@case("branches", "What is cheap to compute again stays, and so does what one branch computes alone.", f32(n, n), f32())
def branches_with_cheap_work(x, c):
    if c > 0:
        y = (x + 1.0) @ x
    else:
        y = tj.tanh(x + 1.0)
    return y


# --- chains -----------------------------------------------------------------------------------------------------------
@case("chains", "A sum of sums is one sum over both axes.", f32(n, 3, 4))
def sum_of_sums(x):
    return tj.reduce_sum(tj.reduce_sum(x, axis=2), axis=0)


@case("chains", "(A·B)ᵀ is Bᵀ·Aᵀ, whose transposes are flags.", f32(n, 3), f32(3, 4))
def transposed_product(x, w):
    return tj.transpose(x @ w)


@case("chains", "A product that is read elsewhere too is not computed a second time.", f32(n, 3), f32(3, 4))
def product_read_twice(x, w):
    y = x @ w
    return tj.transpose(y), y


# --- before fusion ----------------------------------------------------------------------------------------------------
@case("complexparts", "A product is four real ones; one loop writes both parts of the result.", c64(n), c64(n))
def complex_product(x, y):
    return x * y


@case("complexparts", "A magnitude needs the parts only, which are views of the number in memory.", c64(n))
def magnitude(z):
    return tj.abs(z) + tj.math.real(z)


@case("complexparts", "Single numbers of a loop are two states, which fit into registers.", c64())
def complex_states(c):
    z, k = tj.zeros((), tj.complex64), 0
    while tj.abs(z) < 2.0 and k < 5:
        z = z * z + c
        k = k + 1
    return k


@case("found", "What a mask selects has a size that the program finds out: it becomes one node with a graph.", f32(n))
def masked(x):
    return tj.reduce_sum(tj.exp(tj.boolean_mask(x, x > 0.0))) + tj.reduce_sum(x)


@case("found", "Effects keep their order: the check of x[i] comes after that of y[i], which waits.", f32(n), i32())
def checks_in_order(x, i):
    y = x[x > 0.0]
    return y[i], x[i]


@case("stretched", "A part of which the program finds out that it has one element is read there for every position.",
      f32(6), f32(3), i32())  # fmt: skip
def broadcast_part(x, y, n):
    return x[:n] * y


@case("turn", "Steps that multiply by a transposed matrix get a copy that lies the right way round.",
      f32(100, 2, 4), f32(4, 4))  # fmt: skip
def transposed_weights(xs, w):
    return tj.foldl(lambda h, x: tj.tanh(tj.matmul(h, w, transpose_b=True) + x), xs, tj.zeros((2, 4)))


@case("turn", "For a few steps a copy does not pay.", f32(8, 2, 4), f32(4, 4))
def few_steps(xs, w):
    return tj.foldl(lambda h, x: tj.tanh(tj.matmul(h, w, transpose_b=True) + x), xs, tj.zeros((2, 4)))


@case("positions", "argmax is two reductions, which fuse: the extreme, then the first position where it stands.",
      f32(n, 5))  # fmt: skip
def best(x):
    return tj.argmax(x, axis=1)


@case("positions", "Integers have no NaN, and argmin takes the least.", i32(n, 5))
def least(x):
    return tj.argmin(x, axis=0)


@case("batches", "The sum over all matrices is one product, which is what the gradient of weights is.",
      f32(n, 4, 16), f32(n, 4, 32))  # fmt: skip
def summed_batch(x, g):
    return tj.reduce_sum(tj.matmul(x, g, transpose_a=True), axis=0)


@case("batches", "Rows that would have to be copied stay where they are.", f32(n, 4, 16), f32(n, 16, 32))
def rows_apart(x, g):
    return tj.reduce_sum(tj.matmul(x, g), axis=0)


@case("joined", "The parts are joined the other way round, so that nothing is copied.", f32(n, 8), f32(n, 8))
def turned_parts(x, y):
    return tj.reshape(tj.transpose(tj.concat([tj.exp(x), y * 2.0], axis=1)), (-1,)) + 1.0


@case("products", "A product with two summands is elementwise, and fuses with the rest.", f32(n, 2), f32(2, 1))
def narrow_product(x, w):
    return tj.sigmoid(x @ w)


@case("products", "A product with many columns stays.", f32(n, 2), f32(2, 64))
def wide_product(x, w):
    return x @ w


@case("cuts", "To the border nothing is added, so that only the middle is computed; concat writes nothing twice.",
      f32(64, 300), f32(62, 300))  # fmt: skip
def padded_sum(u, v):
    return u + tj.pad(tj.sin(v), [[1, 1], [0, 0]])


@case("cuts", "Small arrays are not worth more loops.", f32(4, 8), f32(2, 8))
def small_sum(u, v):
    return u + tj.pad(tj.sin(v), [[1, 1], [0, 0]])


@case("settle", "Results have memory of their own: copies of parameters, views and repeated results.", f32(3, 4))
def results_in_memory(x):
    y = tj.sin(x)
    return x, tj.transpose(y), y, y


@case("settle", "A transposed value is not evenly spaced under another shape, and is copied before.", f32(n, 3))
def uneven_reshape(x):
    return tj.exp(tj.reshape(tj.transpose(x), (-1,)))


@case("rows", "Bias and relu of a convolution run over the rows of its product, and so over its tiles.",
      f32(n, 9, 16), f32(3, 16, 20), f32(20))  # fmt: skip
def after_convolution(x, w, b):
    return tj.nn.relu(tj.nn.conv1d(x, w, 1, "VALID") + b)


@case("interleaved", "The slope of relu before max pooling multiplies the pooled gradient.",
      f32(8, 64, 32), f32(8, 32, 32))  # fmt: skip
def relu_and_pool(x, g):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.nn.max_pool1d(tj.nn.relu(x), 2, 2, "VALID")
    return y, tape.gradient(y, x, output_gradients=g)


# --- forward and backward ---------------------------------------------------------------------------------------------
@case("partition", "tanh is kept: it costs more than its way through memory. Its square is computed again.",
      f32(n, 3), f32(3, 4), f32(4), wrt=(1, 2))  # fmt: skip
def dense(x, w, b):
    return tj.square(tj.tanh(x @ w + b)) * 2.0


@case("partition", "Cheap operations are computed again from the argument: nothing is kept.", f32(n), wrt=(0,))
def cheap_again(x):
    return tj.nn.relu(x * 3.0) * x


@case("partition", "The exponentials of a softmax and their sums are kept; dividing again costs nothing.",
      f32(n, 10), wrt=(0,))  # fmt: skip
def softmax(x):
    return tj.nn.softmax(x)


# --- fusion -----------------------------------------------------------------------------------------------------------
@case("fuse", "A softmax is one group: two reductions along the rows and what reads them, row by row.", f32(n, 10))
def rows(x):
    return tj.nn.softmax(x)


@case("fuse", "Two results of one loop; the sum over all is known after it.", f32(n, 4), f32(n, 4))
def two_results(x, y):
    d = x - y
    return tj.square(d), tj.reduce_sum(tj.abs(d))


@case("fuse", "Bias and relu run over the tiles of the product.", f32(n, 64), f32(64, 128), f32(128))
def epilogue(x, w, b):
    return tj.nn.relu(x @ w + b)


@case("fuse", "Where a sum reads the relu, too, both are a loop behind that of the product.",
      f32(n, 64), f32(64, 128), f32(128))  # fmt: skip
def product_and_sum(x, w, b):
    y = tj.nn.relu(x @ w + b)
    return y, tj.reduce_sum(y, axis=0)


@case("fuse", "A reader along other axes runs through the same loop: its transposed operand costs nothing.",
      f32(n, 4), f32(4, n))  # fmt: skip
def transposed_reader(x, y):
    mask = x > 0.0
    return tj.reduce_sum(tj.where(mask, x, 0.0), axis=0), tj.where(tj.transpose(mask), y, 1.0)


@case("fuse", "A cheap operation is repeated in each of two loops that read it, and never reaches memory.",
      f32(n, 4), f32(3, n, 4))  # fmt: skip
def repeated(x, y):
    mask = x > 0.0
    return tj.where(mask, tj.nn.softmax(x), 0.0), tj.reduce_sum(tj.where(mask, y, 0.0), axis=(0, 1))


@case("layout", "Transposes, slices, reversals and repetitions are strides and offsets.", f32(4, 6))
def strides(x):
    part = tj.transpose(x)[1:5:2, ::-1]
    return part, tj.broadcast_to(x[:, 2:3], (4, 7)), tj.reshape(x[1:3], (12,))


@case("layout", "Sizes that are not known yet are polynomials in the strides.", f32(n, 3, t))
def symbolic_strides(x):
    return tj.transpose(x, (1, 2, 0))[1]


@case("placing", "What a concat joins is computed in its memory; a parameter is copied there.", f32(n, 64), f32(n, 64))
def joined(x, y):
    return tj.concat([tj.sin(x), y, tj.cos(y)], axis=0)


@case("placing", "What is read elsewhere too has memory of its own.", f32(n, 64), f32(n, 64))
def read_elsewhere(x, y):
    s = tj.sin(x)
    return tj.concat([s, tj.cos(y)], axis=0), s
