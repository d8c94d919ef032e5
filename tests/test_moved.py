"""A plugin that was written for 0.1, installed from its wheel: it works as it is, and is told what moved."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings
import zipfile

import pytest

from zoo import moved

MAIN = """
from explain import Section
from zoo import hookimpl
from zoo.entries import InputSpec, ModelEntry, OutputSpec, Sample
from zoo.hookspecs import hookimpl as same
from zoo.training.recipes import Recipe, Stage
assert same is hookimpl


@hookimpl
def zoo_models():
    return [
        ModelEntry(
            name="waver", builder="zoo_old.network:build", summary="a mean over time", parameters=2,
            input=InputSpec(channels="L", frames=4, size=(8, 8)), outputs=(OutputSpec(labels=("a", "b")),),
        )
    ]


@hookimpl
def explain_methods():
    from explain.attribution.methods import Method
    return [Method(name="mine", summary="Gradients.", run="zoo_old.attribution:run", source="none", reduction="sum")]


@hookimpl
def explain_sections(context):
    return [Section(name="next", title="Next", build="zoo_old.view:build")]
"""
NETWORK = """
from torch import nn


class Waver(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(1, 2, bias=False)

    def forward(self, batch):
        return self.weight(batch.mean((1, 2, 3, 4))[:, None])


def build():
    return Waver()
"""
ATTRIBUTION = """
import torch
from explain.attribution import Job, Raw
from explain.attribution.jobs import Raw as same
assert same is Raw


def run(job):
    batch = job.batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(job.score(batch, job.samples).sum(), batch)
    return Raw(values=gradient * batch)
"""
VIEW = """
import explain
from explain.reporting import colour, figures
from explain.reporting.context import Context, Subject
from explain.reporting.films import painted
from explain.reporting.media import clip_sprite
from explain.reporting.rendering import number, render
from explain.showing import paper
from zoo.prediction import to_frames


def build(context):
    assert isinstance(context, Context)
    picture = clip_sprite("next", to_frames(context.batch[0], context.entry.input).numpy())
    return explain.Content(html="the mean is " + str(float(context.batch.mean())), data={}, sprites=(picture,))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip installed the wheel of the plugin."""
    folder = tmp_path_factory.mktemp("old")
    wheel = folder / "zoo_old-0.1-py3-none-any.whl"
    files = {
        "zoo_old/__init__.py": MAIN,
        "zoo_old/network.py": NETWORK,
        "zoo_old/attribution.py": ATTRIBUTION,
        "zoo_old/view.py": VIEW,
        "zoo_old-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: zoo-old\nVersion: 0.1\n",
        "zoo_old-0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "zoo_old-0.1.dist-info/entry_points.txt": "[zoo.plugins]\nold = zoo_old\n",
    }
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
        packed.writestr("zoo_old-0.1.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)
    return target


def run(site, code):
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_plugin_of_0_1_works_as_it_is(site, tmp_path):
    code = (
        "import torch, zoo, explain; net = zoo.load('waver', weights=None); batch = torch.rand(1, 1, 4, 8, 8)\n"
        "assert explain.attribute(net, batch, method='mine').map.shape == (1, 4, 8, 8)\n"
        f"clip = torch.zeros(4, 8, 8, 1, dtype=torch.uint8)\n"
        f"page = explain.report(net, clip, {str(tmp_path / 'out')!r}, sections=['next', 'prediction'])\n"
        "assert not page.data['problems'], page.data['problems']\n"
        "assert 'the mean is' in (page.path if hasattr(page, 'path') else page.page).read_text()\n"
    )
    said = run(site, code).stderr
    assert "explain.reporting.media has moved" in said
    assert "explain.drawing.sprites" in said


@pytest.mark.parametrize("name", sorted(moved.FORMER))
def test_former_modules_are_found_with_a_warning(name):
    code = f"import {name}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert f"{name} has moved" in done.stderr or f"{name.rpartition('.')[0]} has moved" in done.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        former = importlib.import_module(name)
    with pytest.raises(AttributeError, match="has no attribute"):
        former.nothing  # noqa: B018 - asked for on purpose
    for home in moved.FORMER[name]:
        for public in [one for one in vars(importlib.import_module(home)) if not one.startswith("_")][:3]:
            assert hasattr(former, public)


def test_a_module_that_moved_to_a_plugin_names_the_distribution_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(moved.FORMER, "zoo.former", ("zoo_not_installed.data",))
    with pytest.raises(ModuleNotFoundError, match=r"zoo_not_installed\.data.*motion-zoo-not-installed") as raised:
        importlib.import_module("zoo.former")
    assert raised.value.name == "zoo.former"
    assert "zoo.former" not in sys.modules
