"""Plugins written into a folder, as third parties would install them, and a disk that is full."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from zoo.authors import scaffolding
from zoo.registry import catalog, plugins


class Installed:
    """A folder that holds plugins; each call of `add` puts one in."""

    def __init__(self, folder):
        self.folder = folder
        self.entry_points = []

    def add(self, name, code, distribution=None, module=None):
        """A plugin with `code`, registered as `name` by `distribution`; metadata as pip would write it."""
        module = module or name
        (self.folder / f"{module}.py").write_text(dedent(code))
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        distribution = distribution or f"dist-{name}"
        entry_point = plugins.EntryPoint(name, module, plugins.GROUP)
        self.entry_points.append((distribution, "1.0", entry_point))
        metadata = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{e.name} = {e.value}" for d, _, e in self.entry_points if d == distribution]
        (metadata / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n" + "\n".join(lines) + "\n")

    def registry(self, disabled=frozenset()):
        return plugins.Registry(self.entry_points, set(disabled))

    def use(self, monkeypatch):
        """Make these plugins the only ones of this process."""
        registry = self.registry()
        monkeypatch.setattr(plugins, "registry", lambda: registry)
        catalog.listings.cache_clear()
        return registry


@pytest.fixture
def installed(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module rewritten within a second must not come stale
    before = set(sys.modules)
    yield Installed(folder)
    catalog.listings.cache_clear()
    for module in set(sys.modules) - before:  # plugins alone: a library imported twice would not know its own classes
        if str(getattr(sys.modules[module], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[module]


TINY = """
    from zoo import InputSpec, ModelEntry, OutputSpec, WeightsEntry, hookimpl
    import pathlib

    INPUT = InputSpec(frames=4, size=(8, 8), channels="L")

    def build(classes=3, meta=True):
        import torch
        from torch import nn
        model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.ReLU(),
                              nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, classes))
        if not meta:
            model[0].weight.sum().item()
        return model

    def entry(name="tiny", **fields):
        given = dict(name=name, builder=f"{__name__}:build", summary="a tiny one", parameters=69, input=INPUT,
                     outputs=(OutputSpec(name="shape", labels=("round", "square", "flat")),))
        return ModelEntry(**{**given, **fields})

    @hookimpl
    def zoo_models():
        return [entry()]
"""


@pytest.fixture
def tiny():
    """Code of a plugin with one small model, `tiny`."""
    return TINY


@pytest.fixture
def full_disk(monkeypatch):
    """Every file fails part of the way, as on a full disk."""
    whole = Path.write_bytes

    def part(path, content):
        whole(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", part)


def _install(project, site):
    """What `pip install --no-deps --editable` writes, from the package's own pyproject."""
    said = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    metadata = site / f"{said['name'].replace('-', '_')}-{said['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {said['name']}\nVersion: {said['version']}\n")
    points = said["entry-points"]["zoo.plugins"]
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (metadata / "entry_points.txt").write_text(f"[zoo.plugins]\n{lines}\n")


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """The package that `zoo new-plugin my_clips` writes, installed in this process alone."""
    project, site = tmp_path / "clips", tmp_path / "site"
    scaffolding.new_plugin("my_clips", project)
    _install(project, site)
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.syspath_prepend(str(site))
    plugins.registry.cache_clear()
    catalog.listings.cache_clear()
    yield project
    plugins.registry.cache_clear()
    catalog.listings.cache_clear()
    for module in [name for name in sys.modules if name.startswith("zoo_my_clips")]:
        del sys.modules[module]
