"""How results show themselves: `.plot()`, a matplotlib figure, and the view of a notebook, HTML without a script.

One module for each kind of result, with `plot(result, ...)` and `html(result)`; their methods are thin.
"""

from __future__ import annotations
