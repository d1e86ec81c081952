"""Algorithms on arrays as people write them: loops and branches that assign to elements. `m` is tracejit or NumPy."""

import dataclasses

from control_flow_corpus import real, vector, whole

PROGRAMS = {}  # name: function, draws of its inputs, whether it is differentiated


def program(*draws, smooth=False):
    def keep(f):
        PROGRAMS[f.__name__] = f, draws, smooth
        return f

    return keep


# --- tables -----------------------------------------------------------------------------------------------------------
@program(whole(0, 3, 7), whole(0, 3, 5))
def edit_distance(m, a, b):
    d = m.zeros((len(a) + 1, len(b) + 1), m.int32)
    d[:, 0] = m.range(len(a) + 1)
    d[0, :] = m.range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            cost = 0 if a[i - 1] == b[j - 1] else 1
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + cost)
    return d[-1, -1], d


@program(whole(1, 9, 5), whole(1, 9, 5), whole(5, 20))
def knapsack(m, weights, values, capacity):
    best = m.zeros(21, m.int32)
    for i in range(len(weights)):
        c = capacity
        while c >= weights[i]:
            best[c] = max(best[c], best[c - weights[i]] + values[i])
            c -= 1
    return best


@program(whole(0, 2, 8), whole(0, 2, 9))
def longest_common_subsequence(m, a, b):
    table = m.zeros((9, 10), m.int32)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            if x == y:
                table[i + 1][j + 1] = table[i][j] + 1
            else:
                table[i + 1][j + 1] = m.maximum(table[i][j + 1], table[i + 1][j])
    return table[8, 9]


@program(whole(2, 40))
def coins(m, amount):
    ways = m.zeros(41, m.int32)
    ways[0] = 1
    for coin in (1, 2, 5, 10):
        for a in range(coin, amount + 1):
            ways[a] += ways[a - coin]
    return ways


@program(real(1, 9, 6))
def matrix_chain(m, sizes):
    n = len(sizes) - 1
    cost = m.zeros((n, n), m.float64)
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            cost[i, j] = 1e30
            for k in range(i, j):
                q = cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
                if q < cost[i, j]:
                    cost[i, j] = q
    return cost[0, n - 1]


@program(real(-1, 1, 6, 3), real(-1, 1, 3, 3), smooth=True)
def viterbi(m, scores, moves):
    n, k = scores.shape
    best = m.zeros((n, k), m.float64)
    back = m.zeros((n, k), m.int32)
    best[0] = scores[0]
    for t in range(1, n):
        for s in range(k):
            options = best[t - 1] + moves[:, s]
            back[t, s] = m.cast(m.argmax(options), m.int32)
            best[t, s] = m.reduce_max(options) + scores[t, s]
    path = m.zeros(n, m.int32)
    path[-1] = m.cast(m.argmax(best[-1]), m.int32)
    for t in range(n - 2, -1, -1):
        path[t] = back[t + 1, path[t + 1]]
    return path, m.reduce_max(best[-1])


# --- order ------------------------------------------------------------------------------------------------------------
@program(vector(-1, 1, 3, 9))
def insertion_sort(m, x):
    for i in range(1, len(x)):
        v, j = x[i], i - 1
        while j >= 0 and x[j] > v:
            x[j + 1] = x[j]
            j -= 1
        x[j + 1] = v
    return x


@program(real(-1, 1, 8))
def odd_even_network(m, x):
    for step in range(8):
        for i in range(step % 2, 7, 2):
            low, high = m.minimum(x[i], x[i + 1]), m.maximum(x[i], x[i + 1])
            x[i], x[i + 1] = low, high
    return x


@program(real(-1, 1, 6))
def heap_sort(m, x):
    n = len(x)
    for end in range(2 * n, 0, -1):
        start, last = (end - n - 1, n) if end > n else (0, end - 1)
        if end <= n:
            x[0], x[last] = x[last], x[0]
        i = start
        while 2 * i + 1 < last:
            child = 2 * i + 1
            if child + 1 < last and x[child + 1] > x[child]:
                child += 1
            if x[i] >= x[child]:
                break
            x[i], x[child] = x[child], x[i]
            i = child
    return x


@program(whole(0, 9, 12))
def counting_sort(m, x):
    count, out = m.zeros(10, m.int32), m.zeros_like(x)
    for v in x:
        count[v] += 1
    at = 0
    for v in range(10):
        for _ in range(count[v]):
            out[at] = v
            at += 1
    return out


@program(whole(0, 6, 7), whole(0, 6))
def reversed_until(m, x, stop):
    i, j = 0, len(x) - 1
    while i < j:
        if i == stop:
            break
        x[i], x[j] = x[j], x[i]
        i, j = i + 1, j - 1
    else:
        x[0] += 100
    return x


