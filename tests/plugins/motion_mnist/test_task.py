import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from zoo.entries.recipes import Stage
from zoo.errors import UsageError
from zoo_motion_mnist import KINDS, MOTIONS, motion, task

CPU = torch.device("cpu")
CLASSES = {None: MOTIONS, **KINDS, "static": tuple("0123456789")}


def stage(batch_size=6, **arguments):
    return Stage(
        name="clips", steps=1, batch_size=batch_size, learning_rate=1e-3, data="", loss="", arguments=arguments
    )


def test_names_are_imported_without_torch():
    code = "import sys, zoo_motion_mnist; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("kind", CLASSES)
def test_a_batch_shows_its_kind_and_names_it(mnist, kind):
    batch = task.clips(None, stage(kind=kind), 1, CPU)(0)
    assert batch["clips"].shape == (6, 1, 16, 64, 64)
    assert batch["label"].max() < len(CLASSES[kind])
    still = (batch["clips"] == batch["clips"][:, :, :1]).flatten(1).all(1)
    assert still.all() if kind == "static" else kind is None or not still.any()
    again = task.clips(None, stage(kind=kind), 1, CPU)
    assert torch.equal(again(0)["clips"], batch["clips"])
    assert not torch.equal(again(1)["clips"], batch["clips"])


def test_the_batches_of_a_seed_are_those_of_trained_weights(mnist):
    """Recorded trainings cannot be repeated once these numbers change."""
    batch_at = task.clips(None, stage(8), 1, CPU)
    assert batch_at(0)["label"].tolist() == [7, 0, 6, 0, 2, 5, 4, 0]
    assert batch_at(3)["label"].tolist() == [8, 6, 2, 2, 7, 8, 5, 4]
    assert task.clips(None, stage(8, kind="static"), 1, CPU)(0)["label"].tolist() == [8, 0, 5, 1, 8, 6, 0, 1]


def test_a_single_frame_is_an_image(mnist):
    batch = task.clips(None, stage(kind="static", frames=1), 1, CPU)(0)
    assert task.as_input(batch["clips"]).shape == (6, 1, 64, 64)


def test_small_frames_and_few_frames_show_the_same_motions(mnist):
    whole, small, short, long = (
        task.clips(None, stage(**arguments), 1, CPU)(0)
        for arguments in ({}, {"size": 32}, {"frames": 4}, {"frames": 32})
    )
    assert [tuple(batch["clips"].shape[2:]) for batch in (whole, small, short, long)] == [
        (16, 64, 64),
        (16, 32, 32),
        (4, 64, 64),
        (32, 64, 64),
    ]
    for other in (small, short, long):
        assert torch.equal(whole["label"], other["label"])
    pooled = torch.nn.functional.avg_pool3d(whole["clips"].float(), (1, 2, 2))
    assert (pooled - small["clips"].float()).abs().max() <= 0.5
    # Frames at -6, -2, 2 and 6 of a clip that lasts from -7.5 to 7.5: each lies between two of the whole clip.
    between = (whole["clips"][:, :, [1, 5, 9, 13]].float() + whole["clips"][:, :, [2, 6, 10, 14]].float()) / 2
    unlike = whole["clips"][:, :, [1, 5, 9, 13]].flip(2).float()
    near, far = ((short["clips"].float() - other).abs().mean() for other in (between, unlike))
    assert near < far / 4


def test_more_frames_show_smaller_steps_of_one_video():
    digits = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    for name in ("zoom in", "clockwise", "left"):
        generator = torch.Generator().manual_seed(0)
        drawn = motion.draw(1, torch.zeros(1, dtype=torch.int64), generator=generator, motions=[name])
        usual = motion.render(digits, drawn)
        assert torch.equal(task.render(digits, drawn, 16), usual)
        # frame k of T is in the middle of its part of the video: frames 3k + 1 of 48 are frames k of 16
        finer = task.render(digits, drawn, 48)[:, :, 1::3]
        assert (finer.int() - usual.int()).abs().max() <= 1
        assert not torch.equal(task.render(digits, drawn, 8), usual[:, :, ::2])


