import math

import pytest
import torch
from torch import nn

import explain
from explain.maximization.objectives import (
    LEAST_COSINE,
    Seen,
    channel,
    contrast,
    direction,
    diversity,
    flicker,
    layer,
    logit,
    total_variation,
    unit,
)
from zoo.errors import MemoryLimitError, ModelError, UnknownNameError, UsageError


@pytest.fixture
def seen():
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return Seen(
        clips=draw(3, 2, 4, 5, 6).sigmoid(),
        maps={"a": draw(3, 4, 3, 5, 2), "b": draw(3, 2, 1, 1, 1)},
        outputs={"cat": draw(3)},
    )


def test_a_channel_is_its_mean_and_a_unit_one_position_the_centre_where_none_is_named(seen):
    maps = seen.maps["a"]
    assert torch.allclose(channel("a", 2).value(seen), maps[:, 2].flatten(1).mean(dim=1))
    assert torch.equal(unit("a", 1).value(seen), maps[:, 1, 1, 2, 1])
    assert torch.equal(unit("a", 1, (2, 0, 1)).value(seen), maps[:, 1, 2, 0, 1])
    assert torch.equal(unit("b", 0).value(seen), seen.maps["b"][:, 0, 0, 0, 0])
    assert torch.equal(logit("cat").value(seen), seen.outputs["cat"])


def test_a_layer_is_the_mean_of_its_squares(seen):
    slow = torch.stack([sum(x**2 for x in maps.flatten()) / maps.numel() for maps in seen.maps["a"]])
    assert torch.allclose(layer("a").value(seen), slow)


@pytest.mark.parametrize("power", [0, 1, 2.5])
def test_a_direction_is_the_mean_dot_product_times_the_cosine_to_a_power(seen, power):
    vector = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    found = direction("a", vector.tolist(), power=power).value(seen)
    for clip in range(3):
        terms = []
        for place in seen.maps["a"][clip].flatten(1).T:
            dot = sum(float(x) * float(v) for x, v in zip(place, vector, strict=True))
            cosine = dot / math.sqrt(float(place.square().sum())) / math.sqrt(float(vector.square().sum()))
            terms.append(dot * max(LEAST_COSINE, cosine) ** power)
        assert found[clip].item() == pytest.approx(sum(terms) / len(terms))


def test_diversity_is_minus_the_mean_cosine_of_gram_matrices(seen):
    maps = seen.maps["a"]
    grams = []
    for clip in maps:
        gram = torch.zeros(4, 4, dtype=torch.float64)
        for place in clip.flatten(1).T:
            gram += torch.outer(place, place) / 30
        grams.append(gram.flatten())
    for clip in range(3):
        cosines = [torch.cosine_similarity(grams[clip], grams[other], dim=0) for other in range(3) if other != clip]
        assert diversity("a").value(seen)[clip].item() == pytest.approx(-sum(cosines).item() / 2)
    with pytest.raises(UsageError, match="copies"):
        diversity("a").value(seen.split([1, 2])[0])


def test_regularisers_are_means_of_differences(seen):
    for clip, variation, change, grey in zip(
        seen.clips, *(one.value(seen) for one in (total_variation(), flicker(), contrast())), strict=True
    ):
        down = (clip[:, :, 1:] - clip[:, :, :-1]).abs().mean()
        across = (clip[..., 1:] - clip[..., :-1]).abs().mean()
        assert variation.item() == pytest.approx((down + across).item())
        assert change.item() == pytest.approx(((clip[:, 1:] - clip[:, :-1]) ** 2).mean().item())
        assert grey.item() == pytest.approx(((clip - 0.5) ** 2).mean().item())
    image = Seen(clips=torch.rand(2, 3, 1, 1, 4), maps={}, outputs={})
    assert torch.equal(flicker().value(image), torch.zeros(2))
    assert total_variation().value(image).isfinite().all()


