import pytest
import torch

from explain.maximization.parametrizations import GAIN, PARAMETRIZATIONS, SPREAD, fourier2d, fourier3d

LIKE = torch.empty(0, dtype=torch.float64)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (1, 1, 8, 8), (2, 4, 1, 3)])
def test_clips_begin_as_almost_even_grey_in_range_and_can_be_optimised(name, shape):
    parametrization = PARAMETRIZATIONS[name](shape, [1, 2], LIKE)
    clips = parametrization.clips()
    assert clips.shape == (2, *shape)
    assert (clips - 0.5).abs().max() < 0.25
    assert not torch.equal(clips[0], clips[1])
    assert parametrization.values.is_leaf
    assert torch.autograd.grad(clips.sum(), parametrization.values)[0].isfinite().all()


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_a_clip_depends_on_its_own_seed_alone(name):
    both = PARAMETRIZATIONS[name]((1, 4, 6, 6), [1, 2], LIKE).clips()
    assert torch.equal(PARAMETRIZATIONS[name]((1, 4, 6, 6), [2], LIKE).clips()[0], both[1])


def test_the_spectrum_of_an_image_falls_as_one_over_the_frequency():
    signal = torch.logit(fourier3d((1, 1, 16, 16), range(300), LIKE).clips().detach())[:, 0, 0]
    power = torch.fft.fftn(signal, dim=(1, 2), norm="ortho").abs().square().mean(dim=0)
    for row, column in [(0, 1), (1, 2), (3, 4), (7, 6)]:
        frequency = torch.tensor([row / 16, column / 16]).norm().item()
        amplitude = (power[row, column] / (2 * (GAIN * SPREAD) ** 2)).sqrt().item()
        assert amplitude * frequency == pytest.approx(1.0, rel=0.15)


def test_the_spectrum_of_a_film_falls_as_one_over_the_frequency_to_one_and_a_half_in_time_and_space():
    size = (8, 16, 16)
    parametrization = fourier3d((1, *size), range(200), LIKE)
    signal = torch.logit(parametrization.clips().detach())[:, 0]
    power = torch.fft.fftn(signal, dim=(1, 2, 3), norm="ortho").abs().square().mean(dim=0)

    def at(time, row, column):
        frequency = torch.tensor([time / 8, row / 16, column / 16]).norm()
        return (power[time, row, column] / (2 * (GAIN * SPREAD) ** 2)).sqrt().item() * frequency.item() ** 1.5

    for place in [(1, 0, 1), (0, 1, 2), (2, 3, 4), (3, 5, 5), (1, 7, 6)]:
        assert at(*place) == pytest.approx(1.0, rel=0.15)


def test_a_still_is_one_frame_s_spectrum_shown_in_every_frame():
    still = fourier2d((2, 5, 6, 8), [1, 2], LIKE)
    image = fourier3d((2, 1, 6, 8), [1, 2], LIKE)
    assert torch.equal(still.values, image.values)
    assert torch.equal(still.clips(), image.clips().expand(-1, -1, 5, -1, -1))
    assert still.values[0].numel() * 5 == fourier3d((2, 5, 6, 8), [1], LIKE).values[0].numel()
    (gradient,) = torch.autograd.grad(still.clips()[:, :, 3].sum(), still.values)
    assert torch.allclose(gradient, torch.autograd.grad(image.clips().sum(), image.values)[0])


@pytest.mark.parametrize("name", ["pixel", "fourier3d", "fourier2d"])
@pytest.mark.parametrize("size", [(1, 5, 7, 9), (3, 4, 6, 8), (3, 1, 8, 8)])
def test_clips_begin_where_they_are_told(name, size):
    drawn = torch.rand(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = drawn.mean(dim=1, keepdim=True).expand(size) if name == "fourier2d" else drawn
    made = PARAMETRIZATIONS[name](size, [0, 1], torch.zeros(1, dtype=torch.float64), colour=size[0] == 3)
    made.begin(drawn)
    assert torch.allclose(made.clips(), drawn.clamp(0.02, 0.98).expand(2, *size), atol=1e-6)
    assert made.values.requires_grad
