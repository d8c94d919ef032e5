"""Robustness over clips read from files: the library does what `explain robustness` prints."""

import pytest
import torch
from PIL import Image

import explain
import zoo
from zoo.errors import ClipError


@pytest.fixture
def model(nets):
    model = nets.TwoHeads()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED, frames=6, size=(8, 8))
    return model


def frames(folder, seed):
    folder.mkdir(parents=True)
    pixels = torch.randint(0, 256, (6, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    for at, frame in enumerate(pixels.numpy()):
        Image.fromarray(frame).save(folder / f"{at}.png")
    return folder


def test_one_clip_gives_what_the_batch_gives(model, tmp_path):
    clip = frames(tmp_path / "one", 0)
    seen = []
    checked = explain.check_robustness_on_clips(
        model, clip, levels=2, seed=3, progress=lambda done, total: seen.append((done, total))
    )
    wanted = explain.check_robustness(model, zoo.preprocess(str(clip), model), levels=2, seed=3)
    assert checked.result.record() == wanted.record()
    assert checked.source == str(clip)
    assert not checked.left_out
    assert seen[-1][0] == seen[-1][1]


def test_clips_of_a_list_are_measured_one_by_one_and_what_cannot_be_read_is_left_out(model, tmp_path):
    paths = [str(frames(tmp_path / name, seed)) for seed, name in enumerate("ab")]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    checked = explain.check_robustness_on_clips(model, [paths[0], str(broken), paths[1]], levels=2, draws=1)
    batch = torch.cat([zoo.preprocess(path, model) for path in paths])
    wanted = explain.check_robustness(model, batch, levels=2, draws=1)
    assert checked.result.samples == 2
    for name, curve in wanted.curves.items():
        for measure, mean in curve.mean.items():
            torch.testing.assert_close(checked.result.curves[name].mean[measure], mean)
    assert set(checked.left_out) == {str(broken)}
    assert any(str(broken) in note for note in checked.notes)
    with pytest.raises(ClipError, match="none of the 1 clips can be used"):
        explain.check_robustness_on_clips(model, [str(broken)], levels=2)


def test_labels_of_a_folder_are_the_truth(model, tmp_path):
    for seed, label in enumerate(model.zoo_entry.outputs[0].labels[:2]):
        frames(tmp_path / label / "clip", seed)
    checked = explain.check_robustness_on_clips(model, tmp_path, levels=1, draws=1)
    assert "digit accuracy" in checked.result.measures
    assert checked.source == f"2 clips of {tmp_path}"
