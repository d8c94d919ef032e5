import csv

import pytest
import torch
from PIL import Image
from torch import nn

import explain
from explain.maximization import top_activating
from zoo.clips import Clip
from zoo.errors import ClipError, MemoryLimitError, UnknownNameError, UsageError


class Bright(nn.Module):
    """Unit 0 is the clip halved in time and space, unit 1 its negative."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 2, stride=2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1).expand(2, 1, 2, 2, 2) / 8)

    def forward(self, x):
        return self.layer(x).relu().mean(dim=(2, 3, 4))


@pytest.fixture
def model(nets):
    made = Bright()
    made.zoo_entry = nets.entry("NCTHW", frames=4, size=(8, 8))
    torch.set_default_dtype(torch.float32)  # reading clips asks for it; `nets` sets it back
    return made


def frames(seed, brightness):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(4, 8, 8, 1, generator=generator) * brightness).to(torch.uint8)


CLIPS = [frames(seed, 40 * ((seed * 3) % 7 + 1)) for seed in range(7)]


def slow(by):
    """Every clip's value for unit 0, by the definition."""
    maps = [nn.functional.avg_pool3d(clip.double().permute(3, 0, 1, 2)[None] / 255, 2)[0, 0] for clip in CLIPS]
    return maps, [float(one.mean() if by == "mean" else one.max()) for one in maps]


@pytest.mark.parametrize("by", ["mean", "max"])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_the_most_active_clips_come_first_with_the_place_of_their_highest_value(model, by, batch_size):
    found = explain.top_clips(model, "layer", [0, 1], CLIPS, count=3, by=by, batch_size=batch_size)
    maps, values = slow(by)
    order = sorted(range(7), key=lambda place: -values[place])
    assert found.units == (0, 1)
    assert found.count == 7
    assert [clip.source for clip in found.clips[0]] == [str(place) for place in order[:3]]
    for clip, place in zip(found.clips[0], order, strict=False):
        assert clip.mean == pytest.approx(float(maps[place].mean()))
        assert clip.highest == pytest.approx(float(maps[place].max()))
        assert maps[place][clip.position] == maps[place].max()
        assert clip.place == tuple(2 * at + 1 for at in clip.position)
        assert torch.allclose(clip.map, maps[place])
        assert torch.equal(clip.picture, CLIPS[place][clip.place[0]].permute(2, 0, 1))
    darkest = sorted(range(7), key=lambda place: slow("mean")[1][place])
    if by == "mean":
        assert [clip.source for clip in found.clips[1]] == [str(place) for place in darkest[:3]]


def test_clips_are_streamed_and_no_more_than_the_best_are_kept(model):
    def endless():
        yield from CLIPS
        yield Clip(frames=frames(9, 255).expand(-1, -1, -1, 3), source="named", indices=(0,), total=4, label="seven")

    told = []
    found = explain.top_clips(model, "layer", 0, endless(), count=1, progress=lambda *at: told.append(at))
    assert [(clip.source, clip.label) for clip in found.clips[0]] == [("named", "seven")]
    assert told == []
    explain.top_clips(model, "layer", "all", CLIPS, progress=lambda *at: told.append(at))
    assert told == [(k, 7) for k in range(1, 8)]


def test_a_module_from_elsewhere_takes_batches_of_any_size(nets):
    model = Bright()
    clips = [torch.full((1, 1, 2, size, 4), value) for size, value in ((4, 0.1), (6, 0.9), (4, 0.5))]
    found = explain.top_clips(model, "layer", 0, clips, count=2, batch_size=2)
    assert [clip.source for clip in found.clips[0]] == ["1", "2"]
    with pytest.raises(UsageError, match=r"zoo\.load"):
        explain.top_clips(model, "layer", 0, [CLIPS[0]])
    with pytest.raises(UsageError, match="holds 2"):
        explain.top_clips(model, "layer", 0, [torch.zeros(2, 1, 2, 4, 4)])


def test_only_the_layer_runs_and_the_model_is_left_as_found(model, nets):
    found = nets.fingerprint(model)
    explain.top_clips(model, "layer", 0, CLIPS)
    assert nets.fingerprint(model) == found
    folded = nets.FoldedFrames()
    folded.zoo_entry = nets.entry("NTCHW", channels="RGB", frames=3, size=(6, 6))
    folded.conv = nn.Conv2d(3, 3, 3, padding=1)
    alone = explain.top_clips(folded, "conv", 1, CLIPS, batch_size=1)
    together = explain.top_clips(folded, "conv", 1, CLIPS)
    assert [clip.source for clip in alone.clips[0]] == [clip.source for clip in together.clips[0]]
    assert alone.clips[0][0].map.shape == (3, 6, 6)


