"""Predictions carry labels, probabilities and units."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.entries import InputSpec, ModelEntry, OutputSpec
from zoo.errors import MemoryLimitError, ModelError


class Heads(nn.Module):
    def forward(self, batch):
        columns = batch.flatten(1)
        return {"shape": columns[:, :3], "size": columns[:, 3:4]}


@pytest.fixture
def model():
    made = Heads()
    made.zoo_entry = ModelEntry(
        name="heads",
        builder="m:b",
        summary="",
        parameters=0,
        input=InputSpec(frames=1, size=(2, 2)),
        outputs=(
            OutputSpec(name="shape", labels=("round", "square", "flat")),
            OutputSpec(name="size", kind="value", unit="cm"),
        ),
    )
    return made


def test_classes_come_with_labels_and_softmax_values_with_units(model):
    batch = torch.tensor([[1.0, 3.0, 2.0, 7.5], [0.0, 0.0, 9.0, -1.0]])
    first, second = zoo.predict(model, batch, top=2)
    assert [one["label"] for one in first["shape"]["top"]] == ["square", "flat"]
    assert first["shape"]["top"][0]["probability"] == pytest.approx(torch.tensor([1.0, 3.0, 2.0]).softmax(0)[1].item())
    assert first["size"] == {"kind": "value", "value": 7.5, "unit": "cm"}
    assert second["shape"]["top"][0]["label"] == "flat"


def test_any_module_predicts_by_index():
    (prediction,) = zoo.predict(nn.Flatten(), torch.tensor([[[0.0, 2.0]]]))
    assert prediction["output"]["top"][0]["label"] == "1"


def test_outputs_that_do_not_fit_are_named(model):
    model.forward = lambda batch: {"shape": batch}
    with pytest.raises(ModelError, match=r"lacks the heads \['size'\]"):
        zoo.predict(model, torch.zeros(1, 4))
    model.forward = lambda batch: (batch,)
    with pytest.raises(ModelError, match="lacks the heads"):
        zoo.predict(model, torch.zeros(1, 4))


def test_a_batch_that_does_not_fit_and_a_full_memory_are_told():
    with pytest.raises(ModelError, match=r"\[1, 3\]"):
        zoo.predict(nn.Linear(2, 2), torch.zeros(1, 3))

    class Full(nn.Module):
        def forward(self, batch):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryLimitError, match="no room"):
        zoo.predict(Full(), torch.zeros(1, 3))
