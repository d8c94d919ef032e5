from importlib.resources import files

import pytest
import torch
from safetensors.torch import load, load_file

import zoo
from zoo.entries.recipes import Stage
from zoo.errors import DataError, UnknownNameError
from zoo_sequence_convlstm import data, sampling, sequences, training


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def counted(count=3):
    """Sequences in which the value of a pixel tells its sequence and frame."""
    numbers = torch.arange(count * 16).view(count, 16, 1, 1) / (count * 16)
    return numbers.expand(count, 16, 36, 36)


def test_windows_to_learn_from_touch_no_frame_held_out():
    assert data.learned_starts() == [0, *range(4, 13)]
    windows = data.cut(counted(), data.learned_starts())
    assert len(windows) == 30
    assert not {3, 15} & set(windows.frame.tolist())
    held = counted()[:, list(data.HELD_OUT)].flatten()
    assert not torch.isin(windows.inputs, held).any()
    assert not torch.isin(windows.targets, held).any()


def test_a_window_reads_two_frames_and_ends_in_the_next():
    values = counted()
    windows = data.cut(values, [1, 13])
    assert windows.sequence.tolist() == [0, 0, 1, 1, 2, 2]
    assert windows.frame.tolist() == [3, 15] * 3
    assert windows.inputs.shape == (6, 1, 2, 36, 36)
    assert torch.equal(windows.inputs[3, 0], values[1, 13:15])
    assert torch.equal(windows.targets[3, 0, 0], values[1, 15])


def test_targets_may_come_from_other_sequences():
    windows = data.cut(counted(), [0], 1 - counted())
    torch.testing.assert_close(windows.targets[1, 0, 0], 1 - counted()[1, 2])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (torch.zeros(2, 15, 36, 36), "sequences are 2 x 15 x 36 x 36; expected N x 16 x 36 x 36"),
        (torch.zeros(2, 16, 64, 64), "sequences are 2 x 16 x 64 x 64; expected N x 16 x 36 x 36"),
        (torch.zeros(0, 16, 36, 36), "sequences are 0 x 16"),
        (torch.full((1, 16, 36, 36), 255.0), "within 255 and 255; scale them to 0 and 1 first"),
        (torch.full((1, 16, 36, 36), torch.nan), "no finite numbers"),
    ],
)
def test_sequences_of_wrong_size_length_or_range_are_told(values, said):
    with pytest.raises(DataError, match=said):
        data.cut(values, [0])


def test_the_scale_is_fitted_to_what_is_learned_alone():
    values = torch.rand(4, 16, 36, 36, generator=generator())
    values[:, 3] = 50
    values[:, 15] = -50
    found = data._fit(values)
    learned = torch.cat((values[:, :3], values[:, 4:15]), dim=1)
    assert (found.low, found.high) == (float(learned.min()), float(learned.max()))
    assert data.Scale(-1.0, 3.0).apply(torch.tensor([-2.0, -1.0, 1.0, 9.0])).tolist() == [0, 0, 0.5, 1]


def test_a_change_like_no_other_is_found_with_its_sequence():
    numbers = generator()
    values = 0.01 * torch.randn(60, 16, 36, 36, generator=numbers)
    shapes = torch.rand(3, 36, 36, generator=numbers)
    values += torch.einsum("nta,ahw->nthw", 0.1 * torch.randn(60, 16, 3, generator=numbers), shapes)
    values[7, 6:] += 4 * shapes[0]
    values[9, 3] += 40  # held out: nobody looks at it
    found = data.find_outliers(values)
    assert found.found.shape == (60, 12)
    assert found.sequences[7]
    assert not found.sequences[9]
    assert found.distances.flatten().argmax() == 7 * 12 + 3  # from frame 5 to frame 6, after three pairs before
    # the Gaussian's own terms: components are uncorrelated, of variance 1
    flat = found.components.flatten(0, 1)
    torch.testing.assert_close(
        flat.T @ flat / (len(flat) - 1), torch.eye(data.COMPONENTS, dtype=torch.float64), atol=1e-8, rtol=0
    )


def test_denoised_frames_are_nearer_to_the_truth():
    truth = torch.zeros(4, 36, 36)
    truth[:, 10:26, 14:20] = 0.6
    noisy = (truth + 0.03 * torch.randn(truth.shape, generator=generator())).clamp(0, 1)
    found = data.denoise(noisy, 0.03)
    assert found.dtype == torch.float32
    assert (found - truth).square().mean() < 0.4 * (noisy - truth).square().mean()


