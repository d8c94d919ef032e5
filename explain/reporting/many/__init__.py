"""Reports on many clips: collection, per-clip cache, and aggregation."""

from __future__ import annotations
