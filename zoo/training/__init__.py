"""Recipes, and the loop that makes weights files from them. Importing this package does not import torch."""

from __future__ import annotations

from zoo.entries.recipes import Recipe, Stage

__all__ = ["Recipe", "Stage"]
