"""The definition of a 3TConv kernel, slice by slice, with torch's own sampling."""

import pytest
import torch
import torch.nn.functional as F


def slice_by_slice(base, scale, rotation, translate_x, translate_y):
    slices = [base]
    for s, r, x, y in zip(scale, rotation, translate_x, translate_y, strict=True):
        c, n = r.cos(), r.sin()
        rows = torch.stack((s * c, -s * n, s * (x * c - y * n))), torch.stack((s * n, s * c, s * (x * n + y * c)))
        theta = torch.stack(rows).permute(2, 0, 1)
        grid = F.affine_grid(theta, list(base.shape), align_corners=True)
        slices.append(F.grid_sample(slices[-1], grid, mode="bilinear", padding_mode="zeros", align_corners=True))
    return torch.stack(slices, dim=2)


@pytest.fixture
def definition():
    return slice_by_slice
