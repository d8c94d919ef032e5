"""The one frame to show where a unit's highest activation is explained: the frame that adds most to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.layouts import to_ncthw
from zoo.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.entries import Layout


def causing_frame(gradient: Tensor, batch: Tensor, layout: Layout) -> Tensor:
    """The frame that adds most to what the gradient is of, for each sample: N, integers.

    "Only the frame causing the highest activation is shown" (3TConv, arXiv 2006.15983, section 4.3) leaves open which
    one that is: a unit sees several frames, at coarse or no steps in time. Here a frame adds the sum, over channels and
    pixels, of gradient times input (arXiv 1605.01713, section 3.3). In a network that is linear piece by piece
    (convolutions, ReLU, maxima, BatchNorm in eval mode), these sums and what biases add make up the activation. Frames
    that the unit does not react to are left out, so a unit of any layer, with whatever steps in time, gets a frame that
    it sees. Equal sums are decided by the gradient's magnitude, then by order.

    Measured against blanking frame after frame, it is the frame without which the activation falls most for 75 to 100 %
    of the units of convolutions (`benchmarks/frames.py`: four depths of ts_conv3d_xl, 12 units each), the frame with
    the strongest gradient for 0 to 58 %, the one in the middle of the unit's window for 8 to 58 %: these often are
    empty. Behind a recurrence over all frames no such rule is to be relied on (an LSTM's units: 33 %).

    Args:
        gradient: As the batch.
        batch: The samples; zero stands for "nothing there" (the mean colour, where inputs are normalised).
        layout: Order of their axes.

    Raises:
        ModelError: There is no gradient at all: the activation does not react to small changes.
    """
    slopes = to_ncthw(gradient, layout).double()
    added = (slopes * to_ncthw(batch, layout).double()).sum(dim=(1, 3, 4))
    felt = slopes.abs().sum(dim=(1, 3, 4))
    if not bool((felt > 0).any(dim=1).all()):
        raise ModelError(
            "the unit's highest activation does not react to small changes of the clip: no frame causes it"
        )
    added = added.masked_fill(felt == 0, float("-inf"))
    most = added == added.amax(dim=1, keepdim=True)
    return felt.masked_fill(~most, -1.0).argmax(dim=1)