def test_objectives_add_scale_and_negate_across_layers(seen):
    first, second = channel("a", 3), channel("b", 1)
    both = 0.2 * first - second * 0.8 + sum([first, second])
    assert torch.allclose(both.value(seen), 1.2 * first.value(seen) + 0.2 * second.value(seen))
    assert torch.equal((-first).value(seen), -first.value(seen))
    assert both.layers == {"a", "b"}
    assert (first + 0) is first
    assert (0.5 * (first - logit("cat"))).name == "0.5 (a/3 - cat)"
    assert (-logit("cat")).name == "-cat"
    assert (first + logit("cat")).targets == {"cat"}
    assert (diversity("a") * 2 + first).coupled
    with pytest.raises(TypeError):
        first + 1
    with pytest.raises(TypeError):
        first * "a"


def test_what_a_layer_does_not_have_is_refused(seen):
    with pytest.raises(UnknownNameError, match="units are 0 to 3"):
        channel("a", 4).value(seen)
    with pytest.raises(UsageError, match="3 x 5 x 2"):
        unit("a", 0, (3, 0, 0)).value(seen)
    with pytest.raises(UsageError, match="4 numbers"):
        direction("a", [1.0, 2.0]).value(seen)


@pytest.fixture
def model(nets):
    made = nets.TwoHeads()
    made.zoo_entry = nets.entry("NCTHW", outputs=nets.DIGIT_AND_SPEED)
    return made


def test_the_sum_over_two_layers_climbs_and_its_value_is_the_model_s(model):
    objective = 0.5 * channel("stem.0", 1) + 2 * channel("block", 3)
    result = explain.maximize(model, objective=objective, steps=30)
    assert result.layer is None
    assert result.units == result.names == ("0.5 stem.0/1 + 2 block/3",)
    assert result.activation > result.initial
    inputs = result.clips
    model.eval()
    with torch.no_grad():
        stem = model.stem[0](inputs)
        block = model.block(model.stem(inputs))
    assert torch.allclose(result.activation[0], 0.5 * stem[0, 1].mean() + 2 * block[0, 3].mean())


def test_outputs_are_raised_by_label_by_index_and_by_the_name_of_a_value(model):
    objectives = [logit("digit:two"), logit("digit:1"), -logit("speed")]
    result = explain.maximize(model, objective=objectives, steps=30)
    model.eval()
    with torch.no_grad():
        said = model(result.clips)
    expected = torch.stack([said["digit"][0, 2], said["digit"][1, 1], -said["speed"][2, 0]])
    assert torch.allclose(result.activation, expected)
    assert (result.activation > result.initial).all()
    for wrong in ("digit:nine", "digt"):
        with pytest.raises(UnknownNameError):
            explain.maximize(model, objective=logit(wrong), steps=1)
    with pytest.raises(UsageError, match="'digit' has classes: say which is raised, digit:CLASS"):
        explain.maximize(model, objective=logit("digit"), steps=1)


def test_more_clips_than_memory_holds_are_refused_before_any_is_made(model):
    with pytest.raises(MemoryLimitError, match="make fewer at once: fewer units or copies"):
        explain.maximize(model, "block", 0, copies=10**10, steps=1)


def test_layers_and_outputs_add_up_in_one_objective(model):
    result = explain.maximize(model, objective=0.5 * channel("block", 3) + logit("digit:two"), steps=5)
    model.eval()
    with torch.no_grad():
        block, said = model.block(model.stem(result.clips)), model(result.clips)["digit"]
    assert torch.allclose(result.activation[0], 0.5 * block[0, 3].mean() + said[0, 2])


def test_passes_end_at_the_last_layer_that_is_asked_for(nets):
    model = nets.TwoHeads()
    runs = []
    model.lstm.register_forward_pre_hook(lambda *_: runs.append("lstm"))
    model.block.register_forward_pre_hook(lambda *_: runs.append("block"))
    both = channel("block.0", 0) + channel("stem", 1)
    explain.maximize(model, objective=both, shape=(1, 4, 6, 6), steps=3)
    assert runs == ["block", "lstm"] + ["block"] * 5


