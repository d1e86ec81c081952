"""Functions that generated Numba source calls, as text: what neither Python nor NumPy has with the meaning needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracejit.ir.types import DType

# {t}: constructor of the type computed in, {bits}: its width, {low} and {high}: literals of its ends,
# {philox} and the like: a function that is called; lines marked "# signed" are left out for unsigned types
HELPERS = {
    "sigmoid": '''
def {name}(x):
    """1 / (1 + exp(-x)), without overflow."""
    e = {m}exp(-abs(x))
    return ({t}(1.0) if x >= {t}(0.0) else e) / ({t}(1.0) + e)
''',
    "softplus": '''
def {name}(x):
    """log(1 + exp(x)), without overflow."""
    return max(x, {t}(0.0)) + {m}log1p({m}exp(-abs(x))) if x == x else x
''',
    "maximum": '''
def {name}(a, b):
    """The larger; NaN if either is."""
    return a if a > b or a != a else b
''',
    "minimum": '''
def {name}(a, b):
    """The smaller; NaN if either is."""
    return a if a < b or a != a else b
''',
    "sign": '''
def {name}(x):
    """-1, 0 or 1; NaN stays."""
    return {t}(1) if x > {t}(0) else {t}(-1) if x < {t}(0) else x
''',
    "floor_divide": '''
def {name}(a, b):
    """a // b rounded down; 0 for a divisor of 0."""
    if b == {t}(0):
        return {t}(0)
    if b == {t}(-1):  # signed
        return {t}(-a)  # signed
    return {t}(a // b)
''',
    "floor_modulo": '''
def {name}(a, b):
    """a % b with the sign of b; 0 for a divisor of 0."""
    if b == {t}(0):
        return {t}(0)
    if b == {t}(-1):  # signed
        return {t}(0)  # signed
    return {t}(a % b)
''',
    "floor_divide_real": '''
def {name}(a, b):
    """a // b rounded down."""
    if b == {t}(0.0):
        return a / b
    r = {m}fmod(a, b)
    q = (a - r) / b
    if r != {t}(0.0) and (r < {t}(0.0)) != (b < {t}(0.0)):
        q = q - {t}(1.0)
    down = {m}floor(q)
    if q == {t}(0.0):
        return {m}copysign({t}(0.0), a / b)
    return down + {t}(1.0) if q - down > {t}(0.5) else down
''',
    "floor_modulo_real": '''
def {name}(a, b):
    """a % b with the sign of b."""
    r = {m}fmod(a, b)
    if r == {t}(0.0):
        return {m}copysign(r, b)
    return r + b if (r < {t}(0.0)) != (b < {t}(0.0)) else r
''',
    "truncate_divide": '''
def {name}(a, b):
    """a / b rounded towards zero; 0 for a divisor of 0."""
    if b == {t}(0):
        return {t}(0)
    if b == {t}(-1):  # signed
        return {t}(-a)  # signed
    q = {t}(a // b)
    return {t}(q + {t}(1)) if q < {t}(0) and {t}(q * b) != a else q
''',
    "truncate_modulo": '''
def {name}(a, b):
    """The rest of a / b with the sign of a; 0 for a divisor of 0."""
    if b == {t}(0) or b == {t}(-1):
        return {t}(0)
    r = {t}(a % b)
    return {t}(r - b) if r != {t}(0) and (r < {t}(0)) != (a < {t}(0)) else r
''',
    "position": '''
def {name}(i, n):
    """The index i of an axis of size n: negative ones count from the end, none lies outside."""
    i = {t}(i)
    return max({t}(0), min(i + n if i < {t}(0) else i, n - 1))
''',
    "power": '''
def {name}(a, b):
    """a to the power b by repeated squaring; truncated towards zero where b is negative."""
    if b < {t}(0):  # signed
        return a if a == {t}(1) or (a == {t}(-1) and b % {t}(2) != {t}(0)) else {t}(a == {t}(-1))  # signed
    result = {t}(1)
    while b > {t}(0):
        if (b & {t}(1)) != {t}(0):
            result = {t}(result * a)
        a = {t}(a * a)
        b = {t}(b >> {t}(1))
    return result
''',
    "shift_left": '''
def {name}(a, b):
    """a * 2**b; bits that leave are lost."""
    return {t}(a << b) if {t}(0) <= b and b < {t}({bits}) else {t}(0)
''',
    "shift_right": '''
def {name}(a, b):
    """a // 2**b."""
    return {t}(a >> b) if {t}(0) <= b and b < {t}({bits}) else {t}({beyond})
''',
    "saturate": '''
def {name}(x):
    """A floating number as an integer: towards zero, the nearest in range; NaN gives 0."""
    if x != x:
        return {t}(0)
    if x <= {below}:
        return {t}({low})
    if x >= {above}:
        return {t}({high})
    return {t}(x)
''',
    "philox": '''
def {name}(block, key, stream):
    """The four words of a block of the sequence of a key and a stream, by Philox 4x32-10."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = block & low, block >> half, stream & low, stream >> half
    k0, k1 = key & low, key >> half
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3
''',
    "philox32": '''
def {name}(i, key, stream):
    """32 random bits: word i of the sequence of a key and a stream."""
    c0, c1, c2, c3 = {philox}(i >> np.uint64(2), key, stream)
    word = i & np.uint64(3)
    if word < np.uint64(2):
        return np.uint32(c0 if word == np.uint64(0) else c1)
    return np.uint32(c2 if word == np.uint64(2) else c3)
''',
    "philox64": '''
def {name}(i, key, stream):
    """64 random bits: words 2i and 2i + 1 of the sequence of a key and a stream."""
    c0, c1, c2, c3 = {philox}(i >> np.uint64(1), key, stream)
    if (i & np.uint64(1)) == np.uint64(0):
        return c0 | (c1 << np.uint64(32))
    return c2 | (c3 << np.uint64(32))
''',
    "half_to_float": '''
def {name}(h):
    """The float32 of a float16, given by its bits."""
    bits = np.int64(h)
    x = np.uint32((bits & 0x7FFF) << 13).view(np.float32) * np.float32(2.0**112)
    magnitude = np.int64(np.float32(x).view(np.uint32))
    if bits & 0x7C00 == 0x7C00:
        magnitude |= 0x7F800000
    return np.uint32(magnitude | ((bits & 0x8000) << 16)).view(np.float32)
''',
    "float_to_half": '''
def {name}(x):
    """The bits of the float16 nearest to a float32, ties to even."""
    bits = np.int64(np.float32(x).view(np.uint32))
    sign, magnitude = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    if magnitude > 0x7F800000:
        return np.uint16(sign | 0x7E00)
    if magnitude >= 0x47800000:
        return np.uint16(sign | 0x7C00)
    if magnitude < 0x38800000:
        small = np.uint32(magnitude).view(np.float32) + np.float32(0.5)
        return np.uint16(sign | (np.int64(np.float32(small).view(np.uint32)) - 0x3F000000))
    odd = (magnitude >> 13) & 1
    return np.uint16(sign | ((magnitude - (112 << 23) + 0xFFF + odd) >> 13))
''',
    "bfloat_to_float": '''
def {name}(b):
    """The float32 of a bfloat16, given by its bits."""
    return np.uint32(np.int64(b) << 16).view(np.float32)
''',
    "float_to_bfloat": '''
def {name}(x):
    """The bits of the bfloat16 nearest to a float32, ties to even."""
    bits = np.int64(np.float32(x).view(np.uint32))
    if bits & 0x7FFFFFFF > 0x7F800000:
        return np.uint16((bits >> 16) | 0x40)
    return np.uint16((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)
''',
}

SIGNED = "  # signed"
CALLS = {"philox32": ("philox",), "philox64": ("philox",)}
WHOLE = frozenset({"philox32", "philox64"})  # ops whose scalar form is replaced by the function of their name


def helper(kind: str, name: str, dtype: DType, module: str, calls: Mapping[str, str]) -> str:
    """The text of a helper function for one element type.

    Parameters
    ----------
    module : where exp and the like come from, as "np."
    calls : names of the helper functions that it calls
    """
    kept = "float32" if dtype.kind == "f" and dtype.bits == 16 else dtype.name
    low, high = (dtype.min, dtype.max) if dtype.kind in "iu" else (0, 0)
    text = HELPERS[kind].format(
        name=name, t=f"np.{kept}", m=module, bits=dtype.bits, low=low, high=high,
        below=f"np.float64({float(low)!r})", above=f"np.float64({float(high)!r})",
        **calls, beyond="-1 if a < {t}(0) else 0".format(t=f"np.{kept}") if dtype.kind == "i" else "0",
    )  # fmt: skip
    lines = [x for x in text.strip("\n").splitlines() if dtype.kind != "u" or not x.endswith(SIGNED)]
    return "\n".join([x.removesuffix(SIGNED) for x in lines])


def literal(value: float | int | bool, dtype: DType) -> str:
    """A literal that has its type: `np.float32(0.5)`, never 0.5. 16-bit floats are float32 in expressions."""
    if dtype.kind == "b":
        return "True" if value else "False"
    if dtype.kind in "iu":
        return f"np.{dtype.name}({int(value)})"
    if dtype.bits == 16:
        value = float(dtype.np.type(value))
    kept = np.float64 if dtype.bits == 64 else np.float32
    x = kept(value)
    text = "np.nan" if np.isnan(x) else f"{'-' if x < 0 else ''}np.inf" if np.isinf(x) else _shortest(x)
    return f"np.{kept.__name__}({text})"


def _shortest(x: np.floating) -> str:
    """The shortest decimal that reads back as x."""
    fixed = np.format_float_positional(x, trim="0")
    short = np.format_float_scientific(x, trim="-")
    return fixed if len(fixed) <= len(short) + 3 else short.replace("e+", "e")
