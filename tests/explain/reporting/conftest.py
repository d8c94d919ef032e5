"""A small model of clips with three heads, a clip with a bright square that moves, and reports on them."""

from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint
from textwrap import dedent

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from explain.faithfulness.checking import Effort
from zoo.clips import Clip
from zoo.entries import InputSpec, ModelEntry, OutputSpec
from zoo.registry import plugins

#: A label that would do harm if it were not escaped.
HARMFUL = "<img src=x onerror=\"document.title='harmed'\">"

ENTRY = ModelEntry(
    name="square_watcher",
    builder="nowhere:build",
    summary="Watches squares <b>boldly</b>",
    parameters=0,
    input=InputSpec(frames=12, size=(24, 24), channels="L", mean=(0.5,), std=(0.25,)),
    outputs=(
        OutputSpec(name="shape", labels=("round", HARMFUL, "flat", "tall")),
        OutputSpec(name="speed", kind="value", unit="pixels per frame"),
    ),
    paper="Nobody & Others, On Squares, 2026",
)


class SquareWatcher(nn.Module):
    def __init__(self):
        super().__init__()
        self.early = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.late = nn.Conv3d(4, 6, 3, padding=1)
        self.shape = nn.Linear(6, 4)
        self.speed = nn.Linear(6, 1)

    def forward(self, clips):
        maps = self.pool(torch.relu(self.norm(self.early(clips))))
        features = torch.relu(self.late(maps)).mean(dim=(2, 3, 4))
        return {"shape": self.shape(features), "speed": self.speed(features)}


