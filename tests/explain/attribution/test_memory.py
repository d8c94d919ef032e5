import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import explain
from explain.attribution.methods import BUILT_IN
from zoo.errors import MemoryLimitError

METHODS = [method.name for method in BUILT_IN]
FAST = {"n_steps": 8, "window": (2, 3, 3), "stride": (2, 3, 3), "n_samples": 18}
FAST["feature_mask"] = torch.arange(4)[:, None, None].expand(4, 6, 6)


class Memory(TorchDispatchMode):
    """Counts the bytes of living tensors, and runs out of them at a limit."""

    def __init__(self, limit=float("inf")):
        super().__init__()
        self.limit, self.peak, self.refused, self.living = limit, 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in known:
                storage = one.untyped_storage()
                self.living[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.living = {key: kept for key, kept in self.living.items() if not kept[0].expired()}
        used = sum(size for _, size in self.living.values())
        if used > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError("tried to allocate too much")
        self.peak = max(self.peak, used)
        return result


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 24, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv3d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).eval()


@pytest.mark.parametrize("method", METHODS)
def test_memory_for_one_sample_is_enough_for_many(having, method):
    if method == "supervoxel_occlusion":
        pytest.importorskip("skimage")
    model, batch = network(), torch.randn(7, 1, 4, 6, 6)
    options = {"method": method, "target": 1, "layer": "2", **having(method, FAST)}
    alone = Memory()
    with alone:
        explain.attribute(model, batch[:1], batch_size=1, **options)
    plain = explain.attribute(model, batch, batch_size=1, **options)
    results = 3 * 4 * batch.numel() + 7 * 4 * batch[0].numel() * FAST["n_samples"]  # numbers that a method must keep
    with Memory(alone.peak + results) as limited:
        result = explain.attribute(model, batch, **options)
    assert limited.refused > 0
    assert torch.allclose(result.raw, plain.raw, atol=1e-5)


def test_less_than_one_sample_needs_is_refused_in_words():
    model, batch = network(), torch.randn(2, 1, 4, 6, 6)
    with Memory() as alone:
        explain.attribute(model, batch[:1], method=["saliency", "grad_cam"], layer="2")
    with Memory(alone.peak // 2), pytest.raises(MemoryLimitError, match=r"one sample of .* for saliency, grad_cam"):
        explain.attribute(model, batch, method=["saliency", "grad_cam"], layer="2")
