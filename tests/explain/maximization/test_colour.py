import torch

from explain.maximization.parametrizations import AXES, PARAMETRIZATIONS, correlated, measure
from zoo import clips

LIKE = torch.empty(0, dtype=torch.float64)


def test_the_matrix_gives_independent_numbers_the_colours_of_the_pictures():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[0.2, 0.0, 0.01], [0.18, 0.05, 0.0], [0.15, -0.04, 0.02]])
    pictures = [
        ((torch.randn(2, 90, 100, 3, generator=generator) @ mixing.T + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        for _ in range(3)
    ]
    found = measure(pictures)
    assert torch.allclose(found.norm(dim=0).max(), torch.ones((), dtype=torch.float64))
    pixels = torch.cat([one.flatten(0, 2) for one in pictures]).double().T
    covariance = torch.cov(pixels)
    again = found @ found.T
    assert torch.allclose(again / again.trace(), covariance / covariance.trace(), atol=1e-4)
    columns = found.T @ found
    assert torch.allclose(columns, columns.diagonal().diag(), atol=1e-12)


def test_the_constant_is_what_real_pictures_measure(test_data):
    def files(folder):
        kinds = clips.IMAGE_SUFFIXES | {".mp4", ".avi"}
        return [file for file in sorted((test_data / folder).iterdir()) if file.suffix.lower() in kinds]

    found = measure(clips.decode(file, frames=8).frames for folder in ("photos", "clips") for file in files(folder))
    assert torch.allclose(found, torch.tensor(AXES, dtype=torch.float64), atol=1e-4)


def test_signals_are_mixed_channel_by_channel():
    signal = torch.randn(2, 3, 2, 4, 5, dtype=torch.float64)
    mixed = correlated(signal)
    place = torch.tensor(AXES, dtype=torch.float64) @ signal[1, :, 1, 2, 3]
    assert torch.allclose(mixed[1, :, 1, 2, 3], place)


def test_every_parametrisation_shows_the_same_numbers_in_the_colours_of_real_pictures():
    for name, make in PARAMETRIZATIONS.items():
        plain, mixed = (make((3, 2, 6, 8), [1, 2], LIKE, colour=colour) for colour in (False, True))
        assert torch.equal(plain.values, mixed.values), name
        signal = torch.logit(plain.clips())
        assert torch.allclose(torch.logit(mixed.clips()), correlated(signal), atol=1e-9), name
