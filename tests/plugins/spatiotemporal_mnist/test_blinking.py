import hashlib
import math

import pytest
import torch

from zoo_spatiotemporal_mnist import blinking


@pytest.fixture(scope="module")
def digits():
    """Forty images of noise without a black pixel, and their classes."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(1, 256, (40, 28, 28), generator=generator, dtype=torch.uint8)
    return images, torch.arange(40) % 10


@pytest.fixture(scope="module")
def drawn(digits):
    return blinking.draw(3_000, digits[1], generator=torch.Generator().manual_seed(1))


def test_the_orders_are_those_of_the_paper():
    assert blinking.ORDER_LABELS == ("1-2-3-4", "1-2-4-3", "1-4-2-3", "1-4-3-2", "1-3-2-4", "1-3-4-2")


def test_speeds_and_periods_are_the_pairs_that_move_less_than_50_pixels():
    assert set(blinking.PAIRS) == {(s, v) for s in range(1, 7) for v in range(1, 13) if s * v < 50}
    assert len(blinking.PAIRS) == 65
    assert max(v for s, v in blinking.PAIRS if s == 6) == 8
    assert max(v for s, v in blinking.PAIRS if s == 4) == 12


def test_pairs_orders_digits_and_starts_are_drawn_uniformly(drawn):
    count = len(drawn)
    pair = torch.tensor(
        [blinking.PAIRS.index(p) for p in zip(drawn.speed.tolist(), drawn.period.tolist(), strict=True)]
    )
    for values, classes in ((pair, 65), (drawn.order, 6), (drawn.digit, 10), (drawn.position[:, 0, 0], 37)):
        seen = values.bincount(minlength=classes).double()
        statistic = float(((seen - count / classes) ** 2).sum() / (count / classes))
        assert statistic < classes - 1 + 5 * math.sqrt(2 * (classes - 1))


@pytest.mark.parametrize("period", range(1, 13))
def test_a_digit_is_visible_in_every_vth_frame_beginning_with_the_first(drawn, period):
    visible = drawn.visible[drawn.period == period]
    expected = torch.tensor([t % period == 0 for t in range(48)])
    assert len(visible)
    assert (visible == expected).all()


@pytest.mark.parametrize("order", range(6))
def test_visible_frames_show_the_quadrants_in_the_clips_order_again_and_again(drawn, order):
    sequence = [int(quadrant) - 1 for quadrant in blinking.ORDER_LABELS[order].split("-")]
    for clip in (drawn.order == order).nonzero().flatten()[:40].tolist():
        shown = drawn.quadrant[clip][drawn.visible[clip]].tolist()
        assert shown == [sequence[k % 4] for k in range(len(shown))]
        assert (drawn.quadrant[clip][~drawn.visible[clip]] == -1).all()


def walk(start: float, speed: float, frames: int) -> list[float]:
    """One coordinate, moved frame by frame and turned round at 0 and 36."""
    where, found = start, [start]
    for _ in range(frames - 1):
        where += speed
        while not 0 <= where <= 36:
            where, speed = (-where if where < 0 else 72 - where), -speed
        found.append(where)
    return found


@pytest.mark.parametrize("speed", [-6.0, -2.5, -0.3, 0.0, 0.7, 3.0, 5.9])
def test_walls_reflect_a_digit_as_walking_frame_by_frame_does(speed):
    free = 11 + speed * torch.arange(200, dtype=torch.float64)
    expected = torch.tensor(walk(11.0, speed, 200), dtype=torch.float64)
    torch.testing.assert_close(blinking.reflect(free, 36), expected)


@pytest.mark.parametrize("speed", range(1, 7))
def test_a_digit_moves_s_pixels_a_frame_between_walls(drawn, speed):
    position = drawn.position[drawn.speed == speed].double()
    assert position.min() == 0
    assert position.max() == 36
    free = ((position > 6) & (position < 30)).all(-1)
    unturned = free.unfold(1, 5, 1).all(-1)  # four moves on, far from every wall
    moved = (position[:, 4:] - position[:, :-4]).norm(dim=-1)[unturned]
    assert len(moved) > 0 or speed == 6  # at 24 pixels in four frames hardly anything stays free
    assert (moved - 4 * speed).abs().max() <= math.sqrt(2) if len(moved) else True
    steps = position.diff(dim=1).norm(dim=-1)
    assert steps.max() <= speed + math.sqrt(2)


def slowly(images, clip, masked):
    """Figure 1 pixel by pixel."""
    frames = torch.zeros(1, 1, len(clip.visible[0]), 64, 64, dtype=torch.uint8)
    for t in range(frames.shape[2]):
        if not clip.visible[0, t]:
            continue
        top, left = clip.position[0, t].tolist()
        quadrant = int(clip.quadrant[0, t])
        for i in range(28):
            for j in range(28):
                if not masked or (i // 14) * 2 + j // 14 == quadrant:
                    frames[0, 0, t, top + i, left + j] = images[clip.image[0], i, j]
    return frames


@pytest.mark.parametrize("masked", [True, False])
def test_rendering_paints_what_the_parameters_say(digits, masked):
    generator = torch.Generator().manual_seed(4)
    parameters = blinking.draw(4, digits[1], generator=generator, frames=9, pairs=[(2, 1), (5, 2), (3, 4)])
    clips = blinking.render(digits[0], parameters, masked=masked)
    assert clips.shape == (4, 1, 9, 64, 64)
    assert clips.dtype == torch.uint8
    for k in range(4):
        assert torch.equal(clips[k : k + 1], slowly(digits[0], parameters[k : k + 1], masked))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(digits):
    def clips(seed):
        generator = torch.Generator().manual_seed(seed)
        return blinking.render(digits[0], blinking.draw(8, digits[1], generator=generator))

    before = torch.get_rng_state()
    assert torch.equal(clips(5), clips(5))
    assert not torch.equal(clips(5), clips(6))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_keeps_its_bytes_from_version_to_version():
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (9, 28, 28), generator=generator, dtype=torch.uint8)
    drawn = blinking.draw(16, torch.arange(9), generator=generator)
    found = [
        hashlib.sha256(blinking.render(images, drawn, masked=masked).numpy().tobytes()).hexdigest()[:16]
        for masked in (True, False)
    ]
    assert found == ["040f1d264dfa9e44", "fb588120d9ad4fcc"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_device_gives_the_same_bytes(digits, drawn):
    on_cpu = blinking.render(digits[0], drawn[:50])
    assert torch.equal(blinking.render(digits[0].cuda(), drawn[:50]).cpu(), on_cpu)


def test_an_excerpt_keeps_the_rhythm_and_the_order_of_its_clip(digits):
    generator = torch.Generator().manual_seed(2)
    drawn = blinking.draw(300, digits[1], generator=generator, frames=24, late_start=True)
    for k in range(300):
        shown = drawn.visible[k].nonzero().flatten()
        assert (shown.diff() == drawn.period[k]).all()
        sequence = blinking.ORDERS[drawn.order[k]]
        quadrants = drawn.quadrant[k][shown].tolist()
        turn = sequence.index(quadrants[0])
        assert quadrants == [sequence[(turn + i) % 4] for i in range(len(quadrants))]
    assert (~drawn.visible[:, 0]).any()


def test_distinct_clips_use_no_image_twice(digits):
    drawn = blinking.draw(40, digits[1], generator=torch.Generator().manual_seed(0), distinct=True)
    assert drawn.image.sort().values.tolist() == list(range(40))


def test_labels_have_the_shapes_of_the_heads(drawn):
    labels = drawn.labels()
    assert labels["digit"].shape == labels["order"].shape == (3_000,)
    assert labels["speed"].shape == (3_000, 1)
    assert labels["speed"].dtype == torch.float32


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


def test_the_fixed_clips_are_fixed(mnist):
    images, parameters = blinking.fixed_set("test", 20)
    clips = blinking.render(images, parameters)
    assert clips.shape == (20, 1, 48, 64, 64)
    assert torch.equal(clips, blinking.render(*blinking.fixed_set("test", 30))[:20])
    assert not torch.equal(clips, blinking.render(*blinking.fixed_set("validation", 20)))
    told = (parameters.image, parameters.digit, parameters.order, parameters.speed, parameters.period)
    assert torch.stack(told, 1)[:3].tolist() == [[6189, 8, 0, 2, 8], [480, 1, 1, 1, 3], [4875, 6, 3, 5, 2]]


@pytest.mark.parametrize(("split", "count"), [("test", 10_000), ("validation", 5_000)])
def test_every_digit_of_a_split_is_in_one_fixed_clip(mnist, split, count):
    images, parameters = blinking.fixed_set(split)
    assert len(images) == count
    assert sorted(parameters.image.tolist()) == list(range(count))
    pairs = torch.stack((parameters.speed, parameters.period), 1).unique(dim=0, return_counts=True)[1]
    assert len(pairs) == len(blinking.PAIRS)
    assert pairs.min() > count / len(blinking.PAIRS) / 2
