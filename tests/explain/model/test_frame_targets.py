"""Outputs with a row for each frame: which number is explained, and what is said of them."""

import pytest
import torch
from torch import nn

import explain
import zoo
from explain.model.regions import Region
from explain.model.targets import Score, join, resolve, select
from zoo.entries import OutputSpec
from zoo.errors import UnknownNameError, UsageError

#: N = 2 samples, T = 3 frames, K = 2 classes.
ROWS = torch.tensor([[[0.0, 1.0], [5.0, 1.0], [0.0, 3.0]], [[2.0, 0.0], [2.0, 0.0], [0.0, 9.0]]])
BATCH = torch.zeros(2, 1, 3, 4, 4)


class Gives(nn.Module):
    """Gives these numbers, as often as there are samples."""

    def __init__(self, rows, *specs):
        super().__init__()
        self.rows = rows
        if specs:
            self.zoo_entry = type("Entry", (), {"outputs": specs, "input": zoo.InputSpec(frames=3, size=(4, 4))})()

    def forward(self, x):
        return self.rows.clone()


def said(**fields):
    return OutputSpec(name="action", labels=("rest", "jump"), per_frame=True, **fields)


@pytest.mark.parametrize("model", [Gives(ROWS, said()), Gives(ROWS)])
@pytest.mark.parametrize(
    ("target", "value", "classes"),
    [
        (None, [5 / 3, 3.0], [0, 1]),  # the mean of each class: (5/3, 5/3) and (4/3, 3)
        ("HEAD", [5 / 3, 3.0], [0, 1]),
        ("HEAD[:]", [5 / 3, 3.0], [0, 1]),
        ("HEAD[1]", [5.0, 2.0], [0, 0]),
        ("HEAD[-1]", [3.0, 9.0], [1, 1]),
        ("HEAD[1:3]", [2.5, 4.5], [0, 1]),
        ("[2]", [3.0, 9.0], [1, 1]),
        (Region(t=2), [3.0, 9.0], [1, 1]),
        (1, [5 / 3, 3.0], [1, 1]),
        ("HEAD:1", [5 / 3, 3.0], [1, 1]),
        ("HEAD:1[0]", [1.0, 0.0], [1, 1]),
        ("HEAD:max", [5.0, 9.0], [0, 1]),
        ("HEAD:0:max", [5.0, 2.0], [0, 0]),
    ],
)
def test_frames_and_classes_are_chosen(model, target, value, classes):
    name = "action" if hasattr(model, "zoo_entry") else "output"
    target = target.replace("HEAD", name) if isinstance(target, str) else target
    target = Region(name, t=2) if isinstance(target, Region) else target
    resolved = resolve(model, BATCH, target)
    assert torch.allclose(resolved.value, torch.tensor(value))
    assert resolved.classes.tolist() == classes
    score = Score(model, resolved)
    assert torch.allclose(score(BATCH, torch.arange(2)), torch.tensor(value))
    again = select(resolved, torch.tensor([1, 0]))
    assert torch.allclose(again.value, torch.tensor(value)[[1, 0]])
    assert len(join([resolved, again])) == 4


def test_labels_and_descriptions():
    model = Gives(ROWS, said())
    assert resolve(model, BATCH).descriptions == ("action[:] = rest", "action[:] = jump")
    assert resolve(model, BATCH, "jump[1]").descriptions == ("action[1] = jump",) * 2
    assert resolve(model, BATCH, "jump:max").descriptions == (
        "action:max = jump (frame 2)",
        "action:max = jump (frame 2)",
    )
    assert resolve(model, BATCH, "action:rest").value.tolist() == pytest.approx([5 / 3, 4 / 3])


