"""One small network, and the forms in which users bring it: every attribution method is tried on each of them."""

import copy
import typing
import warnings

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

FRAMES, SIZE = 4, 12


class Plain(nn.Module):
    """3-D convolutions, ReLUs, a residual sum, max pooling, a mean, a linear layer: N x 1 x 4 x 12 x 12 to N x 3."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv3d(4, 4, 3, padding=1)
        self.last = nn.ReLU()
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = self.relu(self.first(x))
        y = self.last(y + self.second(y))
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class InPlace(Plain):
    """Modifies what autograd has saved: ReLU's result, and a sum."""

    def forward(self, x):
        y = torch.relu(self.first(x))
        z = self.second(y)
        y += z
        y = torch.relu(y)
        kept = y * 1.0
        y *= 0.0
        y += kept
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class Split(Plain):
    """Rectifies frame by frame, in place, in views that unbind gave."""

    def forward(self, x):
        y = self.relu(self.first(x))
        y = y + self.second(y)
        for frame in y.unbind(2):
            frame.relu_()
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class Checkpointed(Plain):
    """Runs its blocks again in the backward pass instead of keeping what they computed."""

    reentrant = True

    def forward(self, x):
        y = checkpoint(lambda given: self.relu(self.first(given)), x, use_reentrant=self.reentrant)
        y = checkpoint(lambda given: self.last(given + self.second(given)), y, use_reentrant=self.reentrant)
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class CheckpointedAnew(Checkpointed):
    """The same, in the way that torch recommends."""

    reentrant = False


class Functional(Plain):
    """Calls functions where the plain one has modules, under other names."""

    def forward(self, x):
        y = self.first(x).clip(min=0)
        y = F.threshold(y + self.second(y), 0.0, 0.0)
        return self.head(F.max_pool3d(y, (1, 2, 2)).mean(dim=(2, 3, 4)))


class Named(typing.NamedTuple):
    """Two outputs."""

    digit: torch.Tensor
    speed: torch.Tensor


class NamedOutputs(Plain):
    """Gives a named tuple."""

    def forward(self, x):
        output = super().forward(x)
        return Named(output, output[:, :1])


def _made_under_inference_mode(plain):
    with torch.inference_mode():
        return copy.deepcopy(plain)


def _exported(plain):
    # The program's module refuses train() and eval(), and its guards any other number of samples.
    example = torch.rand(2, 1, FRAMES, SIZE, SIZE)
    dynamic = ({0: torch.export.Dim("samples")},)
    with torch.no_grad():
        return torch.export.export(plain, (example,), dynamic_shapes=dynamic, strict=False).module()


def _torchscript(make):
    def made(plain):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return make(plain)

    return made


def _as(kind):
    def made(plain):
        odd = kind().eval()
        odd.load_state_dict(plain.state_dict())
        return odd

    return made


#: Name of the form to what makes it of the plain network.
FORMS = {
    "made under inference_mode": _made_under_inference_mode,
    "in place": _as(InPlace),
    "in place in views": _as(Split),
    "checkpointed, reentrant": _as(Checkpointed),
    "checkpointed": _as(CheckpointedAnew),
    "functional": _as(Functional),
    "named outputs": _as(NamedOutputs),
    "scripted": _torchscript(torch.jit.script),
    "frozen": _torchscript(lambda plain: torch.jit.freeze(torch.jit.script(plain))),
    "traced": _torchscript(lambda plain: torch.jit.trace(plain, torch.rand(2, 1, FRAMES, SIZE, SIZE))),
    "exported": _exported,
}


def plain():
    """The plain network, its weights drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain().eval()


def batch():
    """Two clips."""
    return torch.rand(2, 1, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
