"""Built-in sections of reports."""

from __future__ import annotations
