import platform
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from zoo import devices

ALLOCATE = """
import resource, sys
import torch
from zoo import devices

if "keep" in sys.argv:
    devices.keep_freed_memory()
def allocate(times):
    for _ in range(times):
        torch.ones(2**23)

allocate(40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments):
    """Pages mapped while tensors of 32 MB are made and freed ten times, in a process that has done so for a while."""
    command = [sys.executable, "-c", ALLOCATE, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_memory_is_kept_where_asked():
    assert faults("keep") < 8_192  # one tensor's pages


def weight_gradient(kind):
    """Of a 3D convolution over 64 clips whose own gradients nearly cancel, as they do near a minimum."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 8, 3, 3, 3, generator=draw).div(15).bfloat16().to(kind).requires_grad_()
    clips = torch.rand(64, 8, 4, 8, 8, generator=draw).bfloat16().to(kind)
    upstream = torch.randn(64, 8, 1, 1, 1, generator=draw)
    upstream = (upstream - upstream.mean(0) + 0.02).expand(clips.shape).bfloat16().to(kind)
    return torch.autograd.grad(F.conv3d(clips, weight, padding=1), weight, upstream)[0].double()


def test_a_cpu_without_bfloat16_of_its_own_would_sum_weight_gradients_in_it():
    if devices.has_bfloat16(torch.device("cpu")):
        pytest.skip("this CPU computes bfloat16 itself")
    exact = weight_gradient(torch.float64)
    rounded = weight_gradient(torch.float32).bfloat16().double()
    assert (rounded - exact).norm() < 0.005 * exact.norm()
    assert (weight_gradient(torch.bfloat16) - exact).norm() > 0.01 * exact.norm()


def test_without_onednn_a_cpu_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not devices.has_bfloat16(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpus_with_bfloat16_are_known():
    assert devices.has_bfloat16(torch.device("cuda")) == (torch.cuda.get_device_capability() >= (8, 0))
