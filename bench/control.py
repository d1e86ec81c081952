"""Workloads with control flow: loops over scalars, arrays, sequences and time steps, in each framework's own manner."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, alike, pick, quickest

# --- Newton's iteration ----------------------------------------------------------------------------------------------
# Once the root is found no step changes it. Where the number whose root is sought grows, no step repeats another.
# PyTorch is left out: it keeps such loops in Python, microseconds a step.
STEPS = 1_000_000


def newton_loop(x: Any, a: Any, n: Any) -> Any:
    """Python as TensorFlow, tracejit and Numba compile it."""
    i = 0
    while i < n:
        x = x - (x * x - a) / (2.0 * x)
        i = i + 1
    return x


def moving_loop(x: Any, a: Any, n: Any) -> Any:
    i = 0
    while i < n:
        x = x - (x * x - a) / (2.0 * x)
        a = a + 0.001
        i = i + 1
    return x


def newton_converted(loop: Any) -> Any:
    def make(peer: Any, *start: np.ndarray) -> Call:
        arrays = [peer.array(a) for a in start]
        f = peer.function(loop)
        return lambda: f(*arrays)

    return make


def newton_jax(moving: bool) -> Any:
    def step(x: Any, a: Any) -> tuple[Any, Any]:
        return x - (x * x - a) / (2.0 * x), a + 0.001 if moving else a

    def make(peer: Any, *start: np.ndarray) -> Call:
        jax = peer.jax
        arrays = [peer.array(a) for a in start]

        def by_while(x: Any, a: Any, n: Any) -> Any:
            start = (np.int32(0), x, a)
            return jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, *step(s[1], s[2])), start)[1]

        def by_fori(x: Any, a: Any, n: Any) -> Any:
            return jax.lax.fori_loop(np.int32(0), n, lambda i, s: step(*s), (x, a))[0]

        ways = [jax.jit(f) for f in (by_while, by_fori)]
        return quickest([lambda f=f: jax.block_until_ready(f(*arrays)) for f in ways])

    return make


def newton_numba(loop: Any, *start: np.ndarray) -> Call:
    import numba

    f = numba.njit(loop)
    arrays = [a[()] for a in start]
    return lambda: f(*arrays)


def _newton(name: str, title: str, bar: Bar, loop: Any) -> Workload:
    start = np.asarray(1.0), np.asarray(2.0), np.asarray(STEPS, np.int32)
    converted = newton_converted(loop)
    makers = {"tracejit": converted, "tf": converted, "jax": newton_jax(loop is moving_loop)}
    return Workload(name, title, bar, pick(makers, *start), yardsticks={"numba": lambda: newton_numba(loop, *start)})


def newton() -> Workload:
    title = "Newton's iteration on a scalar, 1e6 steps, f64"
    return _newton("newton", title, Bar("≤ 0.05x jax", 0.05, "jax"), newton_loop)


def newton_moving() -> Workload:
    title = "Newton's iteration whose target moves, 1e6 steps, f64"
    return _newton("newton_moving", title, Bar("≤ 1.0x best", 1.0, "best"), moving_loop)


# --- Mandelbrot ------------------------------------------------------------------------------------------------------
LIMIT = 200


def plane(n: int) -> tuple[np.ndarray, np.ndarray]:
    re, im = np.linspace(-2, 0.6, n, dtype=np.float32), np.linspace(-1.2, 1.2, n, dtype=np.float32)
    return tuple(np.ascontiguousarray(a) for a in np.broadcast_arrays(re, im[:, None]))  # type: ignore[return-value]


def orbit(zr: Any, zi: Any, cr: Any, ci: Any) -> tuple[Any, Any]:
    return zr * zr - zi * zi + cr, 2.0 * zr * zi + ci


def inside(zr: Any, zi: Any) -> Any:
    return zr * zr + zi * zi <= 4.0


def mandelbrot_converted(peer: Any, *points: np.ndarray) -> Call:
    tf = peer.tf
    arrays = [peer.array(a) for a in points]

    def together(cr: Any, ci: Any) -> Any:
        """All pixels take part until the last one has escaped; what escaped never comes back."""
        zr, zi = tf.zeros_like(cr), tf.zeros_like(ci)
        alive = tf.ones_like(cr, dtype=tf.bool)
        count = tf.zeros_like(cr, dtype=tf.int32)
        i = 0
        while i < LIMIT and tf.reduce_any(alive):
            count = count + tf.cast(alive, tf.int32)
            zr, zi = orbit(zr, zi, cr, ci)
            alive = inside(zr, zi)
            i = i + 1
        return count

    def pixel(c: Any) -> Any:
        cr, ci = c
        zr, zi, count = tf.zeros_like(cr), tf.zeros_like(ci), 0
        while count < LIMIT and inside(zr, zi):
            zr, zi = orbit(zr, zi, cr, ci)
            count = count + 1
        return count

    def each(cr: Any, ci: Any) -> Any:
        flat = tf.reshape(cr, (-1,)), tf.reshape(ci, (-1,))
        return tf.reshape(tf.vectorized_map(pixel, flat), cr.shape)

    # TensorFlow's vectorized_map takes no loop whose length differs between rows under XLA
    ways = [peer.function(f) for f in ((together, each) if peer.name == "tracejit" else (together,))]
    return quickest([lambda f=f: f(*arrays) for f in ways])


def mandelbrot_jax(peer: Any, *points: np.ndarray) -> Call:
    jax, jnp = peer.jax, peer.jnp
    arrays = [peer.array(a) for a in points]

    def together(cr: Any, ci: Any) -> Any:
        def body(s: Any) -> Any:
            i, zr, zi, alive, count = s
            count = count + alive.astype(jnp.int32)
            zr, zi = orbit(zr, zi, cr, ci)
            return i + 1, zr, zi, inside(zr, zi), count

        zero = jnp.zeros_like(cr)
        start = jnp.int32(0), zero, zero, jnp.ones(cr.shape, bool), jnp.zeros(cr.shape, jnp.int32)
        return jax.lax.while_loop(lambda s: (s[0] < LIMIT) & jnp.any(s[3]), body, start)[4]

    def pixel(cr: Any, ci: Any) -> Any:
        def body(s: Any) -> Any:
            return *orbit(s[0], s[1], cr, ci), s[2] + 1

        start = jnp.zeros_like(cr), jnp.zeros_like(ci), jnp.int32(0)
        return jax.lax.while_loop(lambda s: (s[2] < LIMIT) & inside(s[0], s[1]), body, start)[2]

    ways = [jax.jit(f) for f in (together, jax.vmap(jax.vmap(pixel)))]
    return quickest([lambda f=f: jax.block_until_ready(f(*arrays)) for f in ways])


def mandelbrot_torch(peer: Any, *points: np.ndarray) -> Call:
    """The step is compiled, with the test whether pixels are left or without; the loop stays in Python."""
    torch = peer.torch
    cr, ci = map(peer.array, points)

    def step(zr: Any, zi: Any, alive: Any, count: Any) -> Any:
        count = count + alive.to(torch.int32)
        zr, zi = orbit(zr, zi, cr, ci)
        return zr, zi, inside(zr, zi), count

    def tested(*state: Any) -> Any:
        state = step(*state)
        return state, state[2].any()

    def loop(step: Any) -> Any:
        zr = zi = torch.zeros_like(cr)
        state = zr, zi, torch.ones_like(cr, dtype=torch.bool), torch.zeros_like(cr, dtype=torch.int32)
        i, some = 0, True
        with torch.no_grad():
            while i < LIMIT and some:
                state, some = step(*state)
                i += 1
        return state[3]

    inner = peer.compile(step)

    def tested_outside(*state: Any) -> Any:
        state = inner(*state)
        return state, state[2].any()

    ways = (tested_outside, peer.compile(tested)) if peer.name == "torch.compile" else (tested_outside,)
    return quickest([lambda f=f: loop(f) for f in ways])


def mandelbrot_numba(*points: np.ndarray) -> Call:
    import numba

    @numba.njit(parallel=True)
    def f(cr: Any, ci: Any, count: Any) -> Any:
        for y in numba.prange(cr.shape[0]):
            for x in range(cr.shape[1]):
                zr, zi, n = np.float32(0), np.float32(0), 0
                while n < LIMIT and zr * zr + zi * zi <= np.float32(4):
                    zr, zi = zr * zr - zi * zi + cr[y, x], np.float32(2) * zr * zi + ci[y, x]
                    n += 1
                count[y, x] = n
        return count

    return lambda: f(*points, np.empty(points[0].shape, np.int32))


def mandelbrot() -> Workload:
    points = plane(512)
    makers = alike(mandelbrot_converted, mandelbrot_jax, mandelbrot_torch)
    return Workload(
        "mandelbrot",
        f"Mandelbrot 512x512, at most {LIMIT} steps, f32",
        Bar("≤ 0.5x best", 0.5, "best"),
        pick(makers, *points),
        # near the border rounding, fused multiplications among it, decides in which step a pixel escapes
        strays=0.005,
        yardsticks={"numba": lambda: mandelbrot_numba(*points)},
    )


# --- LSTM ------------------------------------------------------------------------------------------------------------
def lstm_data(steps: int, batch: int, inputs: int, units: int) -> list[np.ndarray]:
    """Inputs, the target of the last state, kernel, recurrent kernel, bias; the gates in the order i, f, g, o."""
    rng = np.random.default_rng(6)
    shapes = (steps, batch, inputs), (batch, units), (inputs, 4 * units), (units, 4 * units), (4 * units,)
    scales = 1.0, 1.0, inputs**-0.5, units**-0.5, 0.1
    return [(rng.standard_normal(shape) * scale).astype(np.float32) for shape, scale in zip(shapes, scales)]


def lstm_converted(peer: Any, *data: np.ndarray) -> Call:
    tf = peer.tf
    xs, target, *weights = map(peer.array, data)

    def cell(pre: Any, h: Any, c: Any, U: Any) -> Any:
        i, f, g, o = tf.split(pre + h @ U, 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    def within(xs: Any, target: Any, W: Any, U: Any, b: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([W, U, b])
            h, c = tf.zeros_like(target), tf.zeros_like(target)
            for x in xs:
                h, c = cell(x @ W + b, h, c, U)
            loss = tf.reduce_mean(tf.square(h - target))
        return loss, tape.gradient(loss, [W, U, b])

    def before(xs: Any, target: Any, W: Any, U: Any, b: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([W, U, b])
            h, c = tf.zeros_like(target), tf.zeros_like(target)
            for x in tf.tensordot(xs, W, 1) + b:
                h, c = cell(x, h, c, U)
            loss = tf.reduce_mean(tf.square(h - target))
        return loss, tape.gradient(loss, [W, U, b])

    ways = [peer.function(f) for f in (within, before)]
    return quickest([lambda f=f: f(xs, target, *weights) for f in ways])


def lstm_jax(peer: Any, *data: np.ndarray) -> Call:
    jax, jnp = peer.jax, peer.jnp
    xs, target, *weights = map(peer.array, data)

    def loss_of(weights: Any, first: bool) -> Any:
        W, U, b = weights

        def step(state: Any, x: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split((x if first else x @ W + b) + h @ U, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros_like(target)
        (h, _), _ = jax.lax.scan(step, (zeros, zeros), xs @ W + b if first else xs)
        return jnp.mean(jnp.square(h - target))

    # the products with the inputs inside the loop, and all at once before it
    ways = [jax.jit(jax.value_and_grad(lambda w, first=first: loss_of(w, first))) for first in (False, True)]
    return quickest([lambda f=f: jax.block_until_ready(f(weights)) for f in ways])


def lstm_torch(peer: Any, *data: np.ndarray) -> Call:
    """PyTorch's own layer."""
    torch = peer.torch
    xs, target, W, U, b = map(peer.array, data)
    layer = torch.nn.LSTM(W.shape[0], U.shape[0])
    with torch.no_grad():
        for p, value in zip(layer.parameters(), (W.T, U.T, b, torch.zeros_like(b))):
            p.copy_(value)
    params = list(layer.parameters())[:3]

    def call() -> Any:
        hs, _ = layer(xs)
        loss = torch.mean(torch.square(hs[-1] - target))
        W, U, b = torch.autograd.grad(loss, params)
        return loss, (W.T, U.T, b)

    return call


