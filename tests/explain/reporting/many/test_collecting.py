"""A report on many clips: its numbers are those of the clips, and a run that ended goes on."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

import explain
import zoo
from explain import sources
from explain.attribution.methods import find_method
from explain.attribution.options import accepted
from explain.faithfulness.randomization import rank_correlation
from explain.reporting import driver
from explain.reporting.many import collecting, examining
from zoo import clips
from zoo.errors import ClipError, ModelError, ResourceError, UnknownNameError, UsageError

METHODS = ["saliency", "input_x_gradient", "integrated_gradients", "grad_cam_per_frame"]


def cheap(model, folder, out, **options):
    given = {"methods": ["saliency", "input_x_gradient"], "sections": ["predictions", "time", "clips"], **options}
    return explain.report(model, folder, out, **given)


def section(report, name):
    return report.data["sections"][name]


def attributed(model, folder, method):
    """Each clip's map by its own, slowly."""
    options = accepted(find_method(method), {"n_steps": 4})
    return {
        path: explain.attribute(model, zoo.preprocess(path, model), method=method, **options)
        for path in sorted(folder.glob("*/*.safetensors"))
    }


def test_the_folder_holds_one_page_and_nothing_is_left_beside_it(collected):
    assert sorted(file.name for file in collected.folder.iterdir()) == [
        "report.html",
        "report.json",
        "tensors.safetensors",
    ]
    assert [file.name for file in collected.folder.parent.iterdir()] == ["report"]


def test_accuracy_is_that_of_the_predictions(collected, model, folder_of_clips):
    right = []
    for path in sorted(folder_of_clips.glob("*/*.safetensors")):
        top = zoo.predict(model, zoo.preprocess(path, model))[0].record()["shape"]["top"][0]
        right.append(top["label"] == path.parent.name)
    accuracy = section(collected, "predictions")["heads"]["shape"]["accuracy"]
    assert (accuracy["hits"], accuracy["clips"]) == (sum(right), 10)
    assert 0 < sum(right) < 10, "the model is right on some clips and wrong on others"
    assert collected.data["summary"] == f"It is right on {sum(right)} of 10 clips: {10 * sum(right)} %."


def test_shares_over_time_are_means_over_clips_of_a_class(collected, model, folder_of_clips):
    found = section(collected, "time")
    assert found["grouped_by"] == "true class"
    maps = attributed(model, folder_of_clips, "saliency")
    for group in found["groups"]:
        wanted = [
            one.time[0] / one.time[0].sum()
            for path, one in maps.items()
            if group["name"] in {"all clips", path.parent.name}
        ]
        method = group["methods"][0]
        assert method["clips"] == group["clips"] == len(wanted)
        assert method["mean"] == pytest.approx(torch.stack(wanted).mean(dim=0).tolist(), rel=1e-4)
        assert all(
            low <= mean <= high for low, mean, high in zip(method["low"], method["mean"], method["high"], strict=True)
        )
    assert [group["clips"] for group in found["groups"]] == [10, 4, 3, 3]


def test_agreement_is_the_mean_rank_correlation_of_magnitudes(collected, model, folder_of_clips):
    one, other = (attributed(model, folder_of_clips, name) for name in ("saliency", "grad_cam_per_frame"))
    expected = [float(rank_correlation(one[path].map.abs(), other[path].map.abs())[0]) for path in one]
    table = section(collected, "agreement")
    assert table["methods"] == METHODS
    assert table["correlation"][0][3]["mean"] == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert table["correlation"][3][0] == table["correlation"][0][3]


def test_mean_maps_add_up_and_tell_the_middle(collected, model, folder_of_clips):
    with safe_open(collected.folder / "tensors.safetensors", framework="pt") as file:
        mean = file.get_tensor("space/saliency")
        times = file.get_tensor("time/saliency")
    maps = [one.map[0].abs().sum(dim=0) for one in attributed(model, folder_of_clips, "saliency").values()]
    expected = torch.stack([heat / heat.sum() for heat in maps]).mean(dim=0)
    assert torch.allclose(mean, expected, atol=1e-6)
    assert times.shape == (10, 12)
    middle = [float(heat[6:18, 6:18].sum() / heat.sum()) for heat in maps]
    found = section(collected, "space")["methods"][0]
    assert found["centre"]["mean"] == pytest.approx(sum(middle) / 10, rel=1e-4)


def test_verdicts_and_gains_are_those_of_each_clips_tests(collected):
    rows = section(collected, "clips")["clips"]
    for one in section(collected, "faithfulness")["methods"]:
        words = [row["verdicts"][one["method"]] for row in rows]
        assert {word: share["hits"] for word, share in one["verdicts"].items()} == {
            word: words.count(word) for word in ("passes", "inconclusive", "flagged")
        }
        assert one["clips"] == 10
        assert one["deletion_gain"]["low"] <= one["deletion_gain"]["mean"] <= one["deletion_gain"]["high"]


