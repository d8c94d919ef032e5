"""Training of the networks on motions: the functions that the recipes name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo_motion_mnist.task import clips as clips
from zoo_motion_mnist.task import loss as loss
from zoo_stft import networks


def build(**arguments: Any) -> nn.Module:
    """Build the network, in the memory layout for convolutions of many channels."""
    return networks.build(**arguments).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]
