import pytest
import torch

from zoo.errors import UsageError
from zoo_motion_mnist import motion
from zoo_sequence_convlstm import sequences


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def still(image, frames=1, **values):
    """A sequence whose digit stands upright in the middle, as bright as it is, but for `values`."""
    rest = {"angle": 0.0, "place": (0.0, 0.0), "brightness": 1.0}
    told = {name: torch.tensor(value, dtype=torch.float64) for name, value in {**rest, **values}.items()}
    return sequences.Parameters(
        image=torch.tensor([image]),
        angle=told["angle"].expand(1, frames),
        place=told["place"].expand(1, frames, 2),
        brightness=told["brightness"].expand(1, frames),
    )


def test_walks_are_the_stationary_processes_of_their_roots():
    walks = sequences.walk(40_000, 2, 6, generator=generator())
    assert walks.shape == (40_000, 2, 6)
    flat = walks.flatten(0, 1)
    covariance = flat.T @ flat / len(flat)
    first, second = 0.9 + 0.8, -0.9 * 0.8
    expected = [1.0, first / (1 - second)]  # Yule and Walker's equations
    for _ in range(4):
        expected.append(first * expected[-1] + second * expected[-2])
    for one in range(6):
        for other in range(6):
            assert abs(float(covariance[one, other]) - expected[abs(one - other)]) < 0.02
    shocks = walks[..., 2:] - first * walks[..., 1:-1] - second * walks[..., :-2]
    together = torch.corrcoef(torch.stack((shocks[:, 0, 1], shocks[:, 0, 2], shocks[:, 1, 1], walks[:, 0, 2])))
    assert together[:3, :3].fill_diagonal_(0).abs().max() < 0.02  # neither one another nor other processes
    assert abs(together[0, 3]) < 0.02  # nor what was before them


def test_each_sequence_shows_another_digit_of_the_class():
    labels = torch.arange(60) % 10
    drawn = sequences.draw(6, labels, generator=generator(), digit=6)
    assert sorted(drawn.image.tolist()) == [6, 16, 26, 36, 46, 56]
    assert drawn.angle.shape == drawn.brightness.shape == (6, 16)
    assert drawn.place.shape == (6, 16, 2)
    assert len(drawn[2:4]) == 2
    with pytest.raises(UsageError, match=r"7 sequences of different digits 6: 1 to 6 can be drawn"):
        sequences.draw(7, labels, generator=generator(), digit=6)
    with pytest.raises(UsageError, match="frames must be at least 1"):
        sequences.draw(1, labels, generator=generator(), frames=0)


def test_the_same_seed_draws_and_paints_the_same():
    labels = torch.arange(40) % 10
    images = torch.randint(256, (40, 28, 28), dtype=torch.uint8, generator=generator())

    def made(seed):
        numbers = generator(seed)
        drawn = sequences.draw(3, labels, generator=numbers)
        return sequences.render(images, drawn, generator=numbers)

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))


def test_a_digit_that_rests_is_itself_in_the_middle_and_dimmed_by_its_brightness():
    image = torch.randint(256, (1, 28, 28), dtype=torch.uint8, generator=generator())
    painted = sequences.render(image, still(0, frames=2, brightness=0.5))
    assert painted.shape == (1, 1, 2, 36, 36)
    torch.testing.assert_close(painted[0, 0, 1, 4:32, 4:32], image[0] / 510, rtol=0, atol=1e-5)
    assert not painted[..., :3].any()


def test_digits_move_right_and_down_and_turn_clockwise():
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[0, 4:8, 12:16] = 255  # above the middle
    assert middle(sequences.render(image, still(0, place=(3.0, -2.0)))) == (3, -10)
    assert middle(sequences.render(image, still(0, angle=90.0))) == (8, 0)


def middle(painted):
    """Column and row of the middle of what is bright, from the frame's."""
    rows, columns = (painted[0, 0, 0] > 0.5).nonzero().double().mean(0) - 17.5
    return round(float(columns)), round(float(rows))


def test_noise_is_independent_and_of_its_size_and_nothing_is_cut_off():
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    noise = sequences.render(image, still(0, frames=16), generator=generator(), noise=0.2).flatten()
    assert abs(float(noise.std()) - 0.2) < 0.005
    assert abs(float(noise.mean())) < 0.005
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 0.001
    assert noise.min() < 0


def test_painting_is_shared_with_the_motions():
    assert sequences.FRAME_SIZE != motion.FRAME_SIZE
    image = torch.randint(256, (1, 28, 28), dtype=torch.uint8, generator=generator())
    ones = torch.ones(1, 1, dtype=torch.float64)
    given = {"size": ones, "angle": 33 * ones, "place": torch.tensor([[[2.0, 1.0]]], dtype=torch.float64)}
    small, large = (motion.paint(image, **given, side=side) for side in (36, 64))
    torch.testing.assert_close(small[0, 0, 0], large[0, 0, 0, 14:50, 14:50], rtol=0, atol=0.02)
