import math
from itertools import pairwise

import pytest
import torch

from zoo.errors import UsageError
from zoo_motion_mnist import motion


@pytest.fixture(scope="module")
def labels():
    return torch.arange(40) % 10


@pytest.fixture(scope="module")
def blot():
    """One image: a bright square of 12 pixels right of the centre, and a small one above it."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[:, 8:20, 8:20] = 255
    image[:, 2:5, 12:16] = 255
    return image


def draw(labels, count=2_000, seed=0, **arguments):
    return motion.draw(count, labels, generator=torch.Generator().manual_seed(seed), **arguments)


def one(**values):
    """A single clip whose digit is in the middle, upright and of its own size, but for `values`."""
    rest = {"zoom": 0.0, "rotation": 0.0, "translation": (0.0, 0.0), "size": 1.0, "angle": 0.0, "place": (0.0, 0.0)}
    told = {name: torch.tensor([value], dtype=torch.float64) for name, value in {**rest, **values}.items()}
    index = torch.zeros(1, dtype=torch.int64)
    return motion.Parameters(image=index, digit=index, present=torch.zeros(1, 9, dtype=torch.bool), **told)


def centre(frame):
    """Column and row of the centre of mass, from the frame's centre."""
    line = torch.arange(64, dtype=torch.float64) - 31.5
    frame = frame.double()
    return float((frame.sum(0) * line).sum() / frame.sum()), float((frame.sum(1) * line).sum() / frame.sum())


def angle(frame):
    """Where the small square is, seen from the large one: degrees clockwise from the top."""
    return math.degrees(math.atan2(*(centre(frame)[axis] * sign for axis, sign in ((0, 1), (1, -1)))))


def test_each_clip_shows_one_motion_and_all_as_often(labels):
    drawn = draw(labels, 9_000)
    assert (drawn.present.sum(1) == 1).all()
    assert drawn.present.sum(0).min() > 850


def test_rates_are_in_their_ranges_and_zero_for_all_other_motions(labels):
    drawn = draw(labels)
    shows = dict(zip(motion.MOTIONS, drawn.present.unbind(1), strict=True))
    rates = {"zoom": drawn.zoom, "rotation": drawn.rotation, "translation": drawn.translation.abs().amax(1)}
    for kind, (slowest, fastest) in motion.RATES.items():
        moving = torch.stack([shows[name] for name in motion.KINDS[kind]]).any(0)
        assert (rates[kind][~moving] == 0).all()
        assert rates[kind][moving].abs().min() >= slowest
        assert rates[kind][moving].abs().max() <= fastest
    assert (drawn.zoom[shows["zoom in"]] > 0).all()
    assert (drawn.rotation[shows["clockwise"]] > 0).all()
    assert (drawn.translation[shows["right"], 0] > 0).all()
    assert (drawn.translation[shows["down"], 1] > 0).all()
    assert (drawn.translation[shows["up"], 1] < 0).all()


def test_several_motions_at_once_are_at_most_one_of_each_kind(labels):
    drawn = draw(labels, several=True)
    for kind in ("zoom", "rotation", "translation"):
        assert drawn.present[:, [motion.MOTIONS.index(name) for name in motion.KINDS[kind]]].sum(1).max() == 1
    assert drawn.present.sum(1).max() == 3
    assert torch.equal(drawn.present[:, -1], (drawn.present[:, :-1].sum(1) == 0))
    assert 0.1 < ((drawn.zoom != 0) & (drawn.rotation != 0) & (drawn.translation != 0).any(1)).double().mean() < 0.5


@pytest.mark.parametrize("several", [False, True])
def test_only_the_motions_asked_for_are_shown(labels, several):
    drawn = draw(labels, motions=("left", "right", "clockwise"), several=several)
    shown = {name for name, any_ in zip(motion.MOTIONS, drawn.present.any(0).tolist(), strict=True) if any_}
    assert shown == {"left", "right", "clockwise"} | ({"still"} if several else set())


@pytest.mark.parametrize("motions", [(), ("sideways",)])
def test_motions_that_do_not_exist_are_refused(labels, motions):
    with pytest.raises(UsageError, match="expected some of zoom in"):
        draw(labels, motions=motions)


