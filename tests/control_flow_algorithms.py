"""The corpus: numerical methods as people write them, with steps that depend on the data."""

import numpy as np
from control_flow_corpus import case, real, vector, whole


# --- roots and integers -----------------------------------------------------------------------------------------------
@case(real(0.2, 30), smooth=True, single=False)
def newton_square_root(m, a):
    x = a
    while m.abs(x * x - a) > 1e-9 * a:
        x = 0.5 * (x + a / x)
    return x


@case(real(2, 9), single=False)
def bisection(m, a):
    low, high = m.zeros_like(a), a
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        if middle * middle < a:
            low = middle
        else:
            high = middle
    return low


@case(real(0.3, 0.9), real(0, 0.2), smooth=True, single=False)
def kepler_equation(m, anomaly, eccentricity):
    e = anomaly
    for _ in range(50):
        delta = (e - eccentricity * m.sin(e) - anomaly) / (1.0 - eccentricity * m.cos(e))
        e = e - delta
        if m.abs(delta) < 1e-12:
            break
    return e


@case(whole(1, 200), whole(1, 200))
def greatest_common_divisor(m, a, b):
    while b != 0:
        a, b = b, a % b
    return a


@case(whole(1, 60), draws=4)
def collatz(m, n):
    steps, peak = 0, n
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        peak = m.maximum(peak, n)
        steps += 1
    return steps, peak


@case(whole(2, 9), whole(0, 30), whole(2, 50))
def modular_power(m, base, exponent, modulus):
    result = m.ones_like(base)
    base = base % modulus
    while exponent > 0:
        if exponent % 2 == 1:
            result = result * base % modulus
        base = base * base % modulus
        exponent = exponent // 2
    return result % modulus


@case(whole(0, 99999))
def digit_sum(m, n):
    total = 0
    while n > 0:
        total += n % 10
        n //= 10
    return total + n


@case(whole(4, 30))
def sieve(m, n):
    numbers = m.range(n)
    is_prime = m.logical_and(numbers > 1, numbers == numbers)
    p = 2
    while p * p < n:
        if is_prime[p]:
            is_prime = m.logical_and(is_prime, m.logical_or(numbers % p != 0, numbers == p))
        p += 1
    return is_prime, m.reduce_sum(m.cast(is_prime, m.int32))


@case(vector(-3, 3, 1, 9), real(-3, 3), draws=8)
def binary_search(m, v, key):
    v = m.cast(m.range(len(v)), m.float64) - 3.0 + 0.0 * v
    low, high = 0, len(v)
    while low < high:
        middle = (low + high) // 2
        if v[middle] < key:
            low = middle + 1
        else:
            high = middle
    return v[0] * 0.0 + low


# --- sequences --------------------------------------------------------------------------------------------------------
@case(vector(-1, 1, 1, 7), smooth=True)
def prefix_sums(m, v):
    total, out = v[0] * 0.0, []
    for a in v:
        total = total + a
        out.append(total)
    return m.stack(out)


@case(vector(-2, 2, 1, 8), draws=8, smooth=True)
def largest_sum_of_neighbours(m, v):
    best = here = v[0]
    for a in v[1:]:
        here = here + a if here > 0 else a
        if here > best:
            best = here
    return best


@case(vector(-2, 2, 2, 9), draws=8)
def longest_rise(m, v):
    longest, now, before = 0, 0, v[0]
    for a in v:
        if a > before:
            now += 1
        else:
            now = 0
        longest = max(longest, now)
        before = a
    return longest, before


@case(vector(-2, 2, 2, 7))
def insertion_sort(m, v):
    numbers = m.range(len(v))
    for i in range(1, len(v)):
        a, j = v[i], i
        while j > 0 and v[j - 1] > a:
            v = m.where(m.equal(numbers, j), v[j - 1], v)
            j -= 1
        v = m.where(m.equal(numbers, j), a, v)
    return v


@case(real(-1, 1, 5), real(-2, 2), smooth=True)
def horner(m, coefficients, x):
    y = m.zeros_like(x)
    for c in coefficients:
        y = y * x + c
    return y


@case(real(-2, 2), smooth=True, single=False)
def series_until_small(m, x):
    term = total = m.ones_like(x)
    k = 1
    while m.abs(term) > 1e-14 and k < 60:
        term = term * x / k
        total = total + term
        k += 1
    return total


@case(real(0, 1, 4, 3), real(0.1, 1, 3, 3), real(0.1, 1, 3), smooth=True)
def forward_algorithm(m, emissions, transitions, start):
    alpha, scale = start / m.reduce_sum(start), emissions[0, 0] * 0.0
    for e in emissions:
        alpha = (alpha @ transitions) * (e + 0.1)
        norm = m.reduce_sum(alpha)
        if norm < 0.5:
            alpha = alpha / norm
            scale = scale + norm
    return alpha, scale


@case(whole(0, 3, 4), whole(0, 3, 5))
def edit_distance(m, a, b):
    row = m.range(6)
    for i, x in enumerate(a):
        left = i + 1
        new = [row[0] * 0 + left]
        for j in range(5):
            cost = 0 if x == b[j] else 1
            left = min(left + 1, row[j + 1] + 1, row[j] + cost)
            new.append(left)
        row = m.stack(new)
    return row[-1]


# --- linear algebra ---------------------------------------------------------------------------------------------------
@case(real(-0.5, 0.5, 3, 3), whole(0, 9), smooth=True)
def matrix_power_by_squaring(m, a, n):
    result = m.eye(3, dtype=m.float64)
    while n > 0:
        if n % 2 == 1:
            result = result @ a
        a = a @ a
        n = n // 2
    return result


