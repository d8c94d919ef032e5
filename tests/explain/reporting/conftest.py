"""A small model of clips with three heads, a clip with a bright square that moves, and reports on them."""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn

from zoo import plugins
from zoo.clips import Clip
from zoo.entries import InputSpec, ModelEntry, OutputSpec

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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


def watcher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SquareWatcher().eval()
    model.zoo_entry = ENTRY
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


@pytest.fixture
def clip():
    return square_clip()


@pytest.fixture
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


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """One report with every section, for tests that only look."""
    import explain

    warned = square_clip(warnings=("The video declares 30 frames and 12 decode.",))
    return explain.report(watcher(), warned, tmp_path_factory.mktemp("written") / "report", steps=4, unit_steps=3)


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """One comparison with every section, of two models that see the clip in different ways."""
    import explain

    other = watcher()
    other.zoo_entry = dataclasses.replace(ENTRY, name="small_watcher", input=dataclasses.replace(ENTRY.input, frames=6))
    out = tmp_path_factory.mktemp("compared") / "comparison"
    return explain.compare([watcher(), other], out, clip=square_clip(), steps=4)


@pytest.fixture(scope="session")
def chromium():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; say where it is with CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    places = [os.environ.get("AXE_CORE"), Path(__file__).parents[3] / "node_modules" / "axe-core"]
    for place in filter(None, places):
        script = Path(place) if str(place).endswith(".js") else Path(place) / "axe.min.js"
        if script.is_file():
            return script.read_text(encoding="utf-8")
    pytest.skip("axe-core is not here; `npm install axe-core`, or say where it is with AXE_CORE")
