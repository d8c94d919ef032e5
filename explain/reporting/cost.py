"""What one pass of a model costs, and from where on a report saves passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from explain.preservation import prepared

if TYPE_CHECKING:
    from explain.reporting.context import Context

#: Floating-point operations of a forward pass from which on every pass is dear: a third of a second on two cores.
DEAR = 2e10
#: The same from which on a report runs no passes but those of its maps and their tests.
FORBIDDING = 3e11


def operations(context: Context) -> int:
    """Floating-point operations of one forward pass, counted once for all clips of a page."""
    if "operations" not in context.kept:
        with prepared(context.model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            context.model(context.batch.clone())
        context.kept["operations"] = int(counter.get_total_flops())
    return int(context.kept["operations"])
