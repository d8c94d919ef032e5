import pytest
import torch
from torch import nn

from explain.robustness import Robustness, check_robustness
from explain.robustness.checking import Check
from explain.robustness.perturbations import BUILT_IN
from explain.robustness.perturbed_clips import Spoiled
from zoo.entries import OutputSpec
from zoo.errors import MemoryLimitError, ModelError, UnknownNameError, UsageError

ALL = {one.name for one in BUILT_IN}


def clips(samples=3, channels=1, shape=(6, 8, 8)):
    return torch.rand(samples, channels, *shape, generator=torch.Generator().manual_seed(1))


def means(result):
    return {name: dict(curve.mean) for name, curve in result.curves.items()}


def equal(first, second, tolerance=0.0):
    return all(
        torch.allclose(one, second[name][measure], rtol=0, atol=tolerance, equal_nan=True)
        for name, measures in first.items()
        for measure, one in measures.items()
    )


def test_numbers_are_those_of_the_outputs_by_hand(nets):
    """Against a loop over perturbed clips, on a normalised input with two heads."""
    model = nets.TwoHeads()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED, mean=(0.4,), std=(0.3,), frames=6, size=(8, 8))
    batch = (clips().double() - 0.4) / 0.3
    truth = {"digit": torch.tensor([0, 2, 1]), "speed": torch.tensor([0.5, -1.0, 2.0])}
    result = check_robustness(model, batch, levels=2, draws=3, truth=truth, seed=5)
    assert set(result.curves) == ALL
    assert result.samples == 3
    spoiled = Spoiled(model, batch, fill="grey", seed=5)
    model.eval()
    with torch.no_grad():
        clean = model(batch)
        for one in BUILT_IN:
            curve = result.curves[one.name]
            draws = 3 if one.drawn else 1
            for at, level in enumerate(curve.levels.tolist()):
                for draw in range(draws):
                    for sample in range(3):
                        generator = one.generator(5, level, sample, draw)
                        x = clips().double()[sample]
                        if at:
                            x = one.apply(x, level, generator, torch.tensor([0.5], dtype=torch.float64))
                        out = model(((x - 0.4) / 0.3)[None])
                        digit, speed = out["digit"][0], float(out["speed"])
                        right = int(truth["digit"][sample])
                        expected = {
                            "digit accuracy": float(int(digit.argmax()) == right),
                            "digit unchanged": float(int(digit.argmax()) == int(clean["digit"][sample].argmax())),
                            "digit probability": float(digit.softmax(0)[right]),
                            "digit logit": float(digit[right]),
                            "speed error": abs(speed - float(truth["speed"][sample])),
                            "speed change": abs(speed - float(clean["speed"][sample])),
                        }
                        found = {name: float(values[at, draw, sample]) for name, values in curve.values.items()}
                        assert found == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(spoiled.clips, clips().double())


def test_means_and_standard_errors_are_over_samples_and_of_one_sample_over_draws(nets):
    model = nets.TwoHeads()
    several = check_robustness(model, clips().double(), perturbations="gaussian_noise", levels=2, draws=3)
    curve = several.curves["gaussian_noise"]
    values = curve.values["speed change"].numpy()
    assert curve.mean["speed change"].numpy() == pytest.approx(values.mean(axis=(1, 2)))
    assert curve.error["speed change"].numpy() == pytest.approx(values.mean(axis=1).std(axis=1, ddof=1) / 3**0.5)
    one = check_robustness(model, clips(1).double(), perturbations=("gaussian_noise", "blur"), levels=2, draws=3)
    values = one.curves["gaussian_noise"].values["speed change"].numpy()[:, :, 0]
    assert one.curves["gaussian_noise"].error["speed change"].numpy() == pytest.approx(
        values.std(axis=1, ddof=1) / 3**0.5
    )
    assert one.curves["blur"].error["speed change"].isnan().all()


class Threshold(nn.Module):
    """Class 1 where the mean brightness is below a half."""

    def forward(self, x):
        dark = 0.5 - x.mean(dim=(1, 2, 3, 4))
        return torch.stack([-dark, dark], dim=1) * 100


