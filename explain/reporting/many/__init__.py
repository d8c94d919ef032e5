"""Reports on many clips: what to take, what is kept of each while the work goes on, and what all of them say."""

from __future__ import annotations