@pytest.mark.parametrize("rows", [ROWS[:, :, 1], ROWS[:, :, 1:]])
def test_a_value_of_each_frame(rows):
    model = Gives(rows, OutputSpec(name="cut", kind="value", per_frame=True))
    assert resolve(model, BATCH, "cut[2]").value.tolist() == [3.0, 9.0]
    assert resolve(model, BATCH).value.tolist() == pytest.approx([5 / 3, 3.0])
    highest = resolve(model, BATCH, "cut:max")
    assert highest.peaks.tolist() == [2, 2]
    assert highest.descriptions == ("cut:max (frame 2)",) * 2
    (first, _) = zoo.predict(model, BATCH)
    assert first.record()["cut"] == {
        "kind": "value",
        "value": pytest.approx(5 / 3),
        "unit": "",
        "frames": [1.0, 1.0, 3.0],
    }


def test_the_frame_of_a_maximum_stays_while_the_input_changes():
    class Moving(nn.Module):
        def forward(self, x):
            return torch.stack([x.mean(dim=(1, 3, 4)), 0 * x.mean(dim=(1, 3, 4))], dim=2)

    batch = torch.tensor([1.0, 5.0, 2.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 4, 4)
    resolved = resolve(Moving(), batch, "output:max")
    assert resolved.peaks.tolist() == [1]
    assert Score(Moving(), resolved)(batch.flip(2) * torch.tensor([9.0, 1, 1]).view(3, 1, 1), torch.arange(1)) == 5.0


def test_one_row_is_that_of_the_clip():
    model = Gives(ROWS[:, :1])
    assert resolve(model, BATCH).descriptions == ("output = 1", "output = 0")
    assert zoo.predict(model, BATCH)[0].record()["output"]["top"][0]["index"] == 1
    assert "frames" not in zoo.predict(model, BATCH)[0].record()["output"]


def test_predictions_are_of_the_mean_over_time_and_of_each_frame():
    (_, second) = zoo.predict(Gives(ROWS, said()), BATCH)
    assert second.record()["action"]["top"][0]["label"] == "jump"
    assert second.record()["action"]["top"][0]["probability"] == pytest.approx(
        float(torch.tensor([4 / 3, 3.0]).softmax(0)[1])
    )
    assert [frame["label"] for frame in second.record()["action"]["frames"]] == ["rest", "rest", "jump"]


def test_rows_that_are_no_frames_are_refused():
    with pytest.raises(UsageError, match="2 x 3 x 2, neither"):
        resolve(Gives(ROWS), torch.zeros(2, 1, 5, 4, 4))
    with pytest.raises(UsageError, match="layout='NTCHW'"):
        resolve(Gives(ROWS), torch.zeros(2, 5, 3, 4, 4))


@pytest.mark.parametrize("target", ["action[3]", "action[-4]", "action[1, 0:2]", "action[2:1]"])
def test_frames_that_there_are_not_are_refused(target):
    with pytest.raises(UsageError):
        resolve(Gives(ROWS, said()), BATCH, target)


def test_unknown_classes_are_unknown_with_frames_too():
    with pytest.raises(UnknownNameError):
        resolve(Gives(ROWS, said()), BATCH, "jumb[1]")
    with pytest.raises(ValueError, match="per_frame"):
        OutputSpec(kind="clip", per_frame=True)


class EachFrame(nn.Module):
    """N x T x C x H x W to N x T x K."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 6)

    def forward(self, x):
        maps = self.conv(x.flatten(0, 1)).relu().mean(dim=(2, 3))
        return self.head(maps).unflatten(0, x.shape[:2])


def test_a_frames_class_is_explained_by_that_frame_alone():
    torch.manual_seed(0)
    model, batch = EachFrame().eval(), torch.rand(2, 5, 3, 8, 8)
    found = explain.attribute(model, batch, method="saliency", target="output:1[3]")
    assert (found.time > 0).nonzero()[:, 1].tolist() == [3, 3]
    assert torch.allclose(found.target.value, model(batch)[:, 3, 1])
    robust = explain.check_robustness(model, batch, perturbations="blur", levels=1, draws=1)
    assert robust.measures["output unchanged"].kind == "share"
    robust = explain.check_robustness(model, batch, perturbations="blur", levels=1, draws=1, target="output:1[3]")
    assert list(robust.measures) == ["output[3] = 1"]