def test_more_distinct_clips_than_digits_are_refused(labels):
    assert len(draw(labels, count=len(labels), distinct=True)) == len(labels)
    with pytest.raises(UsageError, match="digits are there"):
        draw(labels, count=len(labels) + 1, distinct=True)


def test_a_digit_moves_right_and_down_by_its_rate(blot):
    clip = motion.render(blot, one(translation=(1.5, 0.75)))[0, 0]
    for first, second in pairwise(clip):
        x, y = (b - a for a, b in zip(centre(first), centre(second), strict=True))
        assert (x, y) == pytest.approx((1.5, 0.75), abs=0.05)


def test_a_digit_turns_clockwise_by_its_rate(blot):
    clip = motion.render(blot, one(rotation=6.0))[0, 0]
    turned = [angle(frame) for frame in clip]
    assert [b - a for a, b in pairwise(turned)] == pytest.approx([6.0] * 15, abs=0.6)


def test_a_digit_grows_by_its_rate(blot):
    clip = motion.render(blot, one(zoom=0.04))[0, 0].double()
    mass = clip.sum((1, 2))
    assert (mass.diff() > 0).all()
    assert math.log(mass[-1] / mass[0]) == pytest.approx(2 * 0.04 * 15, rel=0.02)


def test_in_the_middle_of_a_clip_it_has_the_place_and_angle_drawn(blot):
    told = one(translation=(1.0, 0.0), rotation=4.0, place=(5.0, -3.0), angle=20.0)
    clip = motion.render(blot, told, frames=15)[0, 0]
    shift = one(place=(5.0, -3.0), angle=20.0)
    assert torch.equal(clip[7], motion.render(blot, shift, frames=1)[0, 0, 0])


def test_a_motion_played_backwards_is_its_opposite(blot):
    forth = motion.render(blot, one(zoom=0.03, rotation=5.0, translation=(1.0, -0.5), size=1.1, angle=10.0))
    back = motion.render(blot, one(zoom=-0.03, rotation=-5.0, translation=(-1.0, 0.5), size=1.1, angle=10.0))
    assert torch.equal(forth.flip(2), back)


def test_the_same_seed_draws_the_same_clips(labels, blot):
    first, second = draw(labels, 5, seed=3), draw(labels, 5, seed=3)
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in motion.Parameters.__slots__)
    assert not torch.equal(first.angle, draw(labels, 5, seed=4).angle)


def test_the_fixed_clips_are_fixed(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    images, parameters = motion.fixed_set("test", 20)
    clips = motion.render(images, parameters)
    assert clips.shape == (20, 1, 16, 64, 64)
    assert clips.dtype == torch.uint8
    assert torch.equal(clips[:5], motion.render(*motion.fixed_set("test", 5)))
    assert len(motion.fixed_set("test")[1]) == 10_000
    assert sorted(motion.fixed_set("test")[1].image.tolist()) == list(range(10_000))
    with pytest.raises(UsageError, match="1 to 10,000"):
        motion.fixed_set("test", 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_clips_painted_on_a_gpu_differ_by_rounding_alone(labels, blot):
    images = blot.repeat(40, 1, 1)
    drawn = draw(labels, 20)
    on_cpu, on_gpu = motion.render(images, drawn).int(), motion.render(images.cuda(), drawn).cpu().int()
    assert (on_cpu - on_gpu).abs().max() <= 1


def test_half_speed_is_half_of_every_rate_and_twice_as_many_frames(blot):
    drawn = draw(torch.zeros(1, dtype=torch.int64), 9)
    slow = motion.at_speed(drawn, 0.5)
    for name in ("zoom", "rotation", "translation"):
        assert torch.equal(getattr(slow, name), getattr(drawn, name) / 2)
    for name in ("size", "angle", "place", "present", "image"):
        assert torch.equal(getattr(slow, name), getattr(drawn, name))
    # An odd number of frames has those of the clip itself among them: ..., -1, -0.5, 0, 0.5, 1, ...
    assert torch.equal(motion.render(blot, slow, frames=31)[:, :, 1::2], motion.render(blot, drawn, frames=15))
