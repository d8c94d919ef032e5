"""Guided backpropagation hardly depends on the weights of a ResNet, the gradient does (arXiv 1810.03292, figure 2)."""

from __future__ import annotations

import torch
from torch import nn

import explain
import zoo
from explain.faithfulness.checking import Effort, check_all


def test_on_r3d_18_guided_backprop_is_flagged_and_saliency_passes():
    model = zoo.load("r3d_18", weights=None)
    drawn = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):  # else it is the identity, and the network nearly linear
            module.running_mean.normal_(0.0, 0.1, generator=drawn)
            module.running_var.uniform_(0.5, 2.0, generator=drawn)
    batch = torch.randn(1, 3, 4, 56, 56, generator=drawn)
    maps = explain.attribute(model, batch, method=["guided_backprop", "saliency"])
    effort = Effort(steps=2, draws=2, depths=1, boxes=2, neighbours=1, every_kind=False)
    blind, seeing = check_all(model, batch, maps, effort)
    assert float(blind.randomization[0].correlation) > 0.7
    assert blind.verdict.parts["model"][0] == "flagged"
    assert "does not depend on the model" in str(blind.verdict)
    assert float(seeing.randomization[0].correlation) < 0.5
    assert seeing.verdict.parts["model"][0] == "passes"
