import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

import zoo
from zoo.training.loop import train
from zoo_tconv3 import networks, study
from zoo_tconv3.recipes import RECIPES


def test_deviations_are_signed_and_from_the_identity():
    network = networks.build(design="resnet18", kernel="3t", narrowed=16, in_channels=1, classes=2)
    with torch.no_grad():
        network.conv1.scale.fill_(0.75)
        network.conv1.translate_y.fill_(0.5)
    found = study.deviations(network)
    assert found["scale"].min() == -0.25
    assert found["translate_y"].max() == 0.5
    assert found["rotation"].abs().max() == 0
    assert {len(value) for value in found.values()} == {6 * 4 + 2 * 4 * (4 + 8 + 16 + 32)}
    first = study.deviations(network, first=True)
    assert (first["scale"] == -0.25).all()
    assert {len(value) for value in first.values()} == {6 * 4}


def test_the_study_trains_what_is_missing_and_writes_its_tables(monkeypatch, tmp_path, test_data, capsys):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    monkeypatch.setattr(study, "SEEDS", (1, 2))
    monkeypatch.setattr(study, "keep_freed_memory", lambda: None)
    short = tuple(
        replace(recipe, stages=(replace(recipe.stages[0], steps=1, batch_size=2, recalibration=0),))
        for recipe in RECIPES
    )
    monkeypatch.setattr(study, "RECIPES", short)
    trained = []

    def fast(recipe, out, **given):
        trained.append((recipe.name, recipe.seed))
        return train(recipe, out, evaluate_clips=2, progress=False, **given)

    monkeypatch.setattr(study, "train", fast)
    runs = tmp_path / "runs"
    monkeypatch.setattr("sys.argv", ["study", str(runs), "--only", "zoom-1"])
    study.main()
    assert trained == [("3t_resnet18_w16.zoom", 1)]
    assert not (runs / "study.json").exists()
    monkeypatch.setattr("sys.argv", ["study", str(runs)])
    study.main()
    assert len(trained) == len(set(trained)) == 12
    found = json.loads((runs / "study.json").read_text())
    assert found["ratio_to_static"].keys() == {"zoom", "rotation", "translation"}
    assert all(len(values) == 2 for row in found["ratio_to_static"].values() for values in row.values())
    told, weights = found["runs"]["zoom"][0], runs / "3t_resnet18_w16.zoom-1" / "3t_resnet18_w16.zoom.safetensors"
    network = zoo.load("3t_resnet18_w16", weights=weights)
    for figure, first in (("mean", False), ("mean_in_first_layer", True)):
        far = study.deviations(network, first=first)["scale"].abs()
        assert told[figure]["scale"] == pytest.approx(float(far.mean()))
    assert told["accuracy"] in {0, 0.5, 1}
    assert "| zoom |" in capsys.readouterr().out


def test_tables_are_ratios_to_still_digits_seed_by_seed_and_their_spread(monkeypatch, tmp_path):
    """Made-up runs: seed times as far in all but `scale`, and in the first layer the square."""
    moved = {"zoom": 6.0, "rotation": 4.0, "translation": 8.0}  # all else 2

    def measured(path):
        tag, _, seed = path.parent.name.rpartition(".")[2].partition("-")
        far = moved.get(tag, 2.0)
        everywhere = {name: far * int(seed) for name in study.IDENTITY} | {"scale": far}
        first = {name: value**2 for name, value in everywhere.items()}
        return {"accuracy": 0.9 + 0.01 * int(seed), "mean": everywhere, "mean_in_first_layer": first}

    monkeypatch.setattr(study, "measure", measured)
    found = study.tables(tmp_path)
    assert found["ratio_to_static"]["zoom"] == {name: [3.0] * 3 for name in study.IDENTITY}
    assert found["ratio_to_static_in_first_layer"]["translation"] == {name: [16.0] * 3 for name in study.IDENTITY}
    shown = study.text(found).splitlines()
    assert shown[0] == "| all layers | scale | rotation | translate_x | translate_y |"
    assert shown[3] == "| rotation | 2.00 ± 0.00 | 2.00 ± 0.00 | 2.00 ± 0.00 | 2.00 ± 0.00 |"
    assert shown[-5].startswith("| rotation | 92.00 ± 1.00 | 4000.00 ± 0.00 | 8000.00 ± 4000.00 |")


@pytest.mark.parametrize(
    ("given", "code", "said"), [(["--only", "walk-1"], 2, "matches none of motion_mnist-1"), ([], 1, "cannot write to")]
)
def test_mistakes_get_a_message(monkeypatch, tmp_path, capsys, given, code, said):
    monkeypatch.setattr(study, "keep_freed_memory", lambda: None)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["study", str(tmp_path / "file"), *given])
    with pytest.raises(SystemExit) as ended:
        study.main()
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_the_card_shows_the_committed_tables():
    found = json.loads(Path(study.__file__).with_name("study.json").read_text())
    card = (Path(__file__).parents[3] / "cards" / "3t_resnet18_w16.md").read_text()
    for table in ("ratio_to_static", "ratio_to_static_in_first_layer"):
        for kind, row in found[table].items():
            cells = " | ".join(f"{mean(values):.2f} ± {stdev(values):.2f}" for values in row.values())
            assert f"| {kind} | {cells} |" in card
    for tag in study.STARTS:
        accuracy = [100 * run["accuracy"] for run in found["runs"][tag]]
        assert f"{mean(accuracy):.2f} ± {stdev(accuracy):.2f} %" in card


def test_the_committed_study_is_of_the_recipes_and_of_the_bundled_weights():
    found = json.loads(Path(study.__file__).with_name("study.json").read_text())
    assert found["seeds"] == list(study.SEEDS)
    for tag, runs in found["runs"].items():
        bundled = Path(study.__file__).parent / "weights" / f"3t_resnet18_w16.{tag}.safetensors"
        assert study.measure(bundled) == runs[0]
