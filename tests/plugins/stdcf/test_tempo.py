import json
from types import SimpleNamespace

import pytest
import torch

import zoo
from zoo_motion_mnist import motion
from zoo_stdcf import tempo, tempo_view
from zoo_stdcf.layer import with_tempo

CLIPS = 5


@pytest.fixture(scope="module")
def network():
    return zoo.load("stdcf_kth.motion_mnist")


@pytest.fixture(scope="module")
def found(network, test_data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_DATA", str(test_data))
        yield tempo.measure(network, CLIPS)


def test_components_are_the_eigenvectors_of_the_covariance():
    drawn = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = drawn * torch.tensor([1, 5, 1, 3, 1, 1]) + 7
    mean, axes, explained = tempo.components(drawn)
    torch.testing.assert_close(mean, drawn.mean(0))
    values, vectors = torch.linalg.eigh(drawn.T.cov())
    torch.testing.assert_close(explained, values.flip(0)[:2] / values.sum())
    for axis, vector in zip(axes, vectors.T.flip(0), strict=False):
        torch.testing.assert_close(axis, vector * (vector @ axis).sign())
        assert axis[axis.abs().argmax()] > 0


def test_the_figures_are_those_of_one_clip_after_the_other(network, found, test_data, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    images, drawn = motion.fixed_set("test", CLIPS)
    places, right = {}, {}
    with torch.inference_mode():
        for played, speed, frames in (("normal", 1.0, 16), ("half", 0.5, 32)):
            for tau in (1, 2):
                net, at, said = with_tempo(network, tau), [], []
                for index in range(CLIPS):
                    one = motion.at_speed(drawn[index : index + 1], speed)
                    clip = motion.render(images, one, frames=frames).float() / 255
                    at.append(net.features(clip)[0].double())
                    said.append(int(net(clip).argmax()) == int(one.present.int().argmax()))
                places[played, tau], right[played, tau] = torch.stack(at), sum(said) / CLIPS
    usual = places["normal", 1]
    spread = sum((one - usual.mean(0)).norm() for one in usual) / CLIPS
    for row, away, points in zip(found["accuracy"], found["away"], found["points"], strict=True):
        key = row["played"], row["tempo"]
        assert row["motion accuracy"] == pytest.approx(right[key], abs=1e-4)
        distance = sum((one - own).norm() for one, own in zip(places[key], usual, strict=True)) / CLIPS / spread
        assert away["distance"] == pytest.approx(float(distance), abs=1e-3)
        order = [
            index
            for name in motion.MOTIONS
            for index in range(CLIPS)
            if drawn.present[index].int().argmax() == motion.MOTIONS.index(name)
        ]
        axes, mean = (torch.tensor(found[name], dtype=torch.float64) for name in ("axes", "mean"))
        expected = torch.stack([axes @ (places[key][index] - mean) for index in order])
        torch.testing.assert_close(torch.tensor(points["at"], dtype=torch.float64), expected, rtol=1e-2, atol=1e-2)
    assert [(row["played"], row["tempo"]) for row in found["accuracy"]] == list(places)
    assert found["away"][0]["distance"] == 0
    assert found["motions"] == [motion.MOTIONS[int(drawn.present[index].int().argmax())] for index in order]


def test_the_stored_figures_belong_to_the_bundled_weights():
    for weights in zoo.info("stdcf_kth").weights:
        kept = tempo.stored(weights.tag, weights.sha256)
        if weights.tag == "motion_mnist":
            assert kept["clips"] == tempo.CLIPS
            usual = kept["accuracy"][0]
            assert (usual["played"], usual["tempo"]) == ("normal", 1)
            assert usual["motion accuracy"] == pytest.approx(weights.metrics[0].value, abs=0.01)
        assert tempo.stored(weights.tag, "0" * 64) is None
    assert tempo.stored("unknown", "0" * 64) is None


def test_the_table_names_every_row(found):
    lines = tempo.text({"motion_mnist": found}).splitlines()
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| motion_mnist | normal | 1 | ")


def test_the_command_writes_what_it_measured(found, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempo, "measure", lambda network, clips: {**found, "clips": clips})
    monkeypatch.setattr("sys.argv", ["tempo", str(tmp_path / "tempo.json"), "--clips", "7"])
    tempo.main()
    written = json.loads((tmp_path / "tempo.json").read_text())
    assert {tag: one["sha256"] for tag, one in written.items()} == {
        weights.tag: weights.sha256 for weights in zoo.info("stdcf_kth").weights
    }
    assert all(one["clips"] == 7 for one in written.values())
    assert capsys.readouterr().out.startswith("| weights | played")


def test_a_wrong_number_of_clips_is_told_without_a_traceback(monkeypatch, test_data, tmp_path, capsys):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    monkeypatch.setattr("sys.argv", ["tempo", str(tmp_path / "tempo.json"), "--clips", "0"])
    with pytest.raises(SystemExit) as ended:
        tempo.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: 0 clips of motion_mnist test: 1 to 10,000 can be measured\n"


def test_the_section_draws_the_clip_among_the_others(network):
    batch = zoo.preprocess("sample:stdcf_motion_mnist/4", network)
    context = SimpleNamespace(model=network, entry=zoo.info("stdcf_kth.motion_mnist"), batch=batch)
    assert tempo_view.available(context)
    content = tempo_view.build(context)
    html = str(content.html)
    assert html.count("<svg") == 2
    assert html.count('<th scope="row">half speed') == 2
    for row in content.data["rows"]:
        low, high = row["interval"]
        assert 0 <= low < row["accuracy"] <= high <= 1
    for name in ("zoom in", "counter-clockwise", "this clip", "Half speed at a tempo of 2"):
        assert name in html
    kept = tempo.stored("motion_mnist", context.entry.weights[0].sha256)
    with torch.no_grad():
        features = with_tempo(network, 2).features(batch)[0].double()
    expected = torch.tensor(kept["axes"], dtype=torch.float64) @ (features - torch.tensor(kept["mean"]).double())
    assert content.data["clip"][1]["at"] == pytest.approx(expected.tolist(), abs=1e-3)
    assert network.conv1.tempo == 1


@pytest.mark.parametrize("entry", [None, "stdcf_kth", "conv3d_kth"])
def test_weights_that_were_not_measured_have_no_section(entry):
    known = zoo.info(entry).resolve(None) if entry else None
    assert not tempo_view.available(SimpleNamespace(entry=known))