# --- graphs -----------------------------------------------------------------------------------------------------------
@program(whole(0, 7, 6, 2))
def union_find(m, pairs):
    parent = m.range(8)

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    joined = 0
    for p in pairs:
        a, b = find(p[0]), find(p[1])
        if a != b:
            parent[a] = b
            joined += 1
    return joined, m.stack([find(i) for i in range(8)])


@program(real(1, 9, 5, 5))
def floyd_warshall(m, d):
    for i in range(5):
        d[i, i] = 0.0
    for k in range(5):
        for i in range(5):
            for j in range(5):
                if d[i, k] + d[k, j] < d[i, j]:
                    d[i, j] = d[i, k] + d[k, j]
    return d


@program(real(1, 9, 6, 6), whole(0, 5))
def dijkstra(m, length, source):
    distance, done = m.zeros(6, m.float64), m.zeros(6, m.bool)
    distance[:] = 1e9
    distance[source] = 0.0
    for _ in range(6):
        at = m.argmax(m.where(done, -1e18, -distance))
        done[at] = True
        for j in range(6):
            if not done[j]:
                distance[j] = m.minimum(distance[j], distance[at] + length[at, j])
    return distance


@program(whole(0, 1, 6, 6))
def depth_first(m, edges):
    stack, seen, order = m.zeros(64, m.int32), m.zeros(6, m.bool), m.zeros(6, m.int32)
    top, found = 1, 0
    while top > 0:
        top -= 1
        at = stack[top]
        if seen[at]:
            continue
        seen[at] = True
        order[found] = at
        found += 1
        for j in range(6):
            if edges[at, j] == 1 and not seen[j]:
                stack[top] = j
                top += 1
    return found, order


# --- numbers ----------------------------------------------------------------------------------------------------------
@program(whole(10, 60))
def sieve(m, n):
    prime = m.ones(61, m.bool)
    prime[:2] = False
    p = 2
    while p * p <= n:
        if prime[p]:
            q = p * p
            while q <= n:
                prime[q] = False
                q += p
        p += 1
    return prime


@program(whole(2, 12))
def pascal(m, n):
    row = m.zeros(14, m.int64)
    row[0] = 1
    for k in range(n):
        for j in range(k + 1, 0, -1):
            row[j] += row[j - 1]
    return row


@program(whole(1, 200))
def digits(m, n):
    out, k = m.zeros(8, m.int32), 0
    while n > 0 and k < 8:
        out[k] = n % 2
        n //= 2
        k += 1
    return out, k


@program(whole(0, 1, 20))
def run_lengths(m, bits):
    lengths, k = m.zeros(20, m.int32), 0
    lengths[0] = 1
    for i in range(1, 20):
        if bits[i] != bits[i - 1]:
            k += 1
        lengths[k] += 1
    return lengths, k + 1


# --- linear algebra ---------------------------------------------------------------------------------------------------
@program(real(-1, 1, 4, 4), real(-1, 1, 4), smooth=True)
def gauss_elimination(m, a, b):
    for i in range(4):
        a[i, i] += 4.0
    for k in range(4):
        for i in range(k + 1, 4):
            f = a[i, k] / a[k, k]
            a[i, k:] -= f * a[k, k:]
            b[i] -= f * b[k]
    x = m.zeros(4, m.float64)
    for i in range(3, -1, -1):
        x[i] = (b[i] - m.reduce_sum(a[i, i + 1 :] * x[i + 1 :])) / a[i, i]
    return x


@program(real(-1, 1, 3, 3), smooth=True)
def cholesky_by_hand(m, a):
    a = a @ m.transpose(a) + 3.0 * m.eye(3)
    low = m.zeros((3, 3), m.float64)
    for i in range(3):
        for j in range(i + 1):
            s = a[i, j] - m.reduce_sum(low[i, :j] * low[j, :j])
            low[i, j] = m.sqrt(s) if i == j else s / low[j, j]
    return low


@program(real(-1, 1, 4, 4), real(-1, 1, 4))
def jacobi(m, a, b):
    a = a + 6.0 * m.eye(4)
    x = m.zeros(4, m.float64)
    for _ in range(60):
        new = m.zeros(4, m.float64)
        for i in range(4):
            new[i] = (b[i] - m.reduce_sum(a[i] * x) + a[i, i] * x[i]) / a[i, i]
        change = m.reduce_max(m.abs(new - x))
        x = new
        if change < 1e-9:
            break
    return x


