import pytest
import torch
from torch import nn

from explain.model.regions import Region
from explain.model.targets import Score, join, resolve, select
from zoo.entries import OutputSpec
from zoo.errors import ModelError, UnknownNameError, UsageError


class Gives(nn.Module):
    """A network that gives what it is told to."""

    def __init__(self, output, outputs=None):
        super().__init__()
        self.output = output
        if outputs is not None:
            self.zoo_entry = type("Entry", (), {"outputs": outputs, "input": None})()

    def forward(self, x):
        return self.output(x)


FILM = torch.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6).double().sqrt()
LOGITS = torch.tensor([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3]])
BATCH = torch.zeros(2, 1, 2, 3, 3)
CAT = OutputSpec(name="animal", labels=("cat", "dog", "a/b:c"))
HEADS = (CAT, OutputSpec(name="speed", kind="value"), OutputSpec(name="film", kind="clip"))


def one_head():
    return Gives(lambda x: LOGITS.clone(), (CAT,))


def three_heads():
    return Gives(
        lambda x: {"speed": torch.tensor([[2.0], [3.0]]), "animal": LOGITS, "film": torch.zeros(2, 1, 2, 3, 3)}, HEADS
    )


@pytest.mark.parametrize(
    ("model", "target", "descriptions", "value"),
    [
        (one_head(), None, ("animal = dog", "animal = cat"), [0.9, 0.5]),
        (one_head(), 2, ("animal = a/b:c",) * 2, [0.0, 0.3]),
        (one_head(), "dog", ("animal = dog",) * 2, [0.9, 0.2]),
        (one_head(), "a/b:c", ("animal = a/b:c",) * 2, [0.0, 0.3]),
        (one_head(), "animal", ("animal = dog", "animal = cat"), [0.9, 0.5]),
        (three_heads(), None, ("animal = dog", "animal = cat"), [0.9, 0.5]),
        (three_heads(), "animal:dog", ("animal = dog",) * 2, [0.9, 0.2]),
        (three_heads(), "animal:a/b:c", ("animal = a/b:c",) * 2, [0.0, 0.3]),
        (three_heads(), "animal:0", ("animal = cat",) * 2, [0.1, 0.5]),
        (three_heads(), "animal:#0", ("animal = cat",) * 2, [0.1, 0.5]),
        (three_heads(), "speed", ("speed",) * 2, [2.0, 3.0]),
        (Gives(lambda x: LOGITS), None, ("output = 1", "output = 0"), [0.9, 0.5]),
        (Gives(lambda x: LOGITS[:, :1]), None, ("output",) * 2, [0.1, 0.5]),
        (Gives(lambda x: LOGITS[:, 0]), "output", ("output",) * 2, [0.1, 0.5]),
        (Gives(lambda x: (LOGITS, LOGITS + 1)), "1:2", ("1 = 2",) * 2, [1.0, 1.3]),
        (Gives(lambda x: {"a": LOGITS, "b": LOGITS[:, :1]}), "b", ("b",) * 2, [0.1, 0.5]),
    ],
)
def test_targets_are_resolved_sample_by_sample(model, target, descriptions, value):
    resolved = resolve(model, BATCH, target)
    assert resolved.descriptions == descriptions
    assert torch.allclose(resolved.value, torch.tensor(value))
    score = Score(model, resolved)
    assert torch.allclose(score(BATCH, torch.arange(2)), torch.tensor(value))


def test_labels_that_are_digits_are_taken_by_label_and_indices_with_a_hash():
    model = Gives(lambda x: LOGITS, (OutputSpec(name="digit", labels=("2", "1", "0")),))
    assert resolve(model, BATCH, "digit:2").classes.tolist() == [0, 0]
    assert resolve(model, BATCH, "digit:#2").classes.tolist() == [2, 2]
    assert resolve(model, BATCH, 2).description == "digit = 0"


def test_the_predicted_class_stays_while_the_input_changes():
    model = Gives(lambda x: LOGITS.roll(int(x.sum() > 0), dims=1), (CAT,))
    resolved = resolve(model, BATCH)
    assert resolved.classes.tolist() == [1, 0]
    score = Score(model, resolved)
    assert torch.allclose(score(BATCH + 1, torch.arange(2)), torch.tensor([0.1, 0.3]))
    assert resolved.description == "animal = dog, animal = cat"


