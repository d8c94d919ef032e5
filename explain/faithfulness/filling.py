"""What takes the place of removed parts: what is left of the frame around them, carried over smoothly.

Blocks of one colour have edges that no clip has: a network breaks down on them wherever they lie, so that no order of
removal can do better than a random one, and the blocks' own outline tells it things (Rong et al., ROAD, arXiv
2202.00449, sections 3 and 4, where missing pixels are linear combinations of their neighbours for that reason). Here
they are filled through a pyramid of coarser frames, the pull-push of Gortler et al. (The Lumigraph, SIGGRAPH 1996): as
smooth as the solution of those linear equations, and far cheaper than a forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def fill(clips: Tensor, missing: Tensor, empty: Tensor) -> Tensor:
    """Clips whose missing pixels are filled in from what is left of the same frame.

    Frames are filled one by one: another frame may show what is missing here, and the order of frames is part of what
    a clip says.

    Args:
        clips: n x C x T x H x W.
        missing: Truth values, n x T x H x W.
        empty: Taken for frames of which nothing is left; as the clips.
    """
    frames, gone, blank = (one.transpose(1, 2).flatten(0, 1) for one in (clips, missing[:, None], empty))
    filled = torch.where(gone, blank, frames)
    some = gone.flatten(1).any(dim=1) & ~gone.flatten(1).all(dim=1)
    filled[some] = _fill(frames[some], (~gone[some]).to(frames))
    return filled.reshape(clips.transpose(1, 2).shape).transpose(1, 2)


def _fill(frames: Tensor, known: Tensor) -> Tensor:
    """Frames m x C x H x W, filled where `known` (m x 1 x H x W, 1 or 0) is 0, from the same frames half as large."""
    height, width = frames.shape[-2:]
    if height == width == 1:
        return frames
    odd = (0, width % 2, 0, height % 2)
    sums, counts = (F.avg_pool2d(F.pad(one, odd), 2) for one in (frames * known, known))
    coarse = _fill(sums / counts.clamp(min=0.25), (counts > 0).to(known))  # one known pixel of four is the least
    wide = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.where(known > 0, frames, wide)
