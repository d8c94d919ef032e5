import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN

METHODS = [method.name for method in BUILT_IN]
FAST = {"n_steps": 8, "window": (2, 4, 4), "n_samples": 40, "layer": "2"}
#: Four parts of a clip of 4 x 8 x 8: early and late, above and below.
FAST["feature_mask"] = (2 * (torch.arange(4) // 2)[:, None] + torch.arange(8) // 4)[:, :, None].expand(4, 8, 8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv3d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d((2, 2, 2)),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def clip():
    """A bright block that moves over a dim ramp, rounded as 16 bits round it."""
    batch = torch.linspace(0, 0.5, 8).expand(1, 1, 4, 8, 8).clone()
    for time in range(4):
        batch[..., time, 2:5, time : time + 3] = 2.0
    return batch.bfloat16().float()


def likeness(options, method, device):
    """Of a method's map in 16 bits to that in 32 bits, as a cosine; weights that 16 bits hold."""
    if method == "supervoxel_occlusion":
        pytest.importorskip("skimage")
    model, batch = network().bfloat16().float(), clip()
    exact = explain.attribute(model, batch, method=method, target=0, **options)
    half = explain.attribute(
        model.bfloat16().to(device), batch.bfloat16().to(device), method=method, target=0, **options
    )
    assert half.raw.dtype == half.map.dtype == half.time.dtype == half.target.value.dtype == torch.float32
    assert half.delta is None or half.delta.dtype == torch.float32
    assert exact.raw.abs().max() > 0
    return torch.cosine_similarity(exact.raw.flatten(), half.raw.cpu().flatten(), dim=0)


@pytest.mark.parametrize("method", METHODS)
def test_maps_in_bfloat16_resemble_those_in_float32(having, method):
    assert likeness(having(method, FAST), method, "cpu") > 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_maps_in_bfloat16_on_a_gpu_resemble_those_in_float32(having, method):
    assert likeness(having(method, FAST), method, f"cuda:{torch.cuda.device_count() - 1}") > 0.99