def lstm_torch_cell(peer: Any, *data: np.ndarray) -> Call:
    """The cell is compiled and the loop stays in Python: compiling all steps as one graph takes minutes."""
    torch = peer.torch
    xs, target, *weights = map(peer.array, data)
    W, U, b = (w.requires_grad_() for w in weights)

    @peer.compile
    def cell(pre: Any, h: Any, c: Any) -> Any:
        i, f, g, o = torch.chunk(torch.addmm(pre, h, U), 4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def call() -> Any:
        h = c = torch.zeros_like(target)
        for x in (xs @ W + b).unbind():
            h, c = cell(x, h, c)
        loss = torch.mean(torch.square(h - target))
        return loss, torch.autograd.grad(loss, (W, U, b))

    return call


def lstm() -> Workload:
    data = lstm_data(steps=100, batch=32, inputs=128, units=128)
    makers = {**alike(lstm_converted, lstm_jax, lstm_torch), "torch.compile": lstm_torch_cell}
    title = "LSTM with gradients, 100 steps, batch 32, 128 units"
    return Workload("lstm", title, Bar("≤ 1.0x best", 1.0, "best"), pick(makers, *data))


# --- the heat equation -----------------------------------------------------------------------------------------------
HEAT_STEPS, SPEED = 100, 0.2


def inner(u: Any) -> Any:
    """The new values of all points but the border: the five-point stencil."""
    around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
    return u[1:-1, 1:-1] + SPEED * (around - 4.0 * u[1:-1, 1:-1])


def heat_converted(peer: Any, u: np.ndarray) -> Call:
    tf = peer.tf
    start = peer.array(u)

    def joined(u: Any) -> Any:
        """The border stays as it is."""
        for _ in tf.range(HEAT_STEPS):
            middle = tf.concat([u[1:-1, :1], inner(u), u[1:-1, -1:]], axis=1)
            u = tf.concat([u[:1], middle, u[-1:]], axis=0)
        return u

    def padded(u: Any) -> Any:
        """The border's change is nothing."""
        for _ in tf.range(HEAT_STEPS):
            u = u + tf.pad(inner(u) - u[1:-1, 1:-1], [[1, 1], [1, 1]])
        return u

    state = tf.Variable(start)

    def assigned(u: Any) -> Any:
        """The points but the border are assigned in a Variable."""
        state.assign(u)
        for _ in tf.range(HEAT_STEPS):
            state[1:-1, 1:-1].assign(inner(state))
        return state.read_value()

    ways = [peer.function(f) for f in (joined, padded, assigned)]
    return quickest([lambda f=f: f(start) for f in ways])


def heat_jax(peer: Any, u: np.ndarray) -> Call:
    jax, jnp = peer.jax, peer.jnp
    start = peer.array(u)

    def assigned(i: Any, u: Any) -> Any:
        return u.at[1:-1, 1:-1].set(inner(u))

    def padded(i: Any, u: Any) -> Any:
        return u + jnp.pad(inner(u) - u[1:-1, 1:-1], 1)

    ways = [jax.jit(lambda u, step=step: jax.lax.fori_loop(0, HEAT_STEPS, step, u)) for step in (assigned, padded)]
    return quickest([lambda f=f: jax.block_until_ready(f(start)) for f in ways])


def heat_torch(peer: Any, u: np.ndarray) -> Call:
    """The step is compiled, from one of two arrays into the other; the loop stays in Python."""
    torch = peer.torch
    start = peer.array(u)

    @peer.compile
    def step(u: Any, new: Any) -> None:
        new[1:-1, 1:-1] = inner(u)

    def call() -> Any:
        old, new = start.clone(), start.clone()
        with torch.no_grad():
            for _ in range(HEAT_STEPS):
                step(old, new)
                old, new = new, old
        return old

    return call


def heat_numpy(peer: Any, u: np.ndarray) -> Call:
    def call() -> Any:
        old, new = u.copy(), u.copy()
        for _ in range(HEAT_STEPS):
            new[1:-1, 1:-1] = inner(old)
            old, new = new, old
        return old

    return call


def heat_numba(start: np.ndarray) -> Call:
    import numba

    speed, four = np.float32(SPEED), np.float32(4)

    @numba.njit(parallel=True)
    def step(u: Any, new: Any) -> None:
        for y in numba.prange(1, u.shape[0] - 1):
            for x in range(1, u.shape[1] - 1):
                around = u[y - 1, x] + u[y + 1, x] + u[y, x - 1] + u[y, x + 1]
                new[y, x] = u[y, x] + speed * (around - four * u[y, x])

    @numba.njit
    def f(start: Any) -> Any:
        old, new = start.copy(), start.copy()
        for _ in range(HEAT_STEPS):
            step(old, new)
            old, new = new, old
        return old

    return lambda: f(start)


def heat() -> Workload:
    u = np.random.default_rng(7).standard_normal((1024, 1024)).astype(np.float32)
    makers = {**alike(heat_converted, heat_jax, heat_torch), "numpy": heat_numpy}
    return Workload(
        "heat",
        f"heat equation 1024x1024, {HEAT_STEPS} steps, f32",
        Bar("≤ 0.8x best", 0.8, "best"),
        pick(makers, u),
        yardsticks={"numba": lambda: heat_numba(u)},
    )


MAKERS = {"newton": newton, "newton_moving": newton_moving, "mandelbrot": mandelbrot, "lstm": lstm, "heat": heat}
