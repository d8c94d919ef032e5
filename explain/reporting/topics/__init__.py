"""The sections that every report has."""

from __future__ import annotations
