"""Predictions carry labels, probabilities and units."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import zoo
from zoo.clips import normalize
from zoo.entries import InputSpec, ModelEntry, OutputSpec
from zoo.errors import MemoryLimitError, ModelError, UsageError
from zoo.models.prediction import to_frames


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
    assert [one["label"] for one in first.record()["shape"]["top"]] == ["square", "flat"]
    assert first.record()["shape"]["top"][0]["probability"] == pytest.approx(
        torch.tensor([1.0, 3.0, 2.0]).softmax(0)[1].item()
    )
    assert first.record()["size"] == {"kind": "value", "value": 7.5, "unit": "cm"}
    assert second.record()["shape"]["top"][0]["label"] == "flat"


def test_a_model_in_training_predicts_in_eval_mode_and_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.9))
    model[1].eval()
    batch = torch.tensor([[3.0, -1.0], [5.0, 7.0]])
    (first, _) = zoo.predict(model, batch)
    assert first.record()["output"]["top"][0]["probability"] == pytest.approx(
        torch.tensor([3.0, -1.0]).softmax(0)[0].item(), abs=1e-4
    )
    assert torch.equal(model[0].running_mean, torch.zeros(2))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_any_module_predicts_by_index():
    (prediction,) = zoo.predict(nn.Flatten(), torch.tensor([[[0.0, 2.0]]]))
    assert prediction.record()["output"]["top"][0]["label"] == "1"


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


def test_a_clip_comes_with_its_range_and_its_squared_error_from_a_clip_of_its_shape():
    batch = torch.randn(2, 3, 4, 5, 6)
    model = nn.Conv3d(3, 3, 1)
    predictions = zoo.predict(model, batch)
    with torch.no_grad():
        expected = model(batch)
    for sample, said in enumerate(predictions):
        own = expected[sample].double()
        assert (said.record()["output"]["kind"], said.record()["output"]["shape"]) == ("clip", [3, 4, 5, 6])
        assert said.record()["output"]["lowest"] == pytest.approx(own.min().item())
        assert said.record()["output"]["highest"] == pytest.approx(own.max().item())
        error = (own - batch[sample].double()).square().sum() / own.numel()
        assert said.record()["output"]["squared_error"] == pytest.approx(error.item(), rel=1e-5)
    assert zoo.predict(nn.Conv3d(3, 2, 1), batch)[0].record()["output"]["squared_error"] is None


def test_a_prediction_of_what_follows_is_not_compared_with_the_input(model):
    follower = nn.Conv3d(1, 1, 1)
    ahead = OutputSpec(kind="clip", follows=True)
    follower.zoo_entry = dataclasses.replace(model.zoo_entry, outputs=(ahead,))
    assert zoo.predict(follower, torch.rand(1, 1, 2, 4, 4))[0].record()["output"]["squared_error"] is None


def test_what_is_no_batch_is_named():
    for wrong in ("sample:blinking_mnist", torch.zeros(1, 2).numpy()):
        with pytest.raises(UsageError, match=f"a batch is a tensor, not {type(wrong).__name__}"):
            zoo.predict(nn.Linear(2, 2), wrong)


def test_frames_first_are_turned_before_they_are_compared():
    class Same(nn.Module):
        def forward(self, batch):
            return batch.transpose(1, 2) + 0.5

    model = Same()
    model.zoo_entry = ModelEntry(
        name="same",
        builder="m:b",
        summary="",
        parameters=0,
        input=InputSpec(frames=3, size=(2, 2), layout="NTCHW"),
        outputs=(OutputSpec(kind="clip"),),
    )
    (said,) = zoo.predict(model, torch.randn(1, 3, 3, 2, 2))
    assert said.record()["output"]["squared_error"] == pytest.approx(0.25, rel=1e-5)


def test_an_output_in_the_units_of_the_input_is_shown_as_the_input_would_be():
    spec = InputSpec(frames=4, size=(5, 6), channels="BGR", range=(0, 255), mean=(10, 20, 30), std=(2, 3, 4))
    frames = torch.randint(256, (4, 5, 6, 3), dtype=torch.uint8)
    batch = normalize(frames.flip(-1), spec)
    assert torch.equal(to_frames(batch[0], spec), frames)
    assert torch.equal(to_frames(batch[0, :, 2], spec), frames[2:3])
    assert to_frames(1e4 * torch.ones(3, 4, 5, 6), spec).unique().tolist() == [255]


def test_an_output_of_other_channels_is_stretched_and_shown_as_their_mean():
    clip = torch.tensor([-3.0, -1.0]).view(2, 1, 1, 1) * torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    # From -9 to -1: channels -3, -9 and -1, -3 are (0.75, 0) and (1, 0.75).
    assert to_frames(clip, InputSpec(frames=2, size=(1, 1))).flatten().tolist() == [
        round(255 * 0.875),
        round(255 * 0.375),
    ]
    assert to_frames(torch.ones(1, 2, 3, 3), None).unique().tolist() == [0]