def test_first_change_and_half_loss_are_where_they_must_be(nets):
    model = Threshold()
    model.zoo_entry = nets.entry(outputs=(OutputSpec(name="shade", labels=("bright", "dark")),), frames=4, size=(8, 8))
    batch = torch.ones(1, 1, 4, 8, 8)
    result = check_robustness(model, batch, perturbations="missing_square", levels=100, draws=1, fill="black")
    curve = result.curves["missing_square"]
    assert curve.levels.tolist() == list(range(9))
    assert curve.first_change("shade unchanged") == curve.half_lost("shade unchanged") == 6  # 36 of 64 pixels
    white = check_robustness(model, batch, perturbations="missing_square", fill="white").curves["missing_square"]
    assert white.first_change("shade unchanged") is None
    four = torch.ones(4, 1, 4, 8, 8)
    four[1:] *= torch.tensor([0.9, 0.8, 0.51]).view(3, 1, 1, 1, 1)
    truth = torch.tensor([0, 0, 0, 1])  # the last one is said wrongly from the start
    result = check_robustness(model, four, perturbations={"missing_square": [1, 2, 4, 5, 6]}, fill="black", truth=truth)
    curve = result.curves["missing_square"]
    assert curve.mean["shade unchanged"].tolist() == [1, 1, 0.75, 0.75, 0.5, 0]
    assert curve.mean["shade accuracy"].tolist() == [0.75, 0.75, 1, 1, 0.75, 0.25]
    assert (curve.first_change("shade unchanged"), curve.half_lost("shade unchanged")) == (2, 5)
    assert (curve.first_change("shade accuracy"), curve.half_lost("shade accuracy")) == (6, 6)
    record = result.record()["curves"]["missing_square"]
    assert record["half_lost"] == {"shade accuracy": 6, "shade unchanged": 5}
    assert result.tensors()["missing_square/levels"].tolist() == [0, 1, 2, 4, 5, 6]


class Repeats(nn.Module):
    """Gives back the clip that it takes."""

    def forward(self, x):
        return x * 1.0


def test_clips_are_measured_per_pixel_against_the_truth_or_the_unchanged_output():
    batch, truth = clips(2).double(), torch.zeros(2, 1, 6, 8, 8)
    truth[:, :, :2] = 1
    low, high = batch.amin(dim=(1, 2, 3, 4), keepdim=True), batch.amax(dim=(1, 2, 3, 4), keepdim=True)
    result = check_robustness(Repeats(), batch, perturbations={"missing_frames": [6]}, fill="black", truth=truth)
    curve = result.curves["missing_frames"]
    (measure,) = result.measures.values()
    assert measure.kind == "error"
    assert measure.lines == {"a blank clip (zeros)": pytest.approx(1 / 3)}
    expected = [float((batch - truth).square().mean()), float((low.expand_as(truth) - truth).square().mean())]
    assert curve.mean["output squared error"].tolist() == pytest.approx(expected)
    result = check_robustness(Repeats(), batch, perturbations={"missing_frames": [6]}, fill="white")
    expected = [0.0, float((high.expand_as(batch) - batch).square().mean())]
    assert result.curves["missing_frames"].mean["output squared error"].tolist() == pytest.approx(expected)
    lines = result.measures["output squared error"].lines
    assert lines == {"a blank clip (zeros)": pytest.approx(float(batch.square().mean()))}


def test_lines_of_clips_that_come_one_after_the_other_are_means_over_all():
    batch, check = clips(3).double(), Check(Repeats(), perturbations="blur", levels=1)
    check.add(batch[:1])
    check.add(batch[1:])
    ((_, line),) = check.result().measures["output squared error"].lines.items()
    assert line == pytest.approx(float(batch.square().mean()))


def test_a_target_and_a_measure_of_ones_own_are_followed(nets):
    model = nets.TwoHeads()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED, frames=6, size=(8, 8))
    batch = clips(2).double()
    known = {"perturbations": "blur", "levels": 1}

    def at_zero(**given):
        result = check_robustness(model, batch, **known, **given)
        return {name: values[0, 0].tolist() for name, values in result.curves["blur"].values.items()}

    with torch.no_grad():
        model.eval()
        out = model(batch)
    two = out["digit"][:, 2]
    assert at_zero(target="digit:two")["digit logit"] == pytest.approx(two.tolist())
    assert list(at_zero(target="speed")) == ["speed change"]
    assert list(at_zero(target="stem/1")) == ["stem/1"]

    def digit_of_first(output, samples):
        assert len(samples) == len(output["speed"])
        return output["digit"][:, 0] + 10 * samples

    expected = (out["digit"][:, 0] + torch.tensor([0, 10])).tolist()
    assert at_zero(measure=digit_of_first)["digit of first"] == pytest.approx(expected)


