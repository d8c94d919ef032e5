import itertools

import captum.attr
import pytest
import torch

import explain
from explain.attribution.occlusion import MOST_WINDOWS, default_blocks, window_count
from explain.reporting.topics.faithfulness import BLOCKS, SHORT_BLOCKS
from zoo.errors import UsageError


def slow_occlusion(score, batch, baseline, window, stride):
    """Every block, one by one, as the definition reads: N x C x T x H x W, the mean over the blocks on a place."""
    total, count = torch.zeros_like(batch), torch.zeros_like(batch)
    whole = score(batch)
    starts = []
    for size, block, step in zip(batch.shape[2:], window, stride, strict=True):
        places = list(range(0, size - block + 1, step))
        starts.append(places if places[-1] == size - block else [*places, places[-1] + step])
    for corner in itertools.product(*starts):
        cut = (slice(None), slice(None), *(slice(at, at + block) for at, block in zip(corner, window, strict=True)))
        covered = batch.clone()
        covered[cut] = baseline
        total[cut] += (whole - score(covered)).view(-1, 1, 1, 1, 1)
        count[cut] += 1
    return total / count


def test_of_a_linear_model_is_the_weighted_sum_over_the_block(nets):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    result = explain.attribute(model, batch, method="occlusion", target=0, window=(2, 3, 5), stride=(2, 3, 5))
    products = (model.weight[0].detach() * batch).sum(dim=1)
    blocks = products.unflatten(1, (2, 2)).unflatten(3, (2, 3)).sum(dim=(2, 4, 5))
    assert torch.allclose(result.map[:, ::2, ::3, 0], blocks)


def test_equals_the_definition_with_overlap_and_a_baseline(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 5, 6, 6)
    window, stride = (2, 4, 3), (1, 3, 2)

    def score(x):
        with torch.no_grad():
            return model(x)["digit"][:, 2]

    result = explain.attribute(
        model, batch, method="occlusion", target="digit:2", window=window, stride=stride, baseline=0.4
    )
    expected = slow_occlusion(score, batch, 0.4, window, stride)
    assert torch.allclose(result.raw, expected, atol=1e-9)
    assert torch.allclose(result.map, expected[:, 0], atol=1e-9)


def test_equals_captum(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    expected = captum.attr.Occlusion(lambda x: model(x)["speed"]).attribute(
        batch, sliding_window_shapes=(1, 2, 3, 3), strides=(1, 2, 3, 3)
    )
    result = explain.attribute(model, batch, method="occlusion", target="speed", window=(2, 3, 3), stride=(2, 3, 3))
    assert torch.allclose(result.raw, expected, atol=1e-12)


def test_time_before_channels_covers_the_same_blocks(nets):
    folded, batch = nets.FoldedFrames(), torch.randn(2, 5, 2, 6, 6)
    folded.zoo_entry = nets.entry("NTCHW")
    plain = torch.nn.Module()
    plain.forward = lambda x: folded(x.transpose(1, 2))
    options = {"method": "occlusion", "target": 1, "window": (2, 3, 4), "stride": (1, 2, 2)}
    ours = explain.attribute(folded, batch, **options)
    assert torch.allclose(ours.map, explain.attribute(plain, batch.transpose(1, 2), **options).map)


@pytest.mark.parametrize(
    "extent", [(16, 112, 112), (48, 64, 64), (1, 224, 224), (2, 8, 8), (300, 400, 30), (8, 6, 6), (9, 7, 7), (1, 1, 1)]
)
def test_default_blocks_are_at_most_300_and_show_time(extent):
    window, stride = default_blocks(extent)
    counts = [
        window_count((size,), (block,), (step,)) for size, block, step in zip(extent, window, stride, strict=True)
    ]
    assert window_count(extent, window, stride) <= MOST_WINDOWS == 300
    assert counts[0] >= min(extent[0], 4)
    assert all(1 <= step <= block <= size for size, block, step in zip(extent, window, stride, strict=True))


@pytest.mark.parametrize("extent", [(16, 112, 112), (48, 64, 64), (2, 8, 8), (3, 224, 8)])
@pytest.mark.parametrize(("most", "in_time"), [BLOCKS, SHORT_BLOCKS, (8, 4), (8, 8), (11, 2), (300, 8)])
def test_few_blocks_part_time_rows_and_columns_all_the_same(extent, most, in_time):
    window, stride = default_blocks(extent, most, in_time)
    assert window_count(extent, window, stride) <= most
    assert all(block < size for size, block in zip(extent, window, strict=True))


def test_blocks_that_would_leave_pixels_out_are_refused(nets):
    with pytest.raises(UsageError, match="stride 3"):
        explain.attribute(
            nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method="occlusion", window=(2, 2, 2), stride=(3, 1, 1)
        )
    with pytest.raises(UsageError, match="along T"):
        explain.attribute(nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method="occlusion", window=(5, 2, 2))


def test_a_window_alone_moves_by_half_of_itself(nets):
    result = explain.attribute(nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method="occlusion", window=(2, 4, 1))
    assert result.settings["stride"] == (1, 2, 1)
