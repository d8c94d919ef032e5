"""Exported programs give what the model gives, with no plugin; what cannot be exported is told, nothing written."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import zoo
from zoo.errors import ModelError, OutputError, UsageError
from zoo.models import exporting

NETWORKS = """
    def network(kind):
        import torch
        from torch import nn

        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(8, 3)

            def forward(self, x):
                x = self.layer(x.mean((1, 2, 3)))
                if kind == "value" and x.sum() > 0:  # a way that depends on the values
                    x = x + 1
                return x + torch.rand(1) if kind == "random" else x

        return Odd()

    @hookimpl
    def zoo_models():
        kinds = ("plain", "value", "random")
        return [entry(kind, builder=f"{__name__}:network", arguments={"kind": kind}) for kind in kinds]
"""


@pytest.fixture
def networks(installed, tiny, monkeypatch):
    installed.add("several", tiny + NETWORKS)
    installed.use(monkeypatch)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_program_runs_without_zoo_and_gives_what_the_model_gives(networks, tmp_path, dynamic):
    path = tmp_path / "plain.pt2"
    model = zoo.load("plain", weights=None)
    done = exporting.export(model, path, dynamic_batch=dynamic)
    assert done.batch == (None if dynamic else 1, 1, 4, 8, 8)
    assert (done.outputs, done.bytes) == (("shape",), path.stat().st_size)
    batch = torch.rand(5 if dynamic else 1, 1, 4, 8, 8)
    if not dynamic:
        program = torch.export.load(path).module()
        torch.testing.assert_close(program(batch), model(batch))
        return
    torch.save({"batch": batch, "expected": model(batch).detach()}, tmp_path / "batch.pt")
    code = (
        "import sys, torch; program = torch.export.load(sys.argv[1]).module(); given = torch.load(sys.argv[2]); "
        "torch.testing.assert_close(program(given['batch']), given['expected']); assert 'zoo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "batch.pt")], check=True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("value", "value cannot be exported: "), ("random", "the program gives another 'shape' than the model")],
)
def test_what_cannot_be_exported_is_told_and_nothing_is_written(networks, tmp_path, kind, said):
    with pytest.raises(ModelError, match=said) as caught:
        exporting.export(zoo.load(kind, weights=None), tmp_path / "odd.pt2")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.pt2"))


def test_wrong_places_are_told_before_anything_is_done(networks, tmp_path):
    model = zoo.load("plain", weights=None)
    with pytest.raises(UsageError, match=r"ends in \.pt2"):
        exporting.export(model, tmp_path / "plain.safetensors")
    with pytest.raises(OutputError, match="does not exist"):
        exporting.export(model, tmp_path / "nowhere" / "plain.pt2")
    with pytest.raises(UsageError, match=r"only a model that zoo\.load gave"):
        exporting.export(torch.nn.Linear(1, 1), tmp_path / "plain.pt2")
