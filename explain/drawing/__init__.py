"""How results show themselves: `.plot()`, a matplotlib figure, which notebooks show with one table.

For each kind of result a function that plots it and one that gives the table's title and rows (`explain.results`).
"""

from __future__ import annotations
