"""Receptive fields: theoretical ones by tracing, effective ones by gradients.

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.fields.effective import EffectiveField, effective_field
    from explain.fields.theoretical import ReceptiveField, receptive_fields

_HOMES = {
    "EffectiveField": "explain.fields.effective",
    "ReceptiveField": "explain.fields.theoretical",
    "effective_field": "explain.fields.effective",
    "receptive_fields": "explain.fields.theoretical",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
