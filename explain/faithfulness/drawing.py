"""What faithfulness tests draw, each from random numbers of its own (`explain.randomness`)."""

from __future__ import annotations

from typing import Final

#: In no order; parameters of the model come after these.
ORDERS: Final = 0
BOXES: Final = 3
NOISE: Final = 4
PARAMETERS: Final = 5
