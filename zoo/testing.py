"""The conformance checks for a plugin's own tests, at the name that authors import: see `zoo.authors.testing`."""

from __future__ import annotations

from zoo.authors.testing import Case, Check, Outcome, cases, run

__all__ = ["Case", "Check", "Outcome", "cases", "run"]