def test_samples_may_come_repeated_and_in_any_order():
    model = Gives(lambda x: x.flatten(1)[:, :3])
    batch = torch.randn(3, 1, 1, 2, 2)
    score = Score(model, resolve(model, batch))
    order = torch.tensor([2, 0, 0, 1])
    expected = batch[order].flatten(1)[:, :3].gather(1, batch.flatten(1)[:, :3].argmax(1)[order][:, None])[:, 0]
    assert torch.equal(score(batch[order], order), expected)


def test_a_unit_is_the_mean_of_its_map_and_what_follows_the_layer_is_not_run(nets):
    model = nets.PooledLinear()
    ran = []
    model.head.register_forward_hook(lambda *_: ran.append(1))
    batch = torch.randn(2, 1, 3, 4, 5)
    resolved = resolve(model, batch, "conv/2")
    assert resolved.description == "conv/2"
    assert len(ran) == 1
    expected = model.conv(batch)[:, 2].mean(dim=(1, 2, 3))
    assert torch.allclose(Score(model, resolved)(batch, torch.arange(2)), expected)
    assert torch.allclose(resolved.value, expected)
    assert len(ran) == 1


def test_a_unit_of_a_layer_that_runs_once_a_frame_is_averaged_over_all_of_them(nets):
    model, batch = nets.FrameByFrame(), torch.randn(2, 5, 2, 6, 6)
    resolved = resolve(model, batch, "conv/1")
    assert resolved.calls == 5
    expected = model.conv(batch.flatten(0, 1))[:, 1].unflatten(0, (2, 5)).mean(dim=(1, 2, 3))
    assert torch.allclose(Score(model, resolved)(batch, torch.arange(2)), expected)


@pytest.mark.parametrize("network", ["FoldedFrames", "FoldedTimeFirst"])
def test_a_unit_of_a_layer_on_folded_frames_is_averaged_over_the_samples_own(nets, network):
    model, batch = getattr(nets, network)(), torch.randn(3, 5, 2, 6, 6)
    resolved = resolve(model, batch, "conv/1")
    expected = model.conv(batch.flatten(0, 1))[:, 1].unflatten(0, (3, 5)).mean(dim=(1, 2, 3))
    assert torch.allclose(resolved.value, expected)
    assert torch.allclose(Score(model, resolved)(batch, torch.arange(3)), expected)


def test_the_highest_activation_of_a_unit_is_read_where_the_unchanged_clip_has_it(nets):
    model, batch = nets.PooledLinear(), torch.randn(3, 1, 4, 5, 6)
    resolved = resolve(model, batch, "conv/2:max")
    maps = model.conv(batch)[:, 2].detach()
    assert resolved.description == "conv/2:max"
    assert torch.equal(resolved.value, maps.amax(dim=(1, 2, 3)))
    for sample, (time, row, column) in enumerate(resolved.positions.tolist()):
        assert maps[sample, time, row, column] == maps[sample].max()
    score, order = Score(model, resolved), torch.tensor([2, 0, 0])
    assert torch.allclose(score(batch, torch.arange(3)), resolved.value)
    changed = torch.randn(3, 1, 4, 5, 6)
    moved = model.conv(changed)[:, 2]
    expected = [moved[(k, *resolved.positions[sample])] for k, sample in enumerate(order)]
    assert torch.allclose(score(changed, order), torch.stack(expected))
    assert not torch.allclose(score(changed, order), moved.amax(dim=(1, 2, 3)))
    assert resolve(model, batch, "conv/2").positions is None


@pytest.mark.parametrize("network", ["FoldedFrames", "FoldedTimeFirst", "FrameByFrame"])
def test_the_highest_activation_is_found_in_frames_folded_or_one_by_one(nets, network):
    model, batch = getattr(nets, network)(), torch.randn(3, 5, 2, 6, 6)
    resolved = resolve(model, batch, "conv/1:max")
    maps = model.conv(batch.flatten(0, 1))[:, 1].unflatten(0, (3, 5))
    assert torch.allclose(resolved.value, maps.amax(dim=(1, 2, 3)))
    assert resolved.positions[:, 0].tolist() == maps.amax(dim=(2, 3)).argmax(dim=1).tolist()
    assert torch.allclose(Score(model, resolved)(batch, torch.arange(3)), resolved.value)


