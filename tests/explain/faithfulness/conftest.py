"""Maps that are right, made up, or blind to the model."""

import dataclasses
import sys
import types

import pytest
import torch

from explain.attribution.job import Raw
from explain.attribution.methods import Method


def edges(job):
    """Differences of neighbouring pixels: knows the clip, and nothing of the model."""
    changes = torch.zeros_like(job.batch)
    changes[..., 1:] = (job.batch[..., 1:] - job.batch[..., :-1]).abs()
    return Raw(values=changes)


@pytest.fixture
def edge_method(monkeypatch):
    """A method that ignores the model."""
    module = types.ModuleType("edges_of_clips")
    module.edges = edges
    monkeypatch.setitem(sys.modules, "edges_of_clips", module)
    return Method(name="edges", summary="", run="edges_of_clips:edges", source="", reduction="magnitude")


@pytest.fixture
def with_map():
    """An attribution with another map."""
    return lambda attribution, heat: dataclasses.replace(attribution, map=heat)


def first_output(output):
    """One number for each sample, whatever the batch."""
    return output[:, 0]


@pytest.fixture
def first():
    return first_output