def test_labels_are_those_of_what_was_drawn():
    draw = partial(motion.draw, 50, torch.arange(10), generator=torch.Generator().manual_seed(0))
    drawn = draw(motions=("up", "clockwise", "left"))
    names = [MOTIONS[label] for label in task.labels(drawn)]
    assert [name == "clockwise" for name in names] == (drawn.rotation > 0).tolist()
    assert [name == "left" for name in names] == (drawn.translation[:, 0] < 0).tolist()
    drawn = draw(motions=("up", "left"))
    names = [KINDS["translation"][label] for label in task.labels(drawn, "translation")]
    assert set(names) == {"up", "left"}
    assert [name == "left" for name in names] == (drawn.translation[:, 0] < 0).tolist()
    assert torch.equal(task.labels(drawn, "static"), drawn.digit)


def test_the_loss_is_cross_entropy():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    batch = {"clips": torch.randint(256, (4, 1, 2, 2, 2), dtype=torch.uint8), "label": torch.tensor([0, 1, 2, 0])}
    found, terms = task.loss(network, batch, stage())
    logits = network(batch["clips"].float() / 255)
    assert found.item() == pytest.approx(-logits.log_softmax(1)[range(4), batch["label"]].mean().item(), rel=1e-5)
    assert terms["accuracy"] == (logits.argmax(1) == batch["label"]).float().mean()


class Oracle(nn.Module):
    """Says what is right for all but every tenth clip, in the order in which they come."""

    def __init__(self, kind):
        super().__init__()
        self.right = task.labels(motion.fixed_set("test", 40, task.motions(kind))[1], kind)
        self.classes = len(CLASSES[kind])
        self.shapes = set()
        self.seen = 0

    def forward(self, x):
        self.shapes.add(tuple(x.shape[1:]))
        number = torch.arange(self.seen, self.seen + len(x))
        self.seen += len(x)
        return nn.functional.one_hot((self.right[number] + (number % 10 == 0)) % self.classes, self.classes).float()


@pytest.mark.parametrize(
    ("kind", "frames", "dataset"),
    [
        (None, 16, "motion_mnist"),
        (None, 8, "motion_mnist, 8 frames"),
        (None, 32, "motion_mnist, 32 frames"),
        ("zoom", 16, "motion_mnist, zoom"),
        ("rotation", 16, "motion_mnist, rotation"),
        ("translation", 4, "motion_mnist, translation, 4 frames"),
        ("static", 16, "motion_mnist, static"),
        ("static", 1, "motion_mnist, static"),
    ],
)
def test_accuracy_is_the_share_of_right_clips(mnist, kind, frames, dataset):
    oracle = Oracle(kind)
    found = task.evaluate(oracle, CPU, 40, kind=kind, frames=frames, batch_size=16)
    assert oracle.shapes == {(1, 64, 64) if frames == 1 else (1, frames, 64, 64)}
    name = "digit accuracy" if kind == "static" else "motion accuracy"
    assert found["metrics"] == [{"dataset": dataset, "split": "test", "name": name, "value": 0.9}]
    assert found["clips_measured"] == 40
    assert found["breakdown"].keys() == {"motion", "digit"}
    for table, rows in found["breakdown"].items():
        assert sum(row["clips"] for row in rows) == 40
        assert sum(row["clips"] * row[name] for row in rows) == pytest.approx(36, abs=0.01)
        assert {row[table] for row in rows} <= {*MOTIONS, *"0123456789"}


@pytest.mark.parametrize("clips", [0, 10_001])
def test_a_wrong_number_of_clips_is_refused(mnist, clips):
    with pytest.raises(UsageError, match="1 to 10,000"):
        task.evaluate(nn.Identity(), CPU, clips)


def test_the_example_is_the_first_bundled_clip():
    example = task.example()
    assert example.shape == (1, 1, 16, 64, 64)
    assert 0.9 < example.max() <= 1