@pytest.mark.parametrize("layout", ["NTCHW", "NCHW"])
def test_other_layouts_are_perturbed_alike(nets, layout):
    from explain.model.layouts import from_ncthw

    class Sums(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(dim=1, keepdim=True)

    def run(one):
        model, batch = Sums(), clips(2, 2, (1, 8, 8) if layout == "NCHW" else (5, 8, 8)).double()
        model.zoo_entry = nets.entry(one, frames=5, size=(8, 8), outputs=(OutputSpec(name="sum", kind="value"),))
        return check_robustness(model, from_ncthw(batch, one), levels=2, draws=1)

    first, second = run("NCTHW"), run(layout)
    assert equal(means(first), means(second), 1e-9)
    assert set(second.missing) == ({one.name for one in BUILT_IN if one.over_time} if layout == "NCHW" else set())


def test_batches_and_the_samples_beside_do_not_matter(nets):
    model, batch = nets.TwoHeads(), clips(4).double()
    whole = check_robustness(model, batch, levels=2, draws=2)
    by_one = check_robustness(model, batch, levels=2, draws=2, batch_size=1)
    assert equal(means(whole), means(by_one), 1e-9)
    check = Check(model, levels=2, draws=2)
    for part in (batch[:1], batch[1:3], batch[3:]):
        check.add(part)
    assert equal(means(whole), means(check.result()), 1e-9)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(nets):
    model, batch = nets.TwoHeads(), clips(1).double()
    first, again, other = (
        means(check_robustness(model, batch, perturbations="gaussian_noise", levels=2, seed=seed)) for seed in (0, 0, 1)
    )
    assert equal(first, again)
    assert not equal(first, other)


class Fails(nn.Module):
    def __init__(self, after, error):
        super().__init__()
        self.net, self.calls, self.after, self.error = nn.Conv3d(1, 2, 3), 0, after, error
        self.norm = nn.BatchNorm3d(2)

    def forward(self, x):
        self.calls += 1
        if self.calls > self.after:
            raise self.error
        return self.norm(self.net(x)).mean(dim=(2, 3, 4))


def test_the_model_and_the_process_are_left_as_found_also_on_failure(nets):
    model = nets.TwoHeads().train()
    before = nets.fingerprint(model)
    check_robustness(model, clips(2).double(), levels=1, draws=1)
    assert nets.fingerprint(model) == before
    for after in (0, 1, 3):
        failing = Fails(after, KeyboardInterrupt()).train()
        before = nets.fingerprint(failing)
        with pytest.raises(KeyboardInterrupt):
            check_robustness(failing, clips(1).double(), levels=1, draws=1, batch_size=1)
        assert nets.fingerprint(failing) == before


class Greedy(Threshold):
    """Runs out of memory with more than `most` samples."""

    def __init__(self, most):
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(x))
        return super().forward(x)


def test_fewer_at_once_are_tried_when_memory_runs_out():
    wanted = check_robustness(Threshold(), clips(1), levels=8)
    found = check_robustness(Greedy(3), clips(1), levels=8)
    assert equal(means(wanted), means(found))
    with pytest.raises(MemoryLimitError, match="one sample"):
        check_robustness(Greedy(0), clips(1))


def test_what_is_not_finite_is_named():
    class Divides(Threshold):
        def forward(self, x):
            return super().forward(x) / (x.amin(dim=(1, 2, 3, 4)) > 0.2).float()[:, None]

    batch = clips(1) / 2 + 0.5
    batch[:, :, 0, 0, 0] = 0.3
    with pytest.raises(ModelError, match=r"missing_square at level 8, .* sample 0"):
        check_robustness(with_range(Divides()), batch, perturbations={"missing_square": [8]}, fill="black")


