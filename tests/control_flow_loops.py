"""The corpus: while, for, break, continue, else, and return in loops."""

from control_flow_corpus import case, real, vector, whole


# --- while ------------------------------------------------------------------------------------------------------------
@case(real(1, 50), smooth=True)
def while_halving(m, x):
    n = 0
    while x > 1:
        x = x / 2.0
        n += 1
    return x, n


@case(whole(0, 9))
def fibonacci(m, n):
    a, b = 0, 1
    while n > 0:
        a, b = b, a + b
        n -= 1
    return a + n


@case(real(0.1, 0.9, 3), whole(0, 5), smooth=True)
def while_with_a_vector(m, v, n):
    i = 0
    while i < n:
        v = v * v + 0.1 * m.sin(v)
        i = i + 1
    return v


@case(real(0, 1, 5), whole(0, 7), draws=10)
def while_and_stops_early(m, v, n):
    i = 0
    while i < n and i < 5 and v[i] > 0.2:
        i += 1
    return n - i


@case(real(1, 30), smooth=True)
def while_with_walrus(m, x):
    total = x * 0.0
    while (y := x * 0.5) > 1:
        x = y
        total = total + y
    return total + y


@case(real(0, 40))
def while_not(m, x):
    n = 0
    while not (x < 3 or n >= 6):
        x = x - 4.0
        n += 1
    return x, n


@case(real(0.5, 6), smooth=True)
def nested_while(m, x):
    total = x * 0.0
    while x > 1:
        y = x
        while y > 0.5:
            total = total + y * y
            y = y - 1.0
        x = x - 1.5
    return total


# --- for --------------------------------------------------------------------------------------------------------------
@case(vector(-1, 1, 1, 6), smooth=True)
def for_over_a_vector(m, v):
    total = 0
    for a in v:
        total += a * a
    return total * 1.0


@case(real(-1, 1, 4, 3), real(-1, 1, 3), smooth=True)
def for_over_rows(m, w, v):
    for row in w:
        v = m.tanh(v + row * m.reduce_sum(v))
    return v


@case(real(-1, 1, 3, 2), smooth=True)
def rows_unpacked(m, w):
    total = w[0, 0] * 0.0
    for a, b in w:
        total = total * a + b
    return total


@case(real(-1, 1), whole(0, 6), smooth=True, single=False)
def for_over_a_tensor_range(m, x, n):
    y = x
    for i in m.range(n):
        y = y * x + m.cast(i, m.float64)
    return y


@case(whole(-4, 3), whole(0, 9), whole(1, 3))
def range_with_start_and_step(m, a, b, s):
    total = a * 0
    for i in m.range(a, b, s):
        total = total * 2 + i
    for i in range(b, a, -s):
        total = total - i
    return total


@case(real(-1, 1), whole(0, 6), smooth=True)
def python_range_with_a_tensor_bound(m, x, n):
    y = x * 0.0
    for i in range(n):
        y = y + x * i
    return y


@case(vector(-1, 1, 1, 6), smooth=True)
def zip_and_enumerate(m, v):
    total = v[0] * 0.0
    for a, b in zip(v, v * v):
        total = total + a * b
    for i, a in enumerate(v):
        total = total + a * i
    for i, (a, b) in enumerate(zip(v, m.sin(v)), start=3):
        total = total + i * b - a
    return total


@case(vector(-1, 1, 0, 3), draws=8, smooth=True)
def loops_that_may_not_run(m, v):
    n, total = 0, m.reduce_sum(v)
    for a in v:
        total = total * a
        n += 1
    return total, n


@case(whole(0, 5), smooth=True)
def inner_bound_from_outer_loop(m, n):
    total = n * 0
    for i in m.range(n):
        for j in m.range(i):
            total += i * j + 1
        for j in range(i, n):
            total -= j
    return total


@case(vector(-1, 1, 2, 5))
def loop_variable_after_the_loop(m, v):
    i = 100
    for i in range(3):
        pass
    for j, v in enumerate(v):
        i = i + j
    return v, i, j


@case(vector(-1, 1, 2, 5), smooth=True)
def assigning_to_the_loop_variable(m, v):
    total = v[0] * 0.0
    for a in v:
        if a < 0:
            a = -a
        a = a + 1.0
        total = total + a * a
    return total, a


@case(vector(-1, 1, 1, 5), whole(1, 4))
def number_becomes_a_tensor(m, v, n):
    total, count, flag = 0, 0, False
    for a in v:
        total = total + a
        count = count + n
        flag = flag or a > 0.5
    return total, count, flag