@case(real(0.1, 1, 3, 3), single=False)
def power_iteration(m, a):
    v, value = m.ones((3,), m.float64), m.reduce_sum(a)
    for _ in m.range(100):
        w = a @ v
        new = m.reduce_max(w)
        v = w / new
        if m.abs(new - value) < 1e-10:
            break
        value = new
    return value, v


@case(real(-1, 1, 4, 4), real(-1, 1, 4), smooth=True, single=False, draws=3)
def conjugate_gradient(m, a, b):
    a = m.transpose(a) @ a + m.eye(4, dtype=m.float64)
    x, r = m.zeros_like(b), b
    p, rr, k = r, m.reduce_sum(b * b), 0
    while rr > 1e-26 and k < 20:
        ap = a @ p
        alpha = rr / m.reduce_sum(p * ap)
        x = x + alpha * p
        r = r - alpha * ap
        new = m.reduce_sum(r * r)
        p = r + (new / rr) * p
        rr = new
        k += 1
    return x


@case(real(-0.3, 0.3, 3, 3), real(-1, 1, 3), smooth=True, single=False)
def jacobi_iteration(m, a, b):
    x, change = m.zeros_like(b), m.reduce_sum(b * b) + 1.0
    while change > 1e-22:
        new = b - a @ x
        change = m.reduce_sum(m.square(new - x))
        x = new * 0.5 + x * 0.5
    return x


# --- differential equations and images --------------------------------------------------------------------------------
@case(real(0, 1, 6, 6), whole(0, 5), smooth=True)
def heat_equation(m, u, steps):
    for _ in m.range(steps):
        around = m.roll(u, 1, 0) + m.roll(u, -1, 0) + m.roll(u, 1, 1) + m.roll(u, -1, 1)
        u = u + 0.2 * (around - 4.0 * u)
    return u


def _slope(m, t, y):
    return m.sin(t) - y * y


def _rk4(m, t, y, h):
    k1 = _slope(m, t, y)
    k2 = _slope(m, t + h / 2, y + h / 2 * k1)
    k3 = _slope(m, t + h / 2, y + h / 2 * k2)
    k4 = _slope(m, t + h, y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@case(real(0, 2), real(0.5, 2), draws=4, single=False)
def runge_kutta_with_adaptive_steps(m, y, end):
    t, h, rejected = m.zeros_like(y), end / 2.0, 0
    while t < end:
        h = m.minimum(h, end - t)
        once = _rk4(m, t, y, h)
        twice = _rk4(m, t + h / 2, _rk4(m, t, y, h / 2), h / 2)
        if m.abs(once - twice) > 1e-5:
            h = h / 2.0
            rejected += 1
            continue
        t, y = t + h, twice
        h = h * 1.5
    return y, rejected


@case(real(-2, 0.6), real(-1.2, 1.2), draws=8)
def escape_time_of_a_point(m, a, b):
    x = y = a * 0.0
    n = 0
    while x * x + y * y <= 4 and n < 40:
        x, y = x * x - y * y + a, 2 * x * y + b
        n += 1
    return n


@case(real(-2, 0.6, 4, 5), real(-1.2, 1.2, 4, 5), draws=3)
def escape_times_of_an_image(m, a, b):
    x, y, n, k = m.zeros_like(a), m.zeros_like(a), m.zeros((4, 5), m.int32), 0
    inside = x * x + y * y <= 4
    while m.reduce_any(inside) and k < 25:
        x, y = m.where(inside, x * x - y * y + a, x), m.where(inside, 2 * x * y + b, y)
        n = n + m.cast(inside, m.int32)
        inside = x * x + y * y <= 4
        k += 1
    return n


# --- learning ---------------------------------------------------------------------------------------------------------
@case(real(-1, 1, 5, 2, 3), real(-0.5, 0.5, 7, 16), draws=3, smooth=True)
def lstm(m, xs, w):
    h = c = m.zeros((2, 4), m.float64)
    for x in xs:
        z = m.concat([x, h], 1) @ w
        i, f, g, o = m.sigmoid(z[:, :4]), m.sigmoid(z[:, 4:8]), m.tanh(z[:, 8:12]), m.sigmoid(z[:, 12:])
        c = f * c + i * g
        h = o * m.tanh(c)
    return h, c


def _loss(m, x):
    return m.reduce_sum(m.square(x * x - 1.0) + 0.1 * x)


@case(real(-2, 2, 3), draws=4)
def descent_with_line_search(m, x):
    for _ in range(4):
        g = 4.0 * x * (x * x - 1.0) + 0.1
        step, before = 1.0, _loss(m, x)
        while _loss(m, x - step * g) > before - 0.5 * step * m.reduce_sum(g * g):
            step = step * 0.5
            if step < 0.1:
                break
        x = x - step * g
    return x


@case(real(-1, 1, 8, 2), real(-0.2, 0.2, 2), draws=4)
def perceptron(m, xs, w):
    mistakes = 0
    for _ in range(3):
        for x in xs:
            label = 1.0 if x[0] + 2 * x[1] > 0 else -1.0
            if m.reduce_sum(w * x) * label <= 0:
                w = w + label * x
                mistakes += 1
    return w, mistakes


CENTRES = np.array([[-1.0, 0.0], [1.0, 0.5]])


@case(real(-2, 2, 6, 2), draws=4)
def k_means(m, points):
    centres, steps = m.constant(CENTRES), 0
    while True:
        near = m.reduce_sum(m.square(points - centres[0]), 1) < m.reduce_sum(m.square(points - centres[1]), 1)
        w = m.cast(near, m.float64)
        weights = m.stack([w, 1.0 - w])
        new = (weights @ points) / m.maximum(m.reduce_sum(weights, 1, True), 1.0)
        steps += 1
        if m.reduce_all(m.abs(new - centres) < 1e-12) or steps > 20:
            break
        centres = new
    return centres, steps
