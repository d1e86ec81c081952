"""Why code runs as it is written while functions are traced, and the error at its first decision about a tensor."""

from __future__ import annotations

import inspect
from types import CodeType

from tracejit.errors import ControlFlowError, ConversionError, ShapeError, TracejitError, user_code, whole_traceback
from tracejit.identity import IdentityMap

_reasons: IdentityMap[tuple[str, bool, str]] = IdentityMap()
_FORMS = "use tj.where, tj.cond or tj.while_loop"


def note(code: CodeType, why: str, falls_back: bool = False, cure: str = "") -> None:
    """Functions with this code, and those made in it, run as written; `falls_back` says whether the traced one may."""
    _reasons.set(code, (why, falls_back, cure))
    for c in code.co_consts:
        if isinstance(c, CodeType):
            note(c, why, falls_back, cure)


def note_converted(code: CodeType) -> None:
    """Code that was converted: what still asks for a tensor's truth there is a construct that is not."""
    why = f"{code.co_name} is a generator (it has a `yield`), which is not converted"
    generator = bool(code.co_flags & inspect.CO_GENERATOR)
    _reasons.set(code, (why if generator else "this use of it is not converted", True, ""))
    for c in code.co_consts:
        if isinstance(c, CodeType):
            note_converted(c)


def refusal(what: str) -> ControlFlowError | None:
    """The error for code of the user's that asks for the truth of a tensor; None for code that nothing is known of."""
    code = user_code(2)
    found = None if code is None else _reasons.get(code)
    if found is None:
        return None
    why, falls_back, cure = found
    text = f"the truth of {what} is known only when the function runs, and {why}"
    kind = ConversionError if falls_back else ControlFlowError
    return kind(text, remedy=f"{_FORMS}, or {cure}" if cure else _FORMS)


def may_fall_back(error: TracejitError) -> bool:
    """Whether the function that is traced runs as plain Python instead. What converted code asks for lets it, and what
    that calls; code that is not to be converted says itself what it needs."""
    if isinstance(error, ConversionError):
        return True
    if isinstance(error, ShapeError):
        return error.falls_back
    tb, found = whole_traceback(error), list[bool]()
    while tb is not None:
        reason = _reasons.get(tb.tb_frame.f_code)
        if reason is not None:
            found.append(reason[1])
        tb = tb.tb_next
    return bool(found) and all(found)
