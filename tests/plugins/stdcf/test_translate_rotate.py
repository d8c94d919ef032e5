import math

import pytest
import torch

from zoo.errors import UsageError
from zoo_stdcf import translate_rotate


def draw(count=500, digits=40, seed=0, **arguments):
    labels = torch.arange(digits) % 10
    return translate_rotate.draw(count, labels, generator=torch.Generator().manual_seed(seed), **arguments)


def one(places, velocities=((0.0, 0.0), (0.0, 0.0)), images=(0, 1)):
    """A single clip with these centres in the first frame."""
    index = torch.tensor([images])
    told = [torch.tensor([value], dtype=torch.float64) for value in (places, velocities)]
    return translate_rotate.Parameters(image=index, digit=index, place=told[0], velocity=told[1])


@pytest.fixture
def bar_and_nothing():
    """A bar upwards from the centre of the image, and an empty image."""
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    images[0, 4:14, 12:16] = 255
    return images


def centre(frame):
    """Column and row of the centre of mass, in pixels from the left and the top."""
    line = torch.arange(28, dtype=torch.float64) + 0.5
    frame = frame.double()
    return float((frame.sum(0) * line).sum() / frame.sum()), float((frame.sum(1) * line).sum() / frame.sum())


def test_places_speeds_and_directions_fill_their_ranges():
    drawn = draw(4_000)
    assert drawn.image.shape == drawn.digit.shape == (4_000, 2)
    assert torch.equal(drawn.digit, drawn.image % 10)
    assert drawn.place.min() >= 0
    assert drawn.place.max() <= 28
    assert drawn.place.mean().item() == pytest.approx(14, abs=0.3)
    speed = drawn.velocity.norm(dim=-1)
    slowest, fastest = translate_rotate.SPEEDS
    assert slowest <= speed.min() < slowest + 0.01
    assert fastest - 0.01 < speed.max() <= fastest
    assert drawn.velocity.mean((0, 1)).abs().max() < 0.1


def test_the_same_seed_draws_the_same_and_distinct_digits_come_once():
    assert torch.equal(draw(seed=3).place, draw(seed=3).place)
    assert not torch.equal(draw(seed=3).place, draw(seed=4).place)
    assert draw(20, distinct=True).image.flatten().unique().numel() == 40
    with pytest.raises(UsageError, match="21 clips of 2 distinct digits: 40 digits are there"):
        draw(21, distinct=True)


def test_centres_move_evenly_and_turn_back_at_the_border():
    walk = translate_rotate.centres(one(((14.0, 20.0), (1.0, 27.0)), ((3.0, 0.0), (-2.0, 3.5))))[0]
    assert walk[0, :, 0].tolist() == [14, 17, 20, 23, 26, 27, 24, 21]
    assert walk[0, :, 1].tolist() == [20] * 8
    assert walk[1, :, 0].tolist() == [1, 1, 3, 5, 7, 9, 11, 13]
    assert walk[1, :, 1].tolist() == [27, 25.5, 22, 18.5, 15, 11.5, 8, 4.5]
    drawn = draw(2_000)
    places = translate_rotate.centres(drawn, frames=40)
    assert places.min() >= 0
    assert places.max() <= 28
    steps = places.diff(dim=2).norm(dim=-1)
    assert (steps <= drawn.velocity.norm(dim=-1)[..., None] + 1e-9).all()


def test_a_digit_is_painted_where_its_centre_is_in_its_own_size(bar_and_nothing):
    frames = translate_rotate.render(bar_and_nothing, one(((14.0, 14.0), (0.0, 0.0))), frames=1)
    assert torch.equal(frames[0, 0, 0], bar_and_nothing[0])
    frames = translate_rotate.render(bar_and_nothing, one(((19.0, 16.0), (0.0, 0.0))), frames=1)
    assert torch.equal(frames[0, 0, 0, 2:, 5:], bar_and_nothing[0, :-2, :-5])


def test_digits_turn_clockwise_by_45_degrees_a_frame(bar_and_nothing):
    (clip,) = translate_rotate.render(bar_and_nothing, one(((14.0, 14.0), (14.0, 14.0))))
    assert clip.shape == (1, 8, 28, 28)
    for number, frame in enumerate(clip[0]):
        x, y = centre(frame)
        assert math.degrees(math.atan2(x - 14, 14 - y)) % 360 == pytest.approx(45 * number, abs=1)
        assert math.hypot(x - 14, y - 14) == pytest.approx(5, abs=0.1)


def test_where_digits_overlap_the_brighter_is_seen(bar_and_nothing):
    grey = torch.stack((bar_and_nothing[0], torch.full((28, 28), 100, dtype=torch.uint8)))
    (clip,) = translate_rotate.render(grey, one(((14.0, 14.0), (14.0, 14.0))), frames=1)
    assert torch.equal(clip[0, 0], torch.maximum(grey[0], grey[1]))


def test_clips_are_the_same_painted_together_or_in_parts(bar_and_nothing):
    drawn = draw(7, digits=2)
    whole = translate_rotate.render(bar_and_nothing, drawn)
    assert whole.shape == (7, 1, 8, 28, 28)
    assert whole.dtype == torch.uint8
    assert torch.equal(whole, translate_rotate.render(bar_and_nothing, drawn, chunk=3))
    assert torch.equal(whole[2:4], translate_rotate.render(bar_and_nothing, drawn[2:4]))


def test_fixed_clips_are_10000_of_20000_training_digits_and_5000_of_all_test_digits(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    images, train = translate_rotate.fixed_set("train")
    assert images.shape == (60_000, 28, 28)
    assert train.image.flatten().unique().numel() == 2 * len(train) == 20_000
    images, test = translate_rotate.fixed_set("test")
    assert images.shape == (10_000, 28, 28)
    assert test.image.flatten().unique().numel() == 2 * len(test) == 10_000
    _, first = translate_rotate.fixed_set("test", 3)
    assert torch.equal(first.velocity, test.velocity[:3])
    with pytest.raises(UsageError, match="1 to 5,000 can be measured"):
        translate_rotate.fixed_set("test", 5_001)
    with pytest.raises(UsageError, match="expected train or test"):
        translate_rotate.fixed_set("validation")