def test_the_two_sets_are_as_the_report_says(mnist):
    for name, count in {"N6": 400, "N3": 100}.items():
        noisy, clean = data.painted(name)
        assert noisy.shape == clean.shape == (count, 16, 36, 36)
        assert abs(float((noisy - clean).std()) - sequences.NOISE) < 1e-3
        values, _ = data.scaled(name)
        assert values.min() >= 0
        assert values.max() <= 1
    learned = data.scaled("N6")[0][:, data.learned_frames()]
    assert (float(learned.min()), float(learned.max())) == (0, 1)
    with pytest.raises(UnknownNameError, match="unknown set of sequences 'N7'"):
        data.painted("N7")


def test_training_sets_differ_as_they_are_named_and_the_test_set_is_one(mnist, monkeypatch):
    monkeypatch.setattr(data, "denoise", lambda frames, deviation: frames / 2)  # the real one takes seconds
    data._training_windows.cache_clear()
    try:
        sets = {name: data.training_windows(name) for name in data.TRAINING_SETS}
        removed = data.find_outliers(data.scaled("N6")[0])
        kept = 400 - int(removed.sequences.sum())
        assert 20 <= int(removed.found.sum()) <= 60  # about one change in a hundred
        assert [len(one) for one in sets.values()] == [4_000, 4_000, 10 * kept, 10 * kept]
        base, denoised = sets["base"], sets["denoised"]
        assert torch.equal(base.inputs, denoised.inputs)
        torch.testing.assert_close(denoised.targets, base.targets / 2)
        assert torch.equal(sets["removed_outliers"].inputs, sets["fully_processed"].inputs)
        torch.testing.assert_close(sets["fully_processed"].targets, sets["removed_outliers"].targets / 2)
        whole = ~removed.sequences[base.sequence]
        assert torch.equal(base.inputs[whole], sets["removed_outliers"].inputs)
        tests = {name: data.measured_windows(name) for name in ("N6", "N3")}
        assert {name: len(one) for name, one in tests.items()} == {"N6": 800, "N3": 1_400}
        assert set(tests["N6"].frame.tolist()) == {3, 15}
        assert torch.equal(tests["N6"].targets[1, 0, 0], data.scaled("N6")[0][0, 15])
        with pytest.raises(UnknownNameError, match="did you mean 'denoised'"):
            data.training_windows("denoise")
    finally:
        data._training_windows.cache_clear()


def test_the_loss_is_the_mean_over_pixels_and_windows():
    predicted, targets = torch.rand(2, 3, 1, 1, 4, 5, generator=generator(), dtype=torch.float64)
    found, terms = training.loss(lambda inputs: inputs, {"inputs": predicted, "targets": targets}, None)
    pairs = zip(predicted.flatten().tolist(), targets.flatten().tolist(), strict=True)
    mean = sum((one - other) ** 2 for one, other in pairs) / 60
    assert float(found) == pytest.approx(mean, rel=1e-12)
    assert float(terms["root"]) == pytest.approx(mean**0.5, rel=1e-12)


def test_the_bundled_samples_are_drawn_again(mnist, tmp_path):
    shown = sampling.write(tmp_path / "samples.safetensors")
    assert shown == zoo.info("sequence_convlstm").samples[0].labels
    bundled = files("zoo_sequence_convlstm").joinpath("samples/digit_sequences.safetensors").read_bytes()
    again, before = load_file(tmp_path / "samples.safetensors")["clips"], load(bundled)["clips"]
    assert (again.int() - before.int()).abs().max() <= 1  # a rounding of another processor


def test_an_epoch_shows_every_window_once_and_batches_follow_without_a_gap(mnist):
    stage = Stage(
        name="windows",
        steps=1,
        batch_size=1_500,
        learning_rate=1e-3,
        data="",
        loss="",
        arguments={"training_set": "base"},
    )
    batch_at = training.windows(None, stage, 1, torch.device("cpu"))
    batches = [batch_at(step) for step in range(6)]
    seen = torch.cat([batch["targets"].double().sum((1, 2, 3, 4)) for batch in batches])
    every = data.training_windows("base").targets.double().sum((1, 2, 3, 4))
    assert batches[0]["inputs"].shape == (1_500, 1, 2, 36, 36)
    for epoch in (0, 1):
        torch.testing.assert_close(seen[epoch * 4_000 : (epoch + 1) * 4_000].sort()[0], every.sort()[0])
    assert not torch.equal(seen[:4_000], seen[4_000:8_000])
    assert torch.equal(batch_at(3)["inputs"], batches[3]["inputs"])