def with_range(model):
    from zoo.entries import InputSpec, ModelEntry

    model.zoo_entry = ModelEntry(
        name="m",
        builder="m:m",
        summary="",
        parameters=0,
        outputs=(OutputSpec(),),
        input=InputSpec(channels="L", frames=6, size=(8, 8)),
    )
    return model


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"perturbations": "noise"}, UnknownNameError, "perturbation 'noise'"),
        ({"levels": 0}, UsageError, "levels must be at least 1"),
        ({"draws": 0}, UsageError, "draws must be at least 1"),
        ({"fill": "purple"}, UnknownNameError, "fill 'purple'"),
        ({"truth": torch.tensor([0, 5])}, UsageError, "classes are 0 to 1"),
        ({"truth": torch.tensor([0])}, UsageError, "expected"),
        ({"truth": {"other": torch.tensor([0, 1])}}, UsageError, "which the model does not give"),
        ({"target": "tall"}, UnknownNameError, "tall"),
        ({"measure": lambda output, samples: output}, UsageError, "one number for each"),
        ({"perturbations": {"blur": [-1.0]}}, UsageError, "blur has no level -1"),
        ({"levels": 2.5}, UsageError, "levels must be at least 1 and whole, got 2.5"),
        ({"draws": "4"}, UsageError, "draws must be at least 1 and whole, got '4'"),
        ({"batch_size": 0}, UsageError, "batch_size must be at least 1"),
        ({"seed": None}, UsageError, "seed must be a whole number, got None"),
        ({"fill": None}, UnknownNameError, "fill 'None'"),
        ({"perturbations": []}, UsageError, "no perturbation is named; name some of gaussian_noise"),
        ({"perturbations": 5}, UsageError, "perturbations are names, or names with the levels of each, not 5"),
        ({"perturbations": [["blur"]]}, UnknownNameError, "perturbation"),
        ({"perturbations": {"blur": 1.0}}, UsageError, "levels of blur are a list of numbers"),
        ({"perturbations": {"blur": "12"}}, UsageError, "levels of blur are a list of numbers"),
        ({"perturbations": {"blur": ["soft"]}}, UsageError, "levels of blur are a list of numbers"),
        ({"truth": 1}, UsageError, "truth is a tensor, or a dict"),
        ({"truth": {"output": 1}}, UsageError, "truth of 'output' is a tensor, not int"),
        ({"truth": torch.tensor([0, torch.nan])}, UsageError, "truth of 'output' holds values that are no finite"),
        ({"measure": "mean"}, UsageError, "measure must be a function"),
    ],
)
def test_a_mistake_is_named(given, error, said):
    with pytest.raises(error, match=said):
        check_robustness(Threshold(), clips(2), **given)


def test_levels_that_are_not_given_are_chosen_and_names_may_come_from_anywhere():
    chosen = {"blur": None, "missing_square": [], "salt_and_pepper": torch.tensor([0.25, 0.5])}
    found = check_robustness(Threshold(), clips(1), perturbations=chosen, levels=2, draws=1)
    assert {name: len(curve.levels) - 1 for name, curve in found.curves.items()} == dict.fromkeys(chosen, 2)
    assert found.curves["salt_and_pepper"].levels.tolist() == [0, 0.25, 0.5]
    named = check_robustness(Threshold(), clips(1), perturbations=(name for name in chosen), levels=1, draws=1)
    assert set(named.curves) == set(chosen)


def test_a_batch_that_does_not_fit_and_clips_of_another_extent_are_named(nets):
    with pytest.raises(ModelError, match="does not take a batch of shape"):
        check_robustness(nets.TwoHeads(), clips(1, 2).double())
    with pytest.raises(UsageError, match="cannot be done to a clip of one frame"):
        check_robustness(Threshold(), clips(1, 1, (1, 8, 8)), perturbations="shuffled_frames")
    check = Check(Threshold())
    check.add(clips(1))
    with pytest.raises(UsageError, match="one extent"):
        check.add(clips(1, 1, (5, 8, 8)))


def test_what_is_not_finite_is_named_where_it_begins(nets):
    model = nets.TwoHeads()
    with torch.no_grad():
        model.speed.bias.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"speed is not a finite number: the model's parameter 'speed.bias'"):
        check_robustness(model, clips(1).double(), levels=1, draws=1)


def test_progress_goes_up_to_its_total(nets):
    seen = []
    check_robustness(Threshold(), clips(2), levels=2, draws=2, progress=lambda *now: seen.append(now))
    done, total = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert set(total) == {2 * (1 + sum(2 * (2 if one.drawn else 1) for one in BUILT_IN))}
    assert done[-1] == total[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_clips_as_the_cpu(nets):
    model, batch = nets.TwoHeads(), clips(2).double()
    on_cpu = check_robustness(model, batch, levels=2, draws=2)
    on_gpu = check_robustness(model.cuda(), batch.cuda(), levels=2, draws=2)
    assert equal(means(on_cpu), means(on_gpu), 1e-6)


def test_a_result_is_kept_and_read_again(nets, tmp_path):
    result = check_robustness(nets.TwoHeads(), clips(2).double(), levels=2, draws=2)
    read = Robustness.load(result.save(tmp_path / "kept"))
    assert read.record() == result.record()
    assert equal(means(read), means(result))
    assert all(torch.equal(one, read.tensors()[name]) for name, one in result.tensors().items())