def test_fewer_clips_at_once_are_tried_when_memory_runs_out(model):
    sizes = []
    forward = model.layer.forward

    def hungry(x):
        sizes.append(len(x))
        if len(x) > model.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    model.layer.forward = hungry
    model.most = 2
    found = explain.top_clips(model, "layer", 0, CLIPS, batch_size=7)
    assert found.count == 7
    assert max(sizes) == 7
    model.most = 0
    with pytest.raises(MemoryLimitError):
        explain.top_clips(model, "layer", 0, CLIPS)


@pytest.fixture
def folder(tmp_path):
    for place, clip in enumerate(CLIPS):
        kind = tmp_path / ("light" if place % 2 else "dark")
        kind.mkdir(exist_ok=True)
        Image.fromarray(clip[0, :, :, 0].numpy()).save(kind / f"{place}.png")
        Image.fromarray(clip[1, :, :, 0].numpy()).save(tmp_path / f"{place}.png")
    return tmp_path


def test_folders_and_lists_are_read_and_what_is_broken_is_left_out_and_told(model, folder):
    (folder / "0.png").write_bytes(b"no picture")
    found = explain.top_clips(model, "layer", 0, folder, count=20)
    assert found.count >= 6
    ((source, reason),) = found.problems
    assert source.endswith("0.png")
    assert "cannot be read" in reason
    listed = folder / "some.csv"
    with listed.open("w", newline="") as file:
        csv.writer(file).writerows([["1.png", "one"], ["gone.png", "two"]])
    found = explain.top_clips(model, "layer", 0, listed)
    assert [clip.label for clip in found.clips[0]] == ["one"]
    assert len(found.problems) == 1
    with pytest.raises(ClipError, match="none of 1 clips"):
        explain.top_clips(model, "layer", 0, [str(folder / "0.png")])


def test_of_images_alone_each_is_a_clip(model, folder):
    found = explain.top_clips(model, "layer", 0, folder / "light")
    assert found.count == 3
    assert explain.top_clips(model, "layer", 0, folder / "light" / "1.png").count == 1


def test_wildcards_stand_for_samples_and_for_nothing_else(tmp_path):
    assert [name for name, _ in top_activating.named("sample:blinking_mnist/[01]")] == [
        "sample:blinking_mnist/0",
        "sample:blinking_mnist/1",
    ]
    with pytest.raises(UnknownNameError, match=r"\*\.mp4"):
        top_activating.named(tmp_path / "*.mp4")


def test_maps_that_are_not_finite_are_left_out(model):
    clips = [torch.zeros(1, 1, 4, 6, 8), torch.full((1, 1, 4, 6, 8), torch.nan), torch.ones(1, 1, 4, 6, 8)]
    found = explain.top_clips(model, "layer", 0, clips)
    assert [clip.source for clip in found.clips[0]] == ["2", "0"]
    assert found.problems == (("1", "layer 'layer' gives NaN or infinity for it"),)


def test_what_cannot_be_is_refused(model, tmp_path):
    for wrong in ({"count": 0}, {"batch_size": 0}):
        with pytest.raises(UsageError, match="at least one"):
            explain.top_clips(model, "layer", 0, CLIPS, **wrong)
    with pytest.raises(UnknownNameError, match="'mean'"):
        explain.top_clips(model, "layer", 0, CLIPS, by="median")
    with pytest.raises(UnknownNameError, match="'layer'"):
        explain.top_clips(model, "layr", 0, CLIPS)
    with pytest.raises(UnknownNameError, match="units are 0 to 1"):
        explain.top_clips(model, "layer", 2, CLIPS)
    with pytest.raises(UsageError, match="at least one unit"):
        explain.top_clips(model, "layer", [], CLIPS)
    with pytest.raises(UnknownNameError, match="nowhere"):
        explain.top_clips(model, "layer", 0, tmp_path / "nowhere")
    with pytest.raises(ClipError, match="no clip"):
        explain.top_clips(model, "layer", 0, iter([]))
    with pytest.raises(UsageError, match="expected a clip"):
        explain.top_clips(model, "layer", 0, [3])
    with pytest.raises(UsageError, match="in a list"):
        explain.top_clips(model, "layer", 0, CLIPS[0])


def test_a_position_stands_for_the_middle_of_its_share():
    assert top_activating._middle((0, 1, 2), (2, 2, 3), (8, 10, 9)) == (2, 7, 7)
    assert top_activating._middle((0, 0, 0), (1, 1, 1), (1, 4, 5)) == (0, 2, 2)