def test_a_unit_that_is_the_same_everywhere_has_no_highest_activation(nets):
    model, batch = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)), torch.rand(2, 1, 3, 4, 4)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1))
        model[0].bias.zero_()
    assert resolve(model, batch, "1/0:max").value.tolist() == batch.amax(dim=(1, 2, 3, 4)).tolist()
    with pytest.raises(ModelError, match=r"unit 1/1 is 0 at each of its 48 positions: .* no highest activation"):
        resolve(model, batch, "1/1:max")
    assert resolve(model, batch, "2/1:max").positions.tolist() == [[0, 0, 0]] * 2  # one position is the highest


@pytest.mark.parametrize(
    ("target", "description", "expected"),
    [
        (None, "output", lambda film: film),
        ("output", "output", lambda film: film),
        ("output[2]", "output[t=2]", lambda film: film[:, :, 2]),
        ("[t=-1, y=1:3]", "output[t=3, y=1:3]", lambda film: film[:, :, 3, 1:3]),
        (Region("output", 1, 2, 3), "output[t=1, y=2, x=3]", lambda film: film[:, :, 1, 2, 3]),
        (Region(x=slice(2, None)), "output[x=2:6]", lambda film: film[..., 2:]),
    ],
)
def test_a_region_of_an_output_clip_is_its_mean_over_all_channels(target, description, expected):
    model = Gives(lambda x: FILM * (1 + x.flatten(1).mean(dim=1).view(-1, 1, 1, 1, 1)))
    resolved = resolve(model, BATCH, target)
    assert resolved.descriptions == (description,) * 2
    wanted = expected(FILM).flatten(1).mean(dim=1)
    assert torch.allclose(resolved.value, wanted)
    order = torch.tensor([1, 0])
    assert torch.allclose(Score(model, resolved)(BATCH + 1, order), 2 * wanted)


def test_a_region_of_an_output_of_one_frame_is_its_mean():
    model = Gives(lambda x: {"animal": LOGITS, "speed": LOGITS[:, :1], "film": FILM[:, :, 0]}, HEADS)
    assert torch.allclose(resolve(model, BATCH, "film").value, FILM[:, :, 0].mean(dim=(1, 2, 3)))
    assert torch.allclose(resolve(model, BATCH, Region(y=4)).value, FILM[:, :, 0, 4].mean(dim=(1, 2)))


def test_the_gradient_of_a_region_is_one_over_its_size_inside_and_zero_outside():
    model, batch = Gives(lambda x: 3 * x), torch.zeros(2, 2, 4, 5, 6, requires_grad=True)
    score = Score(model, resolve(model, batch, "output[1:3, 2]"))(batch, torch.arange(2))
    (gradient,) = torch.autograd.grad(score.sum(), batch)
    expected = torch.zeros_like(gradient)
    expected[:, :, 1:3, 2] = 3 / (2 * 2 * 6)
    assert torch.allclose(gradient, expected)


def test_labels_in_brackets_are_labels():
    model = Gives(lambda x: LOGITS, (OutputSpec(name="animal", labels=("cat", "animal[3]", "[1]")),))
    assert resolve(model, BATCH, "animal[3]").classes.tolist() == [1, 1]
    assert resolve(model, BATCH, "[1]").classes.tolist() == [2, 2]


def test_regions_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match=r"'animal' is no clip \(classes\), so animal\[t=3\] .*or animal:CLASS"):
        resolve(three_heads(), BATCH, "animal[3]")
    with pytest.raises(UsageError, match=r"'speed' is no clip \(value\)"):
        resolve(three_heads(), BATCH, Region("speed", 3))
    with pytest.raises(UsageError, match="frames are 0 to 1"):
        resolve(three_heads(), BATCH, "film[2]")
    with pytest.raises(UsageError, match="'film' is a clip and has no class '2'; its target is 'film'"):
        resolve(three_heads(), BATCH, "film:2")
    with pytest.raises(UsageError, match="'output' is a clip and has no class 2"):
        resolve(Gives(lambda x: x), BATCH, 2)
    with pytest.raises(UsageError, match="no output of the model is a clip"):
        resolve(one_head(), BATCH, Region(t=1))
    with pytest.raises(UnknownNameError, match="unknown output 'fim'; did you mean 'film'"):
        resolve(three_heads(), BATCH, "fim[1]")
    with pytest.raises(
        UnknownNameError, match=r"unknown target 'cat'.*output \(clip, of which 'output\[3\]' is frame 3"
    ):
        resolve(Gives(lambda x: x), BATCH, "cat")
    with pytest.raises(UsageError, match="'output' is 2 x 3 x 3, neither"):
        resolve(Gives(lambda x: x[:, 0, 0]), BATCH)
    with pytest.raises(UsageError, match="'output' is one number for the whole batch, neither"):
        resolve(Gives(lambda x: x.sum()), BATCH)


