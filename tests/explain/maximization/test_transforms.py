import math

import pytest
import torch

from explain.maximization.transforms import TRANSFORMS, compose, find_transform, jitter, rotation, scale
from zoo.errors import UnknownNameError, UsageError


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def picture(rows=33, columns=41):
    """A smooth clip, so that interpolation costs little: 2 x 1 x 2 x rows x columns."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
    clip = torch.stack([torch.exp(-8 * ((x - 0.2) ** 2 + (y + 0.1) ** 2)), torch.exp(-9 * (x**2 + (y - 0.2) ** 2))])
    return clip.double().expand(2, 1, 2, rows, columns).clone()


def resampled(clip, matrix):
    """Slow: output at pixel p from the input at matrix @ p about the centre, bilinear; what lies outside is nan."""
    rows, columns = clip.shape[-2:]
    out = torch.full_like(clip, math.nan)
    for row in range(rows):
        for column in range(columns):
            y, x = row - (rows - 1) / 2, column - (columns - 1) / 2
            v = matrix[0][0] * y + matrix[0][1] * x + (rows - 1) / 2
            u = matrix[1][0] * y + matrix[1][1] * x + (columns - 1) / 2
            top, left = math.floor(v), math.floor(u)
            if top in range(rows - 1) and left in range(columns - 1):
                a, b = v - top, u - left
                out[..., row, column] = (
                    (1 - a) * (1 - b) * clip[..., top, left]
                    + (1 - a) * b * clip[..., top, left + 1]
                    + a * (1 - b) * clip[..., top + 1, left]
                    + a * b * clip[..., top + 1, left + 1]
                )
    return out


def test_jitter_moves_all_clips_alike_by_a_frame_and_a_sixteenth_at_most():
    clips = torch.zeros(2, 1, 5, 32, 48)
    clips[:, :, 2, 16, 24] = 1
    seen = set()
    for seed in range(200):
        moved = jitter()(clips, seeded(seed))
        assert torch.equal(moved[0], moved[1])
        seen.add(tuple(moved[0, 0].nonzero()[0].tolist()))
    times, rows, columns = (sorted(set(values)) for values in zip(*seen, strict=True))
    assert times == [1, 2, 3]
    assert rows == list(range(14, 19))
    assert columns == list(range(21, 28))


def test_jitter_leaves_single_frames_and_small_images_where_they_are():
    clips = torch.rand(1, 3, 1, 8, 8)
    assert torch.equal(jitter()(clips, seeded(0)), clips)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_scale_enlarges_about_the_centre(factor):
    clip = picture()
    found = scale(factor, factor)(clip, seeded(0))
    expected = resampled(clip, [[1 / factor, 0], [0, 1 / factor]])
    inside = ~expected.isnan()
    assert inside.double().mean() > 0.5
    assert torch.allclose(found[inside], expected[inside], atol=1e-12)


def test_rotation_turns_about_the_centre():
    clip = picture()
    drawn = 2 * float(torch.rand((), generator=seeded(1), dtype=torch.float64)) - 1
    angle = math.radians(20) * drawn
    assert abs(angle) > 0.05
    found = rotation(20)(clip, seeded(1))
    expected = resampled(clip, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inside = ~expected.isnan()
    inside[..., :6, :] = inside[..., -6:, :] = inside[..., :6] = inside[..., -6:] = False  # shears come round there
    assert (found - expected)[inside].abs().max() < 0.02
    assert (clip - expected)[inside].abs().max() > 0.08


@pytest.mark.parametrize("name", TRANSFORMS)
def test_clips_change_alike_alone_and_together_within_range_with_true_gradients(name):
    clips = torch.rand(3, 3, 4, 16, 18, generator=seeded(1), dtype=torch.float64)
    together = TRANSFORMS[name](clips, seeded(7))
    assert together.shape == clips.shape
    assert together.min() >= 0
    assert together.max() <= 1
    assert torch.allclose(TRANSFORMS[name](clips[1:2], seeded(7))[0], together[1], atol=1e-15)
    assert torch.equal(TRANSFORMS[name](clips, seeded(7)), together)
    small = clips[:1, :1, :2, :5, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: TRANSFORMS[name](x, seeded(3)), small)


def test_even_grey_stays_what_it_is():
    grey = torch.full((1, 1, 2, 9, 12), 0.5, dtype=torch.float64)
    for name, transform in TRANSFORMS.items():
        assert torch.allclose(transform(grey, seeded(2)), grey, atol=1e-12), name


def test_transforms_compose_in_their_order():
    def double(clips, generator):
        return 2 * clips

    def shift(clips, generator):
        return clips + torch.rand((), generator=generator)

    clips = torch.zeros(1, 1, 1, 2, 2)
    first, second = (float(torch.rand((), generator=g)) for g in [seeded(5)] * 2)
    found = compose(shift, double, shift)(clips, seeded(5))
    generator = seeded(5)
    first, second = (float(torch.rand((), generator=generator)) for _ in range(2))
    assert torch.allclose(found, torch.full_like(clips, 2 * first + second))
    assert torch.equal(find_transform([shift, double, shift])(clips, seeded(5)), found)
    assert torch.equal(find_transform([])(clips, seeded(5)), clips)


def test_what_no_transform_is_is_refused():
    with pytest.raises(UnknownNameError, match="'rotation'"):
        find_transform(["jitter", "rotate"])
    with pytest.raises(UsageError, match="lower one first"):
        scale(1.1, 0.9)
    with pytest.raises(UsageError, match="0 to 45"):
        rotation(90)
