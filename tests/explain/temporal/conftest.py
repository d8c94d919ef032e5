"""Motion planted in smooth slices by the slow definition, and small layers that can be read."""

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

NAMES = ("scale", "rotation", "translate_x", "translate_y")


def smooth(filters, channels, k, draw, width=None):
    """White noise blurred by a Gaussian of a fifth of a kernel: filters x channels x k x width."""
    sigma, width = max(1.0, k / 5), width or k
    noise = torch.randn(filters * channels, 1, k + 16, width + 16, generator=draw, dtype=torch.float64)
    at = torch.arange(-8, 9, dtype=torch.float64)
    blur = torch.exp(-at.square() / (2 * sigma**2))
    blurred = F.conv2d(F.conv2d(noise, blur.reshape(1, 1, 1, -1)), blur.reshape(1, 1, -1, 1))
    return (blurred / blurred.std()).reshape(filters, channels, k, width)


def motions(filters, draw, steps=2, reach=(0.1, 0.2, 0.25, 0.25)):
    """s, r, tx, ty: 4 x steps x filters."""
    drawn = 2 * torch.rand(4, steps, filters, generator=draw, dtype=torch.float64) - 1
    drawn = drawn * torch.tensor(reach, dtype=torch.float64).reshape(4, 1, 1)
    drawn[0] += 1
    return drawn


def moved(slices, planted):
    """Slice by slice, as the paper writes it: filters x channels x steps + 1 x k x k."""
    found = [slices]
    for scale, turn, x, y in planted.unbind(1):
        cosine, sine = scale * turn.cos(), scale * turn.sin()
        rows = [torch.stack([cosine, -sine, cosine * x - sine * y]), torch.stack([sine, cosine, sine * x + cosine * y])]
        grid = F.affine_grid(torch.stack(rows).permute(2, 0, 1), list(slices.shape), align_corners=True)
        found.append(F.grid_sample(found[-1], grid, align_corners=True))
    return torch.stack(found, dim=2)


class Moving(nn.Module):
    """A layer that says how its filters move: any plugin's, it keeps what it built."""

    def __init__(self, slices, planted):
        super().__init__()
        self.base = nn.Parameter(slices)
        self.planted = nn.Parameter(planted)
        self.kept = None

    def kernel(self):
        self.kept = moved(self.base, self.planted)
        return self.kept

    def temporal_parameters(self):
        return dict(zip(NAMES, self.planted, strict=True))


class Built(nn.Module):
    """A layer with a kernel of its own making that says nothing of its motion."""

    def __init__(self, slices, planted):
        super().__init__()
        self.part = nn.Parameter(moved(slices, planted))

    def kernel(self):
        return 2 * self.part


def convolution(weight, **options):
    """A Conv3d with this weight."""
    filters, channels, *size = weight.shape
    made = nn.Conv3d(channels * options.get("groups", 1), filters, tuple(size), bias=False, **options)
    made.weight = nn.Parameter(weight)
    return made


def read(layer):
    """The four parameters of a layer, or of a fit, in one tensor: 4 x steps x filters."""
    return torch.stack([getattr(layer, name) for name in NAMES])


@pytest.fixture
def motion():
    """The tools above, and a seeded generator."""
    return types.SimpleNamespace(
        NAMES=NAMES,
        Built=Built,
        Moving=Moving,
        convolution=convolution,
        draw=torch.Generator().manual_seed(0),
        motions=motions,
        moved=moved,
        read=read,
        smooth=smooth,
    )
