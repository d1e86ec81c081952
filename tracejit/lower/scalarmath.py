"""The whole scalar protocol over LLVM registers."""

from __future__ import annotations

from tracejit.lower.scalarexp import ExpScalar


class LLVMScalar(ExpScalar):
    """The whole scalar protocol over LLVM registers of `width` lanes."""
