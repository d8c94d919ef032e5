"""What pages say of perturbations: which measures are drawn, in which words, and how much a report spends."""

import dataclasses
import json

import pytest
import torch

import explain
from explain.drawing import robustness as drawing
from explain.reporting.topics import robustness
from explain.robustness import check_robustness
from explain.robustness.perturbed_clips import Spoiled
from zoo.entries import OutputSpec


def section(model, clip, out, **options):
    report = explain.report(model, clip, out, sections=["robustness"], **options)
    return report.data["sections"]["robustness"], report


def test_a_report_perturbs_at_a_few_levels_and_shows_each(written):
    curves = written.data["sections"]["robustness"]["curves"]
    assert len(curves) == 9
    assert sum(len(curve["levels"]) - 1 for curve in curves.values()) <= 60
    page = written.page.read_text(encoding="utf-8")
    for curve in curves.values():
        assert curve["title"] in page
    assert "sprite-robustness-gaussian-noise{" in page


def test_dear_models_are_perturbed_less_and_very_dear_ones_not(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "DEAR", 1)
    data, _ = section(model, clip, tmp_path / "dear")
    assert set(data["curves"]) == set(robustness.FEW)
    assert all(len(curve["levels"]) == 4 for curve in data["curves"].values())
    monkeypatch.setattr(robustness, "FORBIDDING", 1)
    data, report = section(model, clip, tmp_path / "none")
    assert data["curves"] == {}
    assert "too dear" in report.page.read_text(encoding="utf-8")