def test_a_callable_gives_one_number_for_each_sample():
    def margin(output):
        return output["animal"][:, 0] - output["animal"][:, 1]

    resolved = resolve(three_heads(), BATCH, margin)
    assert resolved.description == "margin"
    assert torch.allclose(resolved.value, torch.tensor([-0.8, 0.3]))
    with pytest.raises(UsageError, match="each of the 2 samples"):
        resolve(three_heads(), BATCH, lambda output: output["animal"])
    with pytest.raises(UsageError, match="float"):
        resolve(three_heads(), BATCH, lambda output: 1.0)


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        (three_heads(), "animl", "unknown target 'animl'; did you mean 'animal'"),
        (three_heads(), "animal:dgo", "unknown class of animal 'dgo'; did you mean 'dog'"),
        (three_heads(), "animal:3", r"unknown class of animal '3'.*indices are 0 to 2"),
        (one_head(), "dgo", "did you mean 'dog'"),
        (one_head(), 3, "indices are 0 to 2"),
        (one_head(), -1, "unknown class of animal '-1'"),
        (Gives(lambda x: LOGITS), "dog", "unknown class of output 'dog'"),
    ],
)
def test_names_that_do_not_exist_come_with_near_ones(model, target, message):
    with pytest.raises(UnknownNameError, match=message):
        resolve(model, BATCH, target)


def test_units_and_layers_that_do_not_exist_come_with_near_ones(nets):
    model, batch = nets.PooledLinear(), torch.randn(1, 1, 3, 4, 5)
    with pytest.raises(UnknownNameError, match=r"unknown layer 'cnv'; did you mean 'conv'.*fields MODEL --layers"):
        resolve(model, batch, "cnv/1")
    with pytest.raises(UnknownNameError, match="units are 0 to 2"):
        resolve(model, batch, "conv/3")
    with pytest.raises(UnknownNameError, match="units are 0 to 2"):
        resolve(model, batch, "conv/first")
    with pytest.raises(UnknownNameError, match="units are 0 to 2"):
        resolve(model, batch, "conv/3:max")
    with pytest.raises(UnknownNameError, match="unknown part of a unit 'maxi'; did you mean 'max'"):
        resolve(model, batch, "conv/1:maxi")
    with pytest.raises(UnknownNameError, match="unknown layer 'cnv'; did you mean 'conv'"):
        resolve(model, batch, "cnv/1:max")


def test_targets_that_do_not_say_enough_are_refused():
    with pytest.raises(UsageError, match="write 'animal:1'"):
        resolve(three_heads(), BATCH, 1)
    with pytest.raises(UsageError, match="write 'animal:dog'"):
        resolve(three_heads(), BATCH, "dog")
    with pytest.raises(UsageError, match="has no classes"):
        resolve(three_heads(), BATCH, "speed:1")
    with pytest.raises(UsageError, match=r"not 1\.5"):
        resolve(three_heads(), BATCH, 1.5)
    with pytest.raises(ModelError, match="no tensor can be named"):
        resolve(Gives(lambda x: "nothing"), BATCH)
    with pytest.raises(ModelError, match="3 columns"):
        resolve(Gives(lambda x: LOGITS, (OutputSpec(name="speed", kind="value"),)), BATCH)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_no_number_is_not_explained(value):
    with pytest.raises(ModelError, match="nothing to explain"):
        resolve(Gives(lambda x: x.flatten(1)[:, :2] * value), BATCH, 0)