class Moving(nn.Conv3d):
    """A convolution whose slices follow each other by the motions that it tells.

    Of the first four filters one moves right, one turns clockwise, one grows and one stands still.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        motions = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(self.out_channels, 1)
        motions[4:] += 0.1 * torch.randn(motions[4:].shape)
        motions[0, 2], motions[1, 1], motions[2, 0] = -0.5, -0.3, 0.8
        self.motions = motions
        cos, sin = motions[:, 1].cos(), motions[:, 1].sin()
        turned = motions[:, :1, None] * torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        theta = torch.cat([turned, turned @ motions[:, 2:, None]], dim=2)
        with torch.no_grad():
            for at in range(1, self.weight.shape[2]):
                before = self.weight[:, :, at - 1]
                grid = F.affine_grid(theta, list(before.shape), align_corners=True)
                self.weight[:, :, at] = F.grid_sample(before, grid, align_corners=True)

    def kernel(self):
        return self.weight

    def temporal_parameters(self):
        names = ("scale", "rotation", "translate_x", "translate_y")
        steps = self.weight.shape[2] - 1
        return {name: self.motions[:, at].expand(steps, -1) for at, name in enumerate(names)}


def moving_watcher():
    """The watcher, with layers that tell their motions."""
    model = watcher()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.early, model.late = Moving(1, 4, 3, padding=1), Moving(4, 6, 3, padding=1)
    return model.eval()


def watcher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SquareWatcher().eval()
    model.zoo_entry = ENTRY
    return model


class Copying(nn.Module):
    """Gives nearly what it was given, brighter in frame 7; with `late`, from there on alone."""

    def __init__(self, *, late=False):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.late = late
        with torch.no_grad():
            self.conv.weight.mul_(0.05)
            self.conv.weight[0, 0, 1, 1, 1] = 1.0

    def forward(self, clips):
        copied = self.conv(clips)
        copied[:, :, 7] = copied[:, :, 7] + 2.0
        return copied[:, :, 7:] if self.late else copied


def copying_model(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Copying(**options).eval()
    model.zoo_entry = ModelEntry(
        name="copying",
        builder="nowhere:build",
        summary="Copies clips",
        parameters=28,
        input=ENTRY.input,
        outputs=(OutputSpec(name="film", kind="clip"),),
    )
    return model


def square_clip(**fields):
    frames = torch.zeros(12, 24, 24, 3, dtype=torch.uint8)
    for at in range(12):
        frames[at, 8:14, at : at + 6] = 255
    given = {"frames": frames, "source": "square.mp4", "indices": tuple(range(12)), "total": 12, "label": HARMFUL}
    return Clip(**{**given, **fields})


@pytest.fixture
def model():
    return watcher()


@pytest.fixture(scope="session")
def copying():
    return copying_model


@pytest.fixture(scope="session")
def fresh_watcher():
    """Makes a watcher and its clip."""
    return lambda: (watcher(), square_clip())


@pytest.fixture
def moving_model():
    return moving_watcher()


@pytest.fixture
def clip():
    return square_clip()


@pytest.fixture(scope="session")
def make_clip():
    return square_clip


@pytest.fixture
def plugin(tmp_path_factory, monkeypatch):
    """Makes a module of this code the only plugin of the process, `dist-NAME:NAME`."""

    def use(name, code):
        folder = tmp_path_factory.mktemp("site")
        (folder / f"{name}.py").write_text(dedent(code))
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        registry = plugins.Registry([(f"dist-{name}", "1.0", EntryPoint(name, name, plugins.GROUP))], set())
        monkeypatch.setattr(plugins, "registry", lambda: registry)

    return use


@pytest.fixture
def least_effort(monkeypatch):
    """Tests each map as little as can be, for pages on which the verdicts are not what is looked at."""
    least = Effort(steps=2, draws=2, depths=1, redraws=1, boxes=2, neighbours=1, every_kind=False)
    monkeypatch.setattr("explain.reporting.topics.faithfulness.effort_for", lambda *_, **__: (least, "Least tests."))


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """One report with every section, for tests that only look."""
    import explain

    warned = square_clip(warnings=("The video declares 30 frames and 12 decode.",))
    return explain.report(watcher(), warned, tmp_path_factory.mktemp("written") / "report", n_steps=4, unit_steps=3)


@pytest.fixture(scope="session")
def moving(tmp_path_factory):
    """One report on the motions of filters alone."""
    import explain

    out = tmp_path_factory.mktemp("moving") / "report"
    return explain.report(moving_watcher(), square_clip(), out, sections=["motion", "provenance"], unit_steps=3)


@pytest.fixture(scope="session")
def filmed(tmp_path_factory):
    """One report on a region of an output that is a clip."""
    import explain

    return explain.report(
        copying_model(),
        square_clip(),
        tmp_path_factory.mktemp("filmed") / "report",
        target="film[t=7, y=6:12]",
        methods=["saliency"],
        sections=["prediction", "attributions", "provenance"],
    )


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """One comparison with every section, of two models that see the clip in different ways."""
    import explain

    other = watcher()
    other.zoo_entry = dataclasses.replace(ENTRY, name="small_watcher", input=dataclasses.replace(ENTRY.input, frames=6))
    out = tmp_path_factory.mktemp("compared") / "comparison"
    return explain.compare([moving_watcher(), other], out, clip=square_clip(), n_steps=4)


def write_clip(path, width=6, top=8, bright=255):
    """A file of a clip in which a square moves to the right."""
    frames = torch.zeros(12, 24, 24, 1, dtype=torch.uint8)
    for at in range(12):
        frames[at, top : top + 6, at : at + width] = bright
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"clip": frames}, path)
    return path


@pytest.fixture(scope="session")
def make_file():
    return write_clip


@pytest.fixture(scope="session")
def folder_of_clips(tmp_path_factory):
    """Ten clips of three classes, one that is no video, and a file that is none of this."""
    folder = tmp_path_factory.mktemp("clips")
    for at in range(10):
        name = ("round", "flat", "tall")[at % 3]
        write_clip(folder / name / f"{at}.safetensors", width=3 + at, top=at, bright=100 + 15 * at)
    (folder / "flat" / "torn.mp4").write_bytes(b"no video")
    (folder / "README.md").write_text("not a clip")
    return folder


@pytest.fixture(scope="session")
def collected(folder_of_clips, tmp_path_factory):
    """One report on many clips with every section, for tests that only look."""
    import explain

    return explain.report(watcher(), folder_of_clips, tmp_path_factory.mktemp("collected") / "report", n_steps=4)
