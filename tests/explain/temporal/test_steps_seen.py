"""Steps whose slices read nothing but padding count in no statistics, drawing or list."""

import pytest
import torch
from torch import nn

import explain
from explain.drawing import motion as drawing
from explain.reporting.topics.motion import rows, summary
from explain.temporal import tables
from explain.temporal.motions import most_moving
from explain.temporal.reading import _slices_seen


def brute_force(layer, frames):
    """Slices that change the output of a clip of ones."""
    clip = torch.ones(1, 1, frames, 5, 5)
    with torch.no_grad():
        before = layer(clip)
        seen = []
        for one in range(layer.kernel_size[0]):
            kept = layer.weight.clone()
            layer.weight[:, :, one] += 1
            seen.append(not torch.equal(layer(clip), before))
            layer.weight.copy_(kept)
    return seen


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "window",
    [
        {"padding": 1},
        {"padding": 1, "stride": 2},
        {"padding": (2, 1, 1), "dilation": (2, 1, 1)},
        {"padding": (3, 1, 1), "stride": (4, 1, 1)},
        {"padding": "same", "dilation": (3, 1, 1)},
        {"padding": 1, "padding_mode": "replicate"},
    ],
    ids=str,
)
def test_slices_that_see_data_are_those_that_change_the_output(window, frames):
    layer = nn.Conv3d(1, 2, 3, **window)
    positions = layer(torch.ones(1, 1, frames, 5, 5)).shape[2]
    assert _slices_seen(layer, frames, positions).tolist() == brute_force(layer, frames)


def test_a_layer_that_pads_in_its_own_way_counts_all_its_slices():
    layer = nn.Conv3d(1, 2, 3)
    assert _slices_seen(layer, 1, 1).all()  # a layer without padding has no position for one frame


class Pooled(nn.Module):
    """A second layer that one frame reaches."""

    def __init__(self, motion):
        super().__init__()
        planted = motion.motions(4, motion.draw)
        self.early = motion.convolution(motion.moved(motion.smooth(4, 4, 5, motion.draw), planted), padding=(1, 2, 2))
        self.late = motion.convolution(motion.moved(motion.smooth(4, 4, 5, motion.draw), planted), padding=(1, 2, 2))

    def forward(self, clip):
        return self.late(self.early(clip).mean(dim=2, keepdim=True))


def test_steps_that_see_no_data_count_in_nothing(motion):
    model = Pooled(motion).double()
    found = explain.temporal_parameters(model, input_shape=(1, 4, 6, 8, 8))
    assert found.steps_seen == {"early": 2, "late": 0}
    alone = explain.temporal_parameters(model, "early")
    assert alone.steps_seen == {"early": None}
    told, expected = found.statistics(), alone.statistics()
    assert (told.motions, told.unseen) == (8, 8)
    assert told.parameters == expected.parameters
    assert (told.identified, told.r2, told.r2_still) == (expected.identified, expected.r2, expected.r2_still)
    assert len(drawing.spreads(found).size) == len(drawing.spreads(alone).size)
    assert {one.layer for one in most_moving(found.layers.values(), 99)} == {"early"}
    assert summary(found)["unseen_filters"] == 4
    assert [row["filters"] for row in rows(found)] == ["4 of 8", "4", "0 of 4"]
    assert [line[3] for line in tables.absolute_table(found)[1]] == ["4 of 8", "4", "0 of 4"]
    late = found.layers["late"].statistics()
    assert (late.motions, late.identified, late.r2) == (0, 0, None)


def test_what_is_seen_is_kept_in_files(motion, tmp_path):
    found = explain.temporal_parameters(Pooled(motion).double(), input_shape=(1, 4, 6, 8, 8))
    found.save(tmp_path / "kept")
    assert explain.TemporalParameters.load(tmp_path / "kept").steps_seen == found.steps_seen


@pytest.mark.parametrize(("known", "headline"), [(1, False), (3, True)])
def test_there_is_no_headline_where_few_steps_are_identified(motion, known, headline):
    found = explain.temporal_parameters(Pooled(motion).double(), "early")
    layer = found.layers["early"]
    layer.identified[:] = False
    layer.identified.flatten()[:known] = True
    assert summary(found)["headline"] is headline  # of eight