def test_the_worst_clips_are_the_wrong_ones(collected):
    rows = section(collected, "clips")["clips"]
    order = [(bool(row["right"]), row["score"]) for row in rows]
    assert order == sorted(order)
    examples = section(collected, "examples")
    assert [card["clip"] for card in examples["worst"]] == [row["clip"] for row in rows[:4]]
    assert [card["clip"] for card in examples["best"]] == [row["clip"] for row in rows[::-1][:4]]
    page = collected.page.read_text(encoding="utf-8")
    assert page.count("sprite-map-worst-") >= 4
    with safe_open(collected.folder / "tensors.safetensors", framework="pt") as file:
        assert file.get_tensor("examples/worst-0/saliency").shape == (12, 24, 24)


def test_what_cannot_be_read_is_told_and_left_out(collected):
    (failed,) = collected.data["failed"]
    assert failed["clip"] == "flat/torn.mp4"
    assert any("flat/torn.mp4 is left out" in warning for warning in collected.warnings)
    assert "flat/torn.mp4" in collected.page.read_text(encoding="utf-8")


def test_a_folder_of_nothing_that_can_be_read_is_an_error(model, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "clips" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "clips" / name).write_bytes(b"no video")
    with pytest.raises(ClipError, match=r"none of the 2 clips of .*clips can be used; the first, a\.mp4: "):
        cheap(model, tmp_path / "clips", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_seed_gives_the_same_numbers(model, folder_of_clips, tmp_path):
    one, other = (cheap(model, folder_of_clips, tmp_path / name) for name in ("one", "other"))
    assert section(one, "time") == section(other, "time")
    first, second = ((tmp_path / name / "tensors.safetensors").read_bytes() for name in ("one", "other"))
    assert first == second


@pytest.mark.usefixtures("least_effort")
def test_a_run_that_ended_goes_on_where_it_was(model, folder_of_clips, tmp_path, monkeypatch):
    whole = cheap(model, folder_of_clips, tmp_path / "whole", sections=None, n_steps=2)
    asked = []
    examine = examining.examine

    def counted(setup, clip, progress):
        if len(asked) == 6:
            asked.append("stop")
            raise KeyboardInterrupt
        asked.append(clip.source)
        return examine(setup, clip, progress)

    monkeypatch.setattr(collecting, "examine", counted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt) as stopped:
        cheap(model, folder_of_clips, out, sections=None, n_steps=2)
    assert any("6 of 11 clips are done and kept" in note for note in stopped.value.__notes__)
    assert not out.exists()
    assert len(list((tmp_path / ".out.unfinished").iterdir())) >= 6
    again = cheap(model, folder_of_clips, out, sections=None, n_steps=2)
    assert len(asked) == 7 + 4
    assert not (tmp_path / ".out.unfinished").exists()
    for name in ("predictions", "time", "space", "agreement", "faithfulness", "examples"):
        assert section(again, name) == section(whole, name)
    assert (out / "tensors.safetensors").read_bytes() == (tmp_path / "whole" / "tensors.safetensors").read_bytes()


def test_other_weights_begin_anew(model, folder_of_clips, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        cheap(model, folder_of_clips, tmp_path / "out")
    monkeypatch.undo()
    with torch.no_grad():
        model.shape.bias[0] += 100
    found = cheap(model, folder_of_clips, tmp_path / "out")
    assert {row["said"] for row in section(found, "clips")["clips"]} == {"round"}


def test_maps_of_few_clips_are_kept_at_any_time(model, make_file, tmp_path, monkeypatch):
    for at in range(14):
        make_file(tmp_path / "clips" / f"{at}.safetensors", width=2 + at)
    most = 0
    take = collecting._take

    def watched(collected, source, names, work, told):
        nonlocal most
        take(collected, source, names, work, told)
        most = max(most, len(list(work.folder.glob("*-views.safetensors"))))

    monkeypatch.setattr(collecting, "_take", watched)
    cheap(model, tmp_path / "clips", tmp_path / "out", methods=["saliency"], sections=["examples"])
    assert most == 8


def test_without_labels_clips_are_grouped_by_what_the_model_says(model, make_file, tmp_path):
    for at in range(3):
        make_file(tmp_path / "clips" / f"{at}.safetensors", width=4 + at)
    found = cheap(model, tmp_path / "clips", tmp_path / "out", sections=["predictions"])
    assert section(found, "predictions")["grouped_by"] == "predicted class"
    assert section(found, "predictions")["heads"]["shape"]["accuracy"]["share"] is None
    assert "their true classes are not known" in found.data["summary"]


def test_labels_that_are_no_classes_only_group(model, make_file, tmp_path):
    for at in range(4):
        make_file(tmp_path / "clips" / ("left" if at % 2 else "right") / f"{at}.safetensors")
    found = cheap(model, tmp_path / "clips", tmp_path / "out")
    assert [group["name"] for group in section(found, "time")["groups"]] == ["all clips", "left", "right"]
    assert any("None of the labels is a class of this model ('left', 'right')" in said for said in found.warnings)


def test_sections_that_need_no_maps_make_none(model, folder_of_clips, tmp_path, monkeypatch):
    monkeypatch.setattr(examining.attributions, "attribute", lambda *_: pytest.fail("a map was made"))
    found = explain.report(model, folder_of_clips, tmp_path / "out", sections=["predictions", "clips"])
    assert set(found.data["sections"]) == {"predictions", "clips"}


def test_the_model_is_left_as_it_was(model, folder_of_clips, tmp_path):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cheap(model, folder_of_clips, tmp_path / "out")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_is_refused_before_anything_is_computed(model, folder_of_clips, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "examine", lambda *_: pytest.fail("a clip was examined"))
    with pytest.raises(UnknownNameError, match="unknown section 'tme'; did you mean 'time'"):
        cheap(model, folder_of_clips, tmp_path / "out", sections=["tme"])
    with pytest.raises(UsageError, match="units are maximised for one clip"):
        cheap(model, folder_of_clips, tmp_path / "out", units=3)


def test_a_method_that_was_asked_for_and_does_not_apply_ends_it_at_once(folder_of_clips, tmp_path, monkeypatch, model):
    def refused(context, name, progress):
        raise ModelError(f"{name} does not apply")

    monkeypatch.setattr(examining.attributions, "attribute", refused)
    with pytest.raises(ModelError, match="saliency does not apply"):
        cheap(model, folder_of_clips, tmp_path / "out")


def test_the_middle_is_counted_with_parts_of_pixels():
    assert examining.centre_share(torch.ones(6, 10)) == pytest.approx(0.25)
    assert examining.centre_share(torch.zeros(4, 4)) is None
    only = torch.zeros(4, 4)
    only[1, 2] = 3
    assert examining.centre_share(only) == 1


def test_every_number_of_the_page_is_in_the_json(collected):
    import re

    shown = {float(value) for value in re.findall(r'<data value="([^"]+)"', collected.page.read_text(encoding="utf-8"))}

    def numbers(data):
        if isinstance(data, dict | list):
            return set().union(*map(numbers, data.values() if isinstance(data, dict) else data))
        return {float(data)} if isinstance(data, int | float) and not isinstance(data, bool) else set()

    assert len(shown) > 100
    assert shown <= numbers(json.loads((collected.folder / "report.json").read_text())) | {1 / 12, 1.0}


def test_progress_tells_clips_done_and_time_left(model, folder_of_clips, tmp_path, capsys):
    told = []
    cheap(model, folder_of_clips, tmp_path / "one", progress=lambda *step: told.append(step))
    names = list(dict.fromkeys(step for step, _, _ in told))
    assert names[0] == "clip 1 of 11: flat/1.safetensors"
    assert names[10].startswith("clip 11 of 11, ")
    assert " left: tall/8.safetensors" in names[10]
    cheap(model, folder_of_clips, tmp_path / "two", progress=True)
    assert "clip 11 of 11" in capsys.readouterr().err


def test_a_shortage_of_the_machine_ends_the_run_with_its_work_kept(model, folder_of_clips, tmp_path, monkeypatch):
    decode, calls = clips.decode, []

    def short(source, **options):
        calls.append(source)
        if len(calls) == 3:
            raise ResourceError("no threads are left")
        return decode(source, **options)

    monkeypatch.setattr(clips, "decode", short)
    with pytest.raises(ResourceError) as caught:
        cheap(model, folder_of_clips, tmp_path / "out")
    assert "2 of 11 clips are done and kept" in caught.value.__notes__[0]
    assert not (tmp_path / "out").exists()
    before = len(calls)
    assert cheap(model, folder_of_clips, tmp_path / "out").data["clips"] == 10
    assert calls[before] == calls[2]  # it goes on where it was


def test_the_time_left_is_told_by_all_clips_but_the_first(monkeypatch):
    now = iter([100.0, 102.0, 104.0])  # as the second, third and fourth clip begin
    monkeypatch.setattr(collecting.time, "perf_counter", lambda: next(now))
    steps = []
    told = collecting._Told(lambda step, *_: steps.append(step), 5, 5)
    for name in "abcd":
        told.start(sources.Source(path=name, name=name))
    assert [step.partition(":")[0] for step in steps] == [
        "clip 1 of 5",
        "clip 2 of 5",
        "clip 3 of 5, 6 s left",
        "clip 4 of 5, 4 s left",
    ]