@case(vector(-1, 0.3, 1, 3), draws=10, promotes=True)
def dtype_grows_in_a_loop(m, v):
    total = m.constant(1, m.int32)
    for a in v:
        if a > 0:
            total = total + a
    return total


# --- break, continue, else --------------------------------------------------------------------------------------------
@case(vector(-1, 1, 2, 8), draws=8, smooth=True)
def break_in_a_for(m, v):
    total = v[0] * 0.0
    for a in v:
        if a > 0.5:
            break
        total = total + a * a
    return total


@case(vector(-1, 1, 2, 8), draws=8, smooth=True)
def continue_in_a_for(m, v):
    total = v[0] * 0.0
    for a in v:
        if a < 0:
            continue
        total = total + a
        if total > 1:
            continue
        total = total * 1.5
    return total


@case(vector(-1, 1, 3, 9), draws=10, smooth=True)
def break_and_continue(m, v):
    product, n = v[0] * 0.0 + 1.0, 0
    for i, a in enumerate(v):
        if a < -0.4:
            continue
        if i > 3:
            break
        product = product * (1.0 + a)
        if product > 2:
            product = product - 1.0
            break
        n += 1
    return product, n


@case(real(-1, 1, 3, 4), draws=10, smooth=True)
def breaks_in_nested_loops(m, w):
    total = w[0, 0] * 0.0
    for row in w:
        for a in row:
            if a < -0.7:
                break
            if a > 0.8:
                continue
            total = total + a
        if total > 1.2:
            break
    return total


@case(real(0.1, 9), smooth=True)
def while_true_with_break(m, x):
    n = 0
    while True:
        x = x * 0.7
        if x < 1:
            break
        n += 1
    return x, n


@case(real(1, 60), smooth=True)
def while_true_with_return(m, x):
    while True:
        if x < 2:
            return x * 10.0
        x = x / 2.0
        if x < 1.5:
            return x


@case(real(0.3, 2), draws=8, smooth=True)
def python_range_with_tensor_break(m, x):
    y = x
    for i in range(5):
        y = y * x + 0.1 * i
        if y > 3:
            break
    return y, i


@case(real(-1, 1), draws=8, smooth=True)
def python_range_with_tensor_continue(m, x):
    y = x
    for i in range(4):
        if y * (-1) ** i > 0:
            y = y - 0.6
            continue
        y = y + 0.5
    return y


@case(real(-1, 1, 3), draws=8, smooth=True)
def python_list_with_tensor_break(m, v):
    total = v[0]
    for f in [m.sin, m.cos, lambda z: z * z]:
        total = total + f(total)
        if total > 1:
            break
    return total


@case(vector(-1, 1, 2, 6), draws=10, smooth=True)
def for_else(m, v):
    total = v[0] * 0.0
    for a in v:
        total = total + a
        if a > 0.7:
            break
    else:
        total = total - 10.0
    return total


@case(real(0, 20), whole(0, 4), draws=10, smooth=True)
def while_else(m, x, n):
    while x > 1:
        x = x / 3.0
        n = n - 1
        if n < 0:
            break
    else:
        x = x + 50.0
    return x


@case(real(0, 2, 3), draws=8, smooth=True)
def python_loop_else(m, v):
    for i in range(3):
        if v[i] > 1.2:
            y = v[i] * i
            break
    else:
        y = m.reduce_sum(v)
    return y


# --- return in loops --------------------------------------------------------------------------------------------------
@case(vector(-1, 1, 2, 8), draws=8)
def return_in_a_for(m, v):
    for i, a in enumerate(v):
        if a > 0.5:
            return i, a
    return -1, v[0]


@case(real(-1, 1, 3, 3), draws=8, smooth=True)
def return_in_nested_loops(m, w):
    total = w[0, 0] * 0.0
    for row in w:
        for a in row:
            total = total + a
            if total > 0.9:
                return total * 2.0
        if total < -0.5:
            return total
    return total + 100.0


@case(real(1, 5), whole(1, 8), draws=8, smooth=True)
def return_in_a_while(m, x, n):
    while n > 0:
        x = x + 1.0
        if x > 6:
            return x
        n -= 1
    return -x


@case(real(0, 2), draws=8, smooth=True)
def return_in_a_python_loop(m, x):
    for k in (0.5, 1.0, 1.5):
        if x < k:
            return x * k
    return x
