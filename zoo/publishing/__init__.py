"""Models on the Hugging Face Hub: cards, and one commit for all files.

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from zoo.publishing.pushing import push

_HOMES = {
    "push": "zoo.publishing.pushing",
}

__all__ = ["push"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