def test_samples_of_a_target_can_be_picked_and_repeated(nets):
    from explain.model.targets import select

    model, batch = nets.TwoHeads().eval(), torch.randn(3, 1, 4, 6, 6)
    model.register_forward_hook(lambda module, given, output: {**output, "film": 2 * given[0]})
    for wanted in (None, "stem.0/1:max", "speed", Region("film", 1, y=(2, 4))):
        target = resolve(model, batch, wanted)
        picked = select(target, torch.tensor([2, 0, 2]))
        expected = Score(model, target)(batch[[2, 0, 2]], torch.tensor([2, 0, 2]))
        assert torch.allclose(Score(model, picked)(batch[[2, 0, 2]], torch.arange(3)), expected)
        assert torch.equal(picked.value, target.value[[2, 0, 2]])
        assert picked.descriptions == tuple(target.descriptions[at] for at in (2, 0, 2))


class Films(nn.Module):
    """Gives its clip again, wrong by 2 in one block of one frame; in another one of clips with a bright pixel."""

    def __init__(self, *, image=False, frames=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.image, self.frames = image, frames

    def forward(self, x):
        y = self.weight * x
        for sample in range(len(y)):
            at = int(x[sample].max() > 1)
            y[sample, :, 1 + 2 * at, 8:12, 4 + 4 * at : 8 + 4 * at] += 2.0
        return y[:, :, 1] if self.image else y[:, :, : self.frames]


def test_of_an_output_clip_the_part_is_explained_that_is_farthest_from_the_clip(nets):
    model, batch = Films(), torch.rand(2, 1, 5, 16, 16)
    batch[1, :, 0, 0, 0] = 2.0
    found = resolve(model, batch)
    assert found.descriptions == ("output[t=1, y=8:12, x=4:8]", "output[t=3, y=8:12, x=8:12]")
    assert found.against == "the clip"
    expected = torch.stack([batch[0, 0, 1, 8:12, 4:8].mean(), batch[1, 0, 3, 8:12, 8:12].mean()]) + 2
    assert torch.allclose(found.value, expected)
    alone = [resolve(model, batch[:1]), select(found, torch.tensor([1]))]
    assert alone[0].descriptions == found.descriptions[:1]
    assert alone[1].region == found.regions[1]
    with torch.no_grad():
        scores = Score(model, found)(batch, torch.tensor([0, 1]))
        assert torch.allclose(scores, found.value)
    joined = join([select(found, torch.tensor([1])), select(found, torch.tensor([0]))])
    assert joined.regions == found.regions[::-1]


def test_a_map_of_many_samples_explains_the_region_of_each(nets):
    import explain

    model, batch = Films(), torch.rand(2, 1, 5, 16, 16)
    batch[1, :, 0, 0, 0] = 2.0
    found = explain.attribute(model, batch, method="saliency", batch_size=1)
    for at, place in enumerate([(1, slice(8, 12), slice(4, 8)), (3, slice(8, 12), slice(8, 12))]):
        inside = torch.zeros(5, 16, 16, dtype=torch.bool)
        inside[place] = True
        assert bool((found.map[at][inside] > 0).all())
        assert not bool(found.map[at][~inside].any())


def test_a_prediction_is_held_against_what_follows_or_the_last_frame():
    from types import SimpleNamespace

    model, batch = Films(frames=2), torch.zeros(1, 1, 5, 16, 16)
    spec = OutputSpec(name="output", kind="clip", follows=True)
    model.zoo_entry = SimpleNamespace(outputs=(spec,), input=SimpleNamespace(layout="NCTHW"))
    assert resolve(model, batch).against == "the last frame"
    assert resolve(model, batch).description == "output[t=1, y=8:12, x=4:8]"
    truth = torch.zeros(1, 1, 2, 16, 16)
    truth[:, :, 0, 0:4, 12:16] = 9.0
    known = resolve(model, batch, truths={"output": truth})
    assert known.against == "what follows"
    assert known.description == "output[t=0, y=0:4, x=12:16]"


def test_without_anything_to_hold_it_against_a_whole_clip_is_explained():
    model, batch = Films(frames=3), torch.rand(1, 1, 5, 16, 16)
    assert resolve(model, batch).description == "output"
    assert torch.allclose(resolve(model, batch).value, model(batch).flatten(1).mean(1))
    assert resolve(model, batch, "output").description == "output"


def test_none_may_stand_for_another_output(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    assert resolve(model, batch, head="speed").description == "speed"
    assert resolve(model, batch, head="digit").description == resolve(model, batch).description
