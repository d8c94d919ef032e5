"""Drawing of results: `.plot()` returns a matplotlib figure, which notebooks show with a table.

Each kind of result has a function that plots it and one that returns the table's title and rows (`explain.results`).
"""

from __future__ import annotations
