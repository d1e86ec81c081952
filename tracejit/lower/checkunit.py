"""Checks as steps of a program: native code passes over the error that its condition forbids."""

from __future__ import annotations

from tracejit.errors import TracejitError, hide_frames, raise_at
from tracejit.lower.binding import Binding
from tracejit.lower.hostunit import HostUnit
from tracejit.passes.groups import is_scalar_constant
from tracejit.runtime.records import Host, Jump, JumpIfFalse, StepRecord
from tracejit.tracing import at_sizes


class CheckUnit(HostUnit):
    """A condition and the error that is raised where it is false; Python is reached only then."""

    def steps(self, b: Binding) -> list[StepRecord]:
        n, ok = self.node, self.inputs[0]
        attrs = at_sizes(n.attrs, b.sizes)  # type: ignore[arg-type]
        ins = self.readers(b)
        assert ok is not None

        def fail(frame: int) -> None:
            failed = None
            try:
                n.op.numpy(*[read(frame) for read in ins], **attrs)
            except TracejitError as e:
                e.where = [n.loc] if n.loc is not None else []
                hide_frames(e)
                raise
            except AssertionError as e:
                failed = e.with_traceback(None)
            if failed is not None:
                raise_at([n.loc] if n.loc is not None else [], failed)

        fail.__qualname__ = f"{attrs['error']}: {attrs['message']}"
        if is_scalar_constant(ok.base):
            assert ok.base.node is not None
            return [] if ok.base.node.attr("value").splat else [Host(fail)]
        return [JumpIfFalse(b.slot_at(ok.base, ok.offset, 1), 2), Jump(3), Host(fail)]

    def describe(self) -> str:
        return "check"
