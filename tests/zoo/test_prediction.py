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


def test_a_model_in_training_predicts_in_eval_mode_and_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.9))
    model[1].eval()
    batch = torch.tensor([[3.0, -1.0], [5.0, 7.0]])
    (first, _) = zoo.predict(model, batch)
    assert first["output"]["top"][0]["probability"] == pytest.approx(
        torch.tensor([3.0, -1.0]).softmax(0)[0].item(), abs=1e-4
    )
    assert torch.equal(model[0].running_mean, torch.zeros(2))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


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


def test_what_is_not_a_number_is_no_prediction(model):
    with pytest.raises(ModelError, match="shape is not a finite number"):
        zoo.predict(model, torch.tensor([[float("nan"), 1.0, 1.0, 1.0]]))


def test_a_batch_that_does_not_fit_and_a_full_memory_are_told():
    with pytest.raises(ModelError, match=r"\[1, 3\]"):
        zoo.predict(nn.Linear(2, 2), torch.zeros(1, 3))

    class Full(nn.Module):
        def forward(self, batch):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryLimitError, match="no room"):
        zoo.predict(Full(), torch.zeros(1, 3))