@program(real(-1, 1, 5), smooth=True)
def tridiagonal(m, d):
    n = len(d)
    c, e = m.zeros(n, m.float64), m.zeros(n, m.float64)
    c[0], e[0] = 1.0 / 4.0, d[0] / 4.0
    for i in range(1, n):
        w = 4.0 - c[i - 1]
        c[i] = 1.0 / w
        e[i] = (d[i] - e[i - 1]) / w
    for i in range(n - 2, -1, -1):
        e[i] -= c[i] * e[i + 1]
    return e


# --- physics and statistics -------------------------------------------------------------------------------------------
@program(whole(0, 1, 6, 6), whole(0, 4))
def game_of_life(m, grid, steps):
    for _ in range(steps):
        new = m.zeros((6, 6), m.int32)
        for i in range(6):
            for j in range(6):
                n = m.reduce_sum(grid[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]) - grid[i, j]
                if n == 3 or (grid[i, j] == 1 and n == 2):
                    new[i, j] = 1
        grid = new
    return grid


@program(real(0, 1, 7, 7), whole(0, 6), smooth=True)
def heat(m, u, steps):
    for _ in range(steps):
        u[1:-1, 1:-1] += 0.1 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1])
        u[0] = 0.0
    return u


@program(real(0, 1, 8), smooth=True)
def exponential_smoothing(m, x):
    y = m.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = 0.3 * x[i] + 0.7 * y[i - 1]
    return y


@program(real(-2, 2, 12), real(-2, 2, 3))
def k_means(m, x, centres):
    for _ in range(8):
        total, count = m.zeros(3, m.float64), m.zeros(3, m.float64)
        for v in x:
            k = m.argmax(-m.abs(centres - v))
            total[k] += v
            count[k] += 1.0
        for k in range(3):
            if count[k] > 0:
                centres[k] = total[k] / count[k]
    return centres


@program(real(0, 1, 20))
def histogram(m, x):
    bins = m.zeros(5, m.int32)
    for v in x:
        bins[m.cast(v * 5.0, m.int32)] += 1
    return bins


@program(real(-1, 1, 9), real(0.1, 0.6))
def clipped_steps(m, x, limit):
    x[x > limit] = limit
    x[x < -limit] *= 0.5
    for i in range(len(x)):
        if x[i] == limit:
            continue
        x[i] += 0.01 * i
    return x


@program(real(0.2, 1, 3), smooth=True)
def runge_kutta(m, y0):
    path = m.zeros((6, 3), m.float64)
    path[0] = y0
    t, h, k = 0.0, 0.05, 0
    while t < 0.4 and k < 5:
        y = path[k]
        k1 = m.sin(y)
        k2 = m.sin(y + h * k1)
        path[k + 1] = y + 0.5 * h * (k1 + k2)
        t += h
        h = h * 2.0 if m.reduce_max(m.abs(k2 - k1)) < 0.05 else h
        k += 1
    return path


@dataclasses.dataclass
class Walk:
    seen: object
    at: object
    steps: int = 0

    def move(self, d):
        self.at = (self.at + d) % 5
        self.seen[self.at] += 1
        self.steps += 1
        return self


@program(whole(-3, 3, 10))
def walk_in_an_object(m, moves):
    w = Walk(m.zeros(5, m.int32), m.constant(0, m.int32))
    for d in moves:
        w.move(d)
        if w.seen[w.at] > 3:
            break
    return w.seen, w.at, w.steps


@program(real(-1, 1, 5), whole(0, 4))
def state_in_a_dict(m, x, n):
    state = {"h": x * 2.0, "log": [m.zeros(5, m.float64), m.ones(5, m.float64)]}
    for i in range(n):
        state["h"][i] += state["log"][1][i]
        state["log"][0][i] = state["h"][i] * 0.5
        try:
            state["log"][-1][i] = 7.0
        finally:
            state["h"][4] += 1.0
    return state["h"], state["log"][0], state["log"][1]


@program(real(-1, 1, 4, 4), whole(0, 3))
def rotated(m, a, turns):
    k = 0
    while (k := k + 1) <= turns:
        b = m.zeros((4, 4), m.float64)
        for i in range(4):
            b[:, 3 - i] = a[i]
        a = b
    return a


@program(whole(0, 4, 12))
def tape_machine(m, code):
    cells, at, out = m.zeros(6, m.int32), 0, 0
    for op in code:
        match op:
            case 0:
                cells[at] += 1
            case 1:
                at = (at + 1) % 6
            case 2:
                at = (at - 1) % 6
            case 3 if cells[at] > 0:
                out += cells[at]
                cells[at] = 0
            case _:
                cells[at] -= 1
    return cells, at, out


@program(real(-1, 1, 6), whole(-6, 5))
def one_of_three(m, x, i):
    if i < 0:
        x[i] = 10.0
    elif i > 2:
        x[i - 3] += 20.0
        x[-i] = x[i]
    else:
        y = x * 1.0
        y[i] = 30.0
        x = y
    return x
