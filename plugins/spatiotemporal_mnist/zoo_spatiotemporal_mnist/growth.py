"""Function-preserving growth of a trained network (Chen, Goodfellow, Shlens, Net2Net, arXiv 1511.05641).

The channels of the small network become the first channels of the wide one. New channels read everything and are
random at first; weights from new to old channels start at zero. So the wide network begins where the small one ended.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def grow(wide: nn.Module, small: nn.Module) -> None:
    """Copy `small` into `wide`, in place: the same parameter names, in `wide` with as many channels or more."""
    grown = wide.state_dict()
    for name, value in small.state_dict().items():
        if value.dim() == 0:
            grown[name].copy_(value)
            continue
        # Recurrent weights hold their four gates one after the other; each grows by itself.
        gates = 4 if name.startswith("lstm.") or ".convlstm." in name else 1
        target, source = grown[name].unflatten(0, (gates, -1)), value.unflatten(0, (gates, -1))
        outputs = source.shape[1]
        if value.dim() == 1:
            target[:, :outputs] = source
            continue
        inputs = source.shape[2]
        target[:, :outputs, :inputs] = source
        target[:, :outputs, inputs:] = 0
