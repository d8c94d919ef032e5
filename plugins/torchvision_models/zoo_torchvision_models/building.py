"""torchvision's models by their names there."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.errors import UsageError
from zoo_torchvision_models.operators import import_torchvision


def build(*, architecture: str, **arguments: Any) -> nn.Module:
    """Build torchvision's model of this name, randomly initialized.

    Args:
        architecture: Name in torchvision's registry of models ("r3d_18").
        arguments: Arguments of its builder, such as `num_classes`.

    Raises:
        UsageError: for anything but image classifiers and video models; others fetch weights while they build.
    """
    models = import_torchvision("torchvision.models")
    if architecture not in {*models.list_models(module=models), *models.list_models(module=models.video)}:
        raise UsageError(f"{architecture!r} is no image classifier or video model of torchvision")
    model: nn.Module = models.get_model(architecture, weights=None, **arguments)
    return model
