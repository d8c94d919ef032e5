"""ConvLSTM against a plain cell, forward and backward: `python benchmarks/convlstm.py [--device cuda]`.

The plain cell runs both convolutions of every frame inside the loop over time and leaves its gradients to autograd.
Measured: the cell of 32 channels on 8 x 8 maps, 48 frames, batch 4; and the whole network `convlstm`. On a GPU ours
runs as CUDA graphs (`torch.cuda.make_graphed_callables`), the plain one as anyone would run it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from timing import milliseconds
from torch import Tensor, nn

from zoo import devices
from zoo_spatiotemporal_mnist import networks
from zoo_spatiotemporal_mnist.convlstm import ConvLSTM


class PlainConvLSTM(ConvLSTM):
    """The same equations and parameters, frame by frame."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the states of all frames: N x incoming x T x H x W to N x channels x T x H/stride x W/stride."""
        state = memory = None
        states = []
        for frame in x.unbind(2):
            gates = self.of_input(frame)
            if state is None:
                state = memory = torch.zeros_like(gates[:, : gates.shape[1] // 4])
            incoming, kept, outgoing, candidate = (gates + self.of_state(state)).chunk(4, dim=1)
            memory = kept.sigmoid() * memory + incoming.sigmoid() * candidate.tanh()
            state = outgoing.sigmoid() * memory.tanh()
            states.append(state)
        return torch.stack(states, dim=2)


def plain(network: nn.Module) -> nn.Module:
    """Return the same network with plain cells."""
    for part in network.modules():
        if isinstance(part, ConvLSTM):
            part.__class__ = PlainConvLSTM
    return network


def compare(title: str, build: Callable[[], nn.Module], x: Tensor, repeats: int) -> None:
    """Print both times and their ratio, once the outputs are found to be equal."""
    torch.manual_seed(0)
    ours = build().to(x.device)
    theirs = plain(build().to(x.device))
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(_tensor(ours(x)), _tensor(theirs(x)), rtol=1e-3, atol=1e-4)
    fast = torch.cuda.make_graphed_callables(ours, (x,)) if x.is_cuda else ours
    calls = {"plain": lambda: _tensor(theirs(x)).sum().backward(), "ours": lambda: _tensor(fast(x)).sum().backward()}
    found = milliseconds(calls, x.device.type, repeats, title)
    ratio = found["plain"] / found["ours"]
    print(f"{title}: plain {found['plain']:.1f} ms, ours {found['ours']:.1f} ms, {ratio:.2f} times as fast")


def _tensor(output: Tensor | dict[str, Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else torch.cat(list(output.values()), dim=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args().device
    torch.backends.cudnn.allow_tf32 = False  # TF32 convolutions are not float32, and differ by algorithm
    devices.keep_freed_memory()  # as `zoo train` does, for both alike
    print(f"{device}, {torch.get_num_threads()} CPU threads, float32, 48 frames, forward and backward, medians")
    cell = torch.randn(4, 32, 48, 8, 8, device=device, requires_grad=True)
    compare("cell, 32 channels, 8 x 8, batch 4", lambda: ConvLSTM(32, 32), cell, 30)
    clips = torch.rand(4, 1, 48, 64, 64, device=device, requires_grad=True)
    compare("network convlstm, batch 4", lambda: networks.build(design="convlstm").eval(), clips, 4)