def test_a_unit_at_the_centre_moves_its_receptive_field_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1)).double()
    options = {"shape": (1, 5, 7, 9), "parametrization": "pixel", "transforms": "none"}
    start, end = (explain.maximize(model, objective=unit("0", 1), steps=steps, **options).clips for steps in (1, 9))
    moved = (start - end).abs()[0, 0] > 1e-9
    field = torch.zeros(5, 7, 9, dtype=torch.bool)
    field[1:4, 2:5, 3:6] = True
    assert torch.equal(moved, field)


@pytest.mark.parametrize(("regulariser", "weight"), [(total_variation, 20.0), (flicker, 20.0), (contrast, 20.0)])
def test_a_regulariser_lowers_what_it_measures(nets, regulariser, weight):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Conv3d(2, 2, 3))
    plain = explain.maximize(model, "2", 1, shape=(1, 6, 9, 9), steps=60)
    calm = explain.maximize(model, "2", 1, shape=(1, 6, 9, 9), steps=60, objective=-weight * regulariser())

    def measured(result):
        return regulariser().value(Seen(clips=result.clips, maps={}, outputs={})).item()

    assert measured(calm) < 0.5 * measured(plain)
    assert calm.units == (1,)


def test_a_unit_that_relu_silences_is_woken_beside_a_regulariser_too(nets):
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.Conv3d(2, 1, 1), nn.ReLU(), nn.Conv3d(1, 1, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(-0.8)  # silent on anything but almost white
        model[2].weight.fill_(1.0)
        model[2].bias.fill_(0.0)
    result = explain.maximize(model, "3", 0, shape=(1, 4, 8, 8), steps=100, objective=-0.01 * contrast())
    assert result.activation.item() > 0.05


def test_copies_begin_elsewhere_and_diversity_drives_them_apart(nets):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 2, 3))
    options = {"shape": (1, 6, 9, 9), "steps": 40, "copies": 3}
    alike = explain.maximize(model, "2", [0, 1], **options)
    assert alike.units == (0, 0, 0, 1, 1, 1)
    assert not torch.allclose(alike.clips[0], alike.clips[1])
    apart = explain.maximize(model, objective=channel("2", 1) + 2 * diversity("0"), **options)
    assert apart.units == ("2/1 + 2 diversity in 0",) * 3

    def likeness(clips):
        maps = model[0](clips).detach()
        return -diversity("0").value(Seen(clips=clips, maps={"0": maps}, outputs={})).mean().item()

    assert likeness(apart.clips) < likeness(alike.clips[3:]) - 0.05


def test_what_cannot_be_maximised_is_refused(nets, model):
    with pytest.raises(UsageError, match="a layer and units of it, or an objective"):
        explain.maximize(model)
    with pytest.raises(UsageError, match="asks nothing of the model"):
        explain.maximize(model, objective=total_variation())
    with pytest.raises(UsageError, match="name it"):
        explain.maximize(model, units=[1], objective=logit("speed"))
    with pytest.raises(UsageError, match="added to each"):
        explain.maximize(model, "block", 0, objective=[flicker(), contrast()])
    with pytest.raises(UsageError, match="expected objectives"):
        explain.maximize(model, objective="block/0")
    with pytest.raises(UsageError, match='or "all"'):
        explain.maximize(model, "block", "some")
    with pytest.raises(UsageError, match=r"channel\('block', 0\)`, or --layer block --unit 0"):
        explain.maximize(model, objective=logit("block/0"))
    folded = nets.FoldedFrames()
    folded.zoo_entry = nets.entry("NTCHW", channels="RGB", frames=3, size=(6, 6))
    folded.conv = nn.Conv2d(3, 3, 3, padding=1)
    with pytest.raises(ModelError, match="one by one"):
        explain.maximize(folded, objective=diversity("conv"), copies=2)
    with pytest.raises(UsageError, match="positive number"):
        explain.maximize(model, "block", 0, learning_rate=0.0)
    with pytest.raises(ModelError, match="cannot be raised"):
        explain.maximize(model, objective=float("inf") * channel("block", 0))
