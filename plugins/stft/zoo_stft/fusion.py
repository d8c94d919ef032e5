"""Networks without BatchNorm, to be run alone: its scale is in the filters before it, its shift is their bias."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from zoo_stft.blocks import Unit
from zoo_stft.execution import DepthwiseConv3d
from zoo_stft.layer import ShortTimeFourier3d

Network = TypeVar("Network", bound=nn.Module)


def fuse(network: Network) -> Network:
    """Return a copy in eval mode with the BatchNorm of every `Unit` folded into its convolution, and the same outputs.

    A fixed Fourier layer becomes a depthwise convolution of its filters, each times the scale of its channel. The copy
    has no activations of BatchNorm: explain the network itself.
    """
    fused = copy.deepcopy(network).eval()
    for unit in fused.modules():
        if isinstance(unit, Unit) and isinstance(unit.bn, nn.BatchNorm3d):
            unit.conv = _fused(unit.conv, unit.bn)
            unit.add_module("bn", nn.Identity())
    return fused


def _fused(layer: nn.Module, norm: nn.BatchNorm3d) -> nn.Conv3d:
    if isinstance(layer, ShortTimeFourier3d):
        convolution: nn.Conv3d = DepthwiseConv3d(
            layer.channels,
            layer.out_channels,
            layer.window,
            layer.stride,
            layer.padding,
            groups=layer.channels,
            bias=False,
            device="meta",
        )
        convolution.weight = nn.Parameter(layer.weight, requires_grad=False)
    else:
        convolution = cast("nn.Conv3d", layer)
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise TypeError("a BatchNorm without running statistics cannot be folded")
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    return convolution
