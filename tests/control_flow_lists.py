"""The corpus: lists and arrays that grow in loops, comprehensions and generators."""

from control_flow_corpus import case, real, vector, whole


# --- lists and arrays that grow ---------------------------------------------------------------------------------------
@case(vector(-1, 1, 1, 6), smooth=True)
def append_over_a_tensor(m, v):
    out, total = [], v[0] * 0.0
    for a in v:
        total = total * 0.5 + a
        out.append(total)
    return m.stack(out)


@case(real(0.1, 1), whole(1, 6), smooth=True)
def append_over_a_range(m, x, n):
    out = [x]
    for i in m.range(n):
        out.append(x * m.cast(i, m.float64))
    return m.stack(out)


@case(real(1.5, 30, 2), smooth=True)
def append_in_a_while(m, v):
    rows = []
    while m.reduce_sum(v) > 1:
        v = v / 2.0
        rows.append(v)
    return m.stack(rows), v


@case(vector(-1, 1, 3, 7), draws=8)
def append_in_a_branch(m, v):
    out = [v[0]]
    for a in v:
        if a > 0:
            out.append(a * 2.0)
    return m.reduce_sum(m.stack(out)), len(out)


@case(real(-1, 1, 3), smooth=True)
def append_in_a_python_loop(m, v):
    out = []
    for i in range(3):
        if v[i] > 0:
            y = v[i] * 2.0
        else:
            y = v[i] * v[i]
        out.append(y)
    return m.stack(out), out[1]


@case(vector(-1, 1, 2, 6), smooth=True)
def two_lists(m, v):
    ups, downs = [], []
    for i, a in enumerate(v):
        ups.append(a + 1.0)
        downs.append(m.stack([a, a * i]))
    return m.stack(ups), m.stack(downs, axis=1)


@case(vector(-1, 1, 2, 6), smooth=True, single=False)
def tensor_array(m, v):
    ta = m.TensorArray(m.float64, size=0, dynamic_size=True)
    i = 0
    for a in v:
        ta = ta.write(i, a * a)
        i += 1
    return ta.stack()


@case(real(-1, 1), whole(2, 6), smooth=True, single=False)
def tensor_array_reads_what_it_wrote(m, x, n):
    ta = m.TensorArray(m.float64, size=n, clear_after_read=False)
    ta = ta.write(0, x)
    for i in m.range(1, n):
        ta = ta.write(i, ta.read(i - 1) * x + 1.0)
    return ta.stack(), ta.read(n - 1)


@case(vector(-1, 1, 2, 6), smooth=True)
def comprehensions(m, v):
    squares = [a * a for a in v]
    chosen = [a if a > 0 else a * 3.0 for a in v]
    pairs = [a * b + i for i, (a, b) in enumerate(zip(v, squares))]
    return m.stack(squares), m.stack(chosen), m.stack(pairs)


@case(real(-1, 1, 4, 2), smooth=True)
def nested_comprehension(m, w):
    grid = m.stack([m.stack([a * b for b in w[0]]) for a in w[:, 1]])
    parts = {k: m.reduce_sum(w[k]) for k in range(2)}
    return grid, parts[0] * parts[1]


@case(vector(-1, 1, 2, 6), draws=8)
def generators_in_built_in_functions(m, v):
    a = sum(x * x for x in v)
    b = max(v) - min(v)
    c = any(x > 0.5 for x in v)
    d = all(x > -0.5 for x in v)
    return a, b, c, d
