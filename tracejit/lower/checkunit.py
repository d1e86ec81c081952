"""Checks as steps of a program: native code passes over the error that its condition forbids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tracejit.errors import TracejitError
from tracejit.frames import raiser
from tracejit.ir.graph import Node
from tracejit.lower.binding import Binding
from tracejit.lower.hostunit import HostUnit
from tracejit.passes.groups import is_scalar_constant
from tracejit.runtime.records import Host, Jump, JumpIfFalse, StepRecord
from tracejit.tracing import at_sizes


def failure(
    n: Node, sizes: Mapping[str, int], ins: Sequence[Callable[[int], np.ndarray]]
) -> Callable[[int], None]:
    """A function of the frame's address that raises a check's error; `ins` read its operands."""
    attrs = at_sizes(n.attrs, dict(sizes))
    lines = [n.loc, *n.loc.calls] if n.loc is not None else []

    def made(frame: int) -> BaseException | None:
        try:
            n.op.numpy(*[read(frame) for read in ins], **attrs)
        except Exception as e:
            if isinstance(e, TracejitError):
                e.where = lines
            return e.with_traceback(None)
        return None

    fail = raiser(lines[::-1], made)
    fail.__qualname__ = f"{attrs['error']}: {attrs['message']}"
    return fail


class CheckUnit(HostUnit):
    """A condition and the error that is raised where it is false; Python is reached only then."""

    def steps(self, b: Binding) -> list[StepRecord]:
        ok = self.inputs[0]
        assert ok is not None
        fail = failure(self.node, b.sizes, self.readers(b))
        if is_scalar_constant(ok.base):
            assert ok.base.node is not None
            return [] if ok.base.node.attr("value").splat else [Host(fail)]
        return [JumpIfFalse(b.slot_at(ok.base, ok.offset, 1), 2), Jump(3), Host(fail)]

    def describe(self) -> str:
        return "check"
