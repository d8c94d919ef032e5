"""The same seed gives the same bytes, under the conditions that `explain.attribute` states."""

from __future__ import annotations

import pytest

#: Prints a hash of each method's raw values, as a process with so much free memory makes them.
CODE = """
import hashlib, sys
import torch
import explain
from explain.model import memory

torch.set_num_threads(1)
memory.free_memory = lambda device: int(sys.argv[1])
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(3))
batch = torch.rand(3, 1, 6, 12, 12)
model(batch)
torch.manual_seed(int(sys.argv[2]))
for name in sys.argv[4:]:
    found = explain.attribute(model, batch, method=name, target=1, batch_size=int(sys.argv[3]), seed=7)
    print(name, hashlib.sha256(found.raw.numpy().tobytes() + found.time.numpy().tobytes()).hexdigest())
"""
METHODS = (
    "smooth_grad",
    "gradient_shap",
    "rise",
    "integrated_gradients",
    "occlusion",
    "shapley_sampling",
    "frame_order",
)


@pytest.fixture
def bytes_of(preloaded):
    def run(*arguments):
        """What a process of its own prints."""
        done = preloaded(*arguments, *METHODS, code=CODE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_one_batch_size_and_number_of_threads_give_the_same_bytes(bytes_of):
    expected = bytes_of(2**34, 1, 4)
    assert len(set(expected.split())) == 2 * len(METHODS)
    assert bytes_of(2**34, 2, 4) == expected  # whatever was drawn before
    assert bytes_of(2**22, 1, 4) == expected  # whatever is free
