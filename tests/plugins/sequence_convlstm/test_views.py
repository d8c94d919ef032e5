import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import explain
import zoo
from zoo_sequence_convlstm import views
from zoo_sequence_convlstm.convlstm import GATES
from zoo_sequence_convlstm.evaluation import roll_out

SAMPLE = "sample:digit_sequences/2"


@pytest.fixture(scope="module")
def model():
    return zoo.load("sequence_convlstm_k16", weights=None)


def report(model, clip, out, *sections, **options):
    explain.report(model, clip, out, sections=list(sections), **options)
    found = json.loads((out / "report.json").read_text())["sections"]
    return {name: found[name]["data"] if "data" in found[name] else found[name] for name in sections}, (
        load_file(out / "tensors.safetensors")
    )


def test_predictions_are_fed_back_and_compared_with_how_the_clip_went_on(model, tmp_path):
    found, tensors = report(model, SAMPLE, tmp_path / "out", "next_frames", "gates", target="layers.0.cell/5")
    frames = zoo.read_clip(SAMPLE)[:, :, :, 0].float()[None, None] / 255
    with torch.no_grad():
        expected = roll_out(model, frames[:, :, :2], 14)
    torch.testing.assert_close(tensors["next_frames/predicted"], expected)
    torch.testing.assert_close(tensors["next_frames/true"], frames[:, :, 2:])
    errors = found["next_frames"]["squared_error"]
    wrong = (expected.double() - frames[:, :, 2:].double()).square().mean(dim=(0, 1, 3, 4))
    assert errors["the network"] == pytest.approx(wrong.tolist(), rel=1e-5)
    still = (frames[:, :, 1:2].double() - frames[:, :, 2:].double()).square().mean(dim=(0, 1, 3, 4))
    assert errors["the last frame again"] == pytest.approx(still.tolist(), rel=1e-5)
    grey = (frames[:, :, 1:2].double().mean() - frames[:, :, 2:].double()).square().mean(dim=(0, 1, 3, 4))
    assert errors["an even grey"] == pytest.approx(grey.tolist(), rel=1e-5)
    gates = found["gates"]
    assert (gates["layer"], gates["unit"], gates["read"]) == ("layers.0.cell", 5, 2)
    cell = model.layers[0].cell
    windows = torch.cat([frames[:, :, start : start + 2] for start in range(15)])
    for name, values in cell.gates(windows).items():
        torch.testing.assert_close(tensors[f"gates/{name}"], values[:, 5, 1])
        assert gates["means"][name] == pytest.approx(values[:, 5, 1].mean(dim=(1, 2)).tolist(), rel=1e-4)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What it says comes next" in page
    assert "Predicted less true" in page


def test_words_say_how_far_ahead_the_network_is_better():
    errors = {"the network": [1.0, 2.0, 3.0], "the last frame again": [2.0, 2.0, 9.0], "an even grey": [4.0, 4.0, 4.0]}
    assert views._in_words(errors) == (
        "The network is better than the last frame again up to one frame ahead and better than an even grey of that "
        "frame's mean up to 3 frames ahead."
    )
    errors["the last frame again"] = [1.0, 9.0, 9.0]
    assert views._in_words(errors).startswith("The network is no better than the last frame again and better than")


def test_a_clip_that_ends_is_gone_on_with_blindly(model, tmp_path):
    path = tmp_path / "short.safetensors"
    save_file({"clip": zoo.read_clip(SAMPLE)[:2, :, :, :1].contiguous()}, path)
    found, tensors = report(model, path, tmp_path / "out", "next_frames", "gates")
    assert found["next_frames"]["squared_error"] == {}
    assert tensors["next_frames/predicted"].shape == (1, 1, 6, 36, 36)
    assert found["gates"]["layer"] == "layers.1.cell"
    assert [len(found["gates"]["means"][gate]) for gate in GATES] == [1] * 4
    assert "nobody knows what was right" in (tmp_path / "out" / "report.html").read_text()


def test_the_last_layers_see_both_frames_and_stand_at_one(model, tmp_path):
    # What runs once, on the last frame's features or from the first frame to the next, has one position in time.
    found, _ = report(model, SAMPLE, tmp_path / "out", "fields")
    rows = {row["layer"]: row for row in found["fields"]["layers"]}
    assert (rows["head"]["field"], rows["head"]["whole"]) == ([2, 9, 9], [True, False, False])
    boxes = {one["layer"]: one["theoretical_box"] for one in found["fields"]["effective"]}
    assert boxes["layers.1.cell.of_input"] == [[0, 1], [15, 21], [15, 21]]
    assert boxes["head"] == [[0, 1], [14, 22], [14, 22]]


def test_units_are_those_of_cells_not_gates_or_pixels(tmp_path):
    model = zoo.load("sequence_convlstm_k16")  # random weights have no units to show
    found, _ = report(model, SAMPLE, tmp_path / "out", "units", unit_steps=1, units=1)
    assert [unit["layer"] for unit in found["units"]["units"]] == ["layers.0.cell", "layers.1.cell"]


def test_other_models_have_no_such_sections(tmp_path):
    with pytest.raises(zoo.ZooError, match="unknown section 'next_frames'"):
        explain.report(zoo.load("conv3d"), "sample:blinking_mnist", tmp_path / "out", sections=["next_frames"])
