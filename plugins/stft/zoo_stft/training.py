"""How the networks learn motions: the parts that the recipes name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo_motion_mnist.task import clips as clips
from zoo_motion_mnist.task import loss as loss
from zoo_stft import networks


def build(**arguments: Any) -> nn.Module:
    """The network, laid out for convolutions of many channels."""
    return networks.build(**arguments).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]
