"""torchvision, imported as the plugin does."""

from __future__ import annotations

import pytest

import zoo

NAMES = zoo.list_models(plugin="torchvision_models")


@pytest.fixture(scope="session")
def torchvision():
    from zoo_torchvision_models.operators import import_torchvision

    return import_torchvision("torchvision")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param