def test_a_module_from_elsewhere_and_an_image_are_perturbed(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    data, report = section(network, torch.rand(1, 3, 9, 9), tmp_path / "image")
    assert set(data["missing"]) == {"missing_frames", "dropped_frames", "lower_frame_rate", "shuffled_frames"}
    assert "Left out: missing frames, dropped frames" in report.page.read_text(encoding="utf-8")


class Shades(torch.nn.Module):
    def forward(self, x):
        dark = 0.5 - x.mean(dim=(1, 2, 3, 4))
        return torch.stack([-dark, dark], dim=1) * 100


@pytest.fixture
def shades(model):
    watcher = Shades()
    spec = OutputSpec(name="shade", labels=("bright", "dark"))
    watcher.zoo_entry = explain_entry(model, spec)
    return watcher


def explain_entry(model, spec):
    given = dataclasses.replace(model.zoo_entry.input, frames=4, size=(8, 8), mean=(0.0,), std=(1.0,))
    return dataclasses.replace(model.zoo_entry, outputs=(spec,), input=given)


def test_words_say_what_is_lost_and_when(shades):
    batch = torch.ones(1, 1, 4, 8, 8)
    chosen = {"missing_square": [2, 6, 8], "shuffled_frames": [0.5]}
    result = check_robustness(shades, batch, perturbations=chosen, fill="black", draws=1)
    assert drawing.summary(result) == (
        "The answer for shade does not survive a missing square (6). It survives shuffled frames."
    )
    html = robustness.content(result, Spoiled(shades, batch, fill="black", seed=0)).html
    assert "shade: first another answer at 6." in html
    assert "shade: the same answer up to 0.5." in html
    four = torch.cat([batch * bright for bright in (1.0, 0.9, 0.8, 0.51)])
    result = check_robustness(shades, four, perturbations=chosen, fill="black", truth=torch.tensor([0, 0, 0, 1]))
    assert drawing.summary(result) == (
        "Half of the shade accuracy is lost under a missing square (6). Less is lost under shuffled frames."
    )
    content = robustness.content(result, None)
    assert "shade accuracy: lower from 6 on, halved at 6." in content.html
    assert "shade accuracy: none lost up to 0.5." in content.html
    assert content.data["curves"]["missing_square"]["half_lost"]["shade unchanged"] == 6


def test_shares_of_many_clips_are_drawn_and_probabilities_of_one(shades):
    batch = torch.rand(2, 1, 4, 8, 8)
    one = check_robustness(shades, batch[:1], perturbations="blur", levels=1)
    several = check_robustness(shades, batch, perturbations="blur", levels=1)
    assert [[measure.name for measure in group] for group in drawing.charts_of(one)] == [["shade probability"]]
    assert [[measure.name for measure in group] for group in drawing.charts_of(several)] == [["shade unchanged"]]


class Brighter(torch.nn.Module):
    """Frames as they are, and lighter by so much."""

    def __init__(self, off=0.0):
        super().__init__()
        self.off = off

    def forward(self, x):
        return x + self.off


def test_errors_are_told_by_where_they_rise_above_their_line():
    # a quarter of each frame is white: a white square of 4 pixels is wrong in less than that, a whole frame in more
    batch = torch.zeros(1, 1, 4, 8, 8, dtype=torch.float64)
    batch[..., 0] = batch[..., 7] = 1.0
    chosen = {"missing_square": [2, 8], "lower_frame_rate": [2]}
    result = check_robustness(Brighter(), batch, perturbations=chosen, fill="white", draws=1, truth=batch)
    line = float(batch.square().mean())
    mean = result.curves["missing_square"].mean["output squared error"].tolist()
    assert mean[0] < mean[1] < line < mean[2]
    assert result.record()["curves"]["missing_square"]["beyond"] == {
        "output squared error": {"a blank clip (zeros)": 8}
    }
    assert result.record()["curves"]["lower_frame_rate"]["beyond"]["output squared error"] == {
        "a blank clip (zeros)": None
    }
    assert drawing.summary(result) == (
        "output squared error rises above that of a blank clip (zeros) under a missing square (8). "
        "It stays below under lower frame rate."
    )
    html = robustness.content(result, None).html
    assert "output squared error: above that of a blank clip (zeros) from 8 on." in html
    assert "output squared error: below that of a blank clip (zeros) up to 2." in html
    noise = check_robustness(Brighter(), batch, perturbations={"gaussian_noise": [9.0]}, truth=batch)
    assert drawing.summary(noise).endswith("under Gaussian noise (9).")
    only = check_robustness(Brighter(), batch, perturbations={"lower_frame_rate": [2]}, truth=batch)
    assert drawing.summary(only) == "output squared error stays below that of a blank clip (zeros)."
    worse = check_robustness(Brighter(5.0), batch, perturbations={"lower_frame_rate": [2]}, truth=batch)
    assert drawing.summary(worse) == "output squared error is above that of a blank clip (zeros) even unchanged."
    assert "above that of a blank clip (zeros) even unchanged." in robustness.content(worse, None).html


def test_clips_have_a_line_for_a_blank_one_and_pages_are_written_again_alike(tmp_path):
    class Same(torch.nn.Module):
        def forward(self, x):
            return x * 1

    model, batch = Same(), torch.rand(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    result = check_robustness(model, batch, perturbations="gaussian_noise", levels=2)
    content = robustness.content(result, Spoiled(model, batch, fill="grey", seed=0))
    assert "a blank clip (zeros)" in content.html
    again = robustness.content(result, Spoiled(model, batch, fill="grey", seed=0))
    assert content.html == again.html
    about = {"model": "same", "clips": "noise", "sha256": None}
    page = robustness.write_page(tmp_path / "out", model, result, None, about, "Said.")
    data = json.loads((page.parent / "robustness.json").read_text(encoding="utf-8"))
    assert data["sections"]["perturbations"]["measures"]["output squared error"]["lines"] == {
        "a blank clip (zeros)": pytest.approx(float(batch.double().square().mean()))
    }


@pytest.mark.parametrize(
    ("samples", "draws", "said"), [(1, 1, ""), (1, 3, "; bands"), (3, 1, " Bands"), (3, 2, "; bands")]
)
def test_bands_are_spoken_of_where_some_are_drawn(shades, samples, draws, said):
    batch = torch.rand(samples, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    result = check_robustness(shades, batch, perturbations="gaussian_noise", levels=2, draws=draws)
    assert ("are one standard error" in robustness.content(result, None).html) is bool(said)
    assert said in robustness.content(result, None).html
    nowhere = {name: torch.full_like(error, torch.nan) for name, error in result.curves["gaussian_noise"].error.items()}
    curve = dataclasses.replace(result.curves["gaussian_noise"], error=nowhere)
    unknown = dataclasses.replace(result, curves={"gaussian_noise": curve})
    assert "standard error" not in robustness.content(unknown, None).html
