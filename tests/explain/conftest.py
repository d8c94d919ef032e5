"""Networks with the habits that make explaining hard, a fingerprint of all that must stay as found, and a browser."""

import hashlib
import os
import random
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from zoo.entries import InputSpec, ModelEntry, OutputSpec

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class LinearClips(nn.Module):
    """N x C x T x H x W to N x 2: two weighted sums."""

    def __init__(self, shape=(2, 4, 6, 5)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, *shape))

    def forward(self, x):
        return torch.einsum("ncthw,kcthw->nk", x, self.weight)


class QuadraticClips(nn.Module):
    """N x C x T x H x W to N x 1: the sum of a x^2."""

    def __init__(self, shape=(1, 3, 4, 4)):
        super().__init__()
        self.a = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        return (self.a * x.square()).flatten(1).sum(dim=1, keepdim=True)


class PooledLinear(nn.Module):
    """3-D convolution, global average, linear: Grad-CAM is its class activation map over T'H'W'."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3, padding=1)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        return self.head(self.conv(x).mean(dim=(2, 3, 4)))


class TwoHeads(nn.Module):
    """3-D convolutions with in-place ReLU and residual sum, BatchNorm, LSTM, two heads: 1 channel, any T, H, W."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4))
        self.relu = nn.ReLU(inplace=True)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.digit = nn.Linear(5, 3)
        self.speed = nn.Linear(5, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.running_mean, 0.0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
                nn.init.normal_(module.bias, 0.0, 0.3)

    def forward(self, x):
        y = self.stem(x)
        y = self.relu(self.block(y) + y)
        states, _ = self.lstm(y.mean(dim=(3, 4)).transpose(1, 2))
        last = self.drop(states[:, -1])
        return {"digit": self.digit(last), "speed": self.speed(last)}


class Rectified(TwoHeads):
    """The same with a mean over time where the LSTM was: ReLUs and max pooling are all that is not linear."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.Sequential(nn.MaxPool1d(2), nn.Conv1d(4, 5, 1))

    def forward(self, x):
        y = self.stem(x)
        y = self.relu(self.block(y) + y)
        last = self.drop(self.lstm(y.mean(dim=(3, 4))).mean(dim=2))
        return {"digit": self.digit(last), "speed": self.speed(last)}


class FoldedFrames(nn.Module):
    """N x T x C x H x W: a 2-D convolution on frames folded into the batch, then an average over all frames."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        y = self.conv(x.flatten(0, 1)).relu()
        return self.head(y.unflatten(0, x.shape[:2]).mean(dim=(1, 3, 4)))


class FoldedTimeFirst(FoldedFrames):
    """The same network, frames folded in the other order: all samples' first frames, then all second ones."""

    def forward(self, x):
        y = self.conv(x.transpose(0, 1).flatten(0, 1)).relu()
        return self.head(y.unflatten(0, (x.shape[1], x.shape[0])).mean(dim=(0, 3, 4)))


class FrameByFrame(FoldedFrames):
    """The same network, its convolution called once for each frame."""

    def forward(self, x):
        frames = [self.conv(x[:, time]).relu() for time in range(x.shape[1])]
        return self.head(torch.stack(frames, dim=1).mean(dim=(1, 3, 4)))


def entry(layout="NCTHW", outputs=(), **spec):
    """A catalogue entry for a network of these tests."""
    given = {"channels": "L", "frames": 4, "size": (6, 6), "layout": layout, **spec}
    return ModelEntry(
        name="test", builder="tests:none", summary="", parameters=0, input=InputSpec(**given), outputs=outputs
    )


DIGIT_AND_SPEED = (
    OutputSpec(name="digit", kind="classes", labels=("zero", "one", "two")),
    OutputSpec(name="speed", kind="value", unit="pixels per frame"),
)


def fingerprint(model):
    """Everything explaining could disturb, of a model and of the process, as text that compares equal."""

    def digest(tensor):
        return None if tensor is None else hashlib.sha256(tensor.detach().cpu().numpy().tobytes()).hexdigest()

    lines = [
        (name, id(value), digest(value), value.requires_grad, id(value.grad), digest(value.grad))
        for name, value in model.named_parameters()
    ]
    lines += [(name, id(value), digest(value)) for name, value in model.named_buffers()]
    for name, module in model.named_modules():
        attributes = vars(module)
        hooks = [(key, list(value.items())) for key, value in attributes.items() if key.endswith("_hooks") and value]
        plain = {key: value for key, value in attributes.items() if isinstance(value, bool | int | float | str)}
        lines.append((name, sorted(attributes), plain, str(hooks)))
    cudnn = torch.backends.cudnn
    lines.append((cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.is_grad_enabled()))
    lines.append((digest(torch.get_rng_state()), random.getstate(), str(np.random.get_state())))  # noqa: NPY002
    return lines


@pytest.fixture
def nets():
    """The networks and tools above; seeded, float64, so that closed forms hold to rounding."""
    torch.manual_seed(0)
    with torch.random.fork_rng():
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        yield types.SimpleNamespace(
            LinearClips=LinearClips,
            QuadraticClips=QuadraticClips,
            PooledLinear=PooledLinear,
            TwoHeads=TwoHeads,
            Rectified=Rectified,
            FoldedFrames=FoldedFrames,
            FoldedTimeFirst=FoldedTimeFirst,
            FrameByFrame=FrameByFrame,
            DIGIT_AND_SPEED=DIGIT_AND_SPEED,
            entry=entry,
            fingerprint=fingerprint,
        )
        torch.set_default_dtype(previous)


@pytest.fixture(scope="session")
def chromium():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; say where it is with CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    places = [os.environ.get("AXE_CORE"), Path(__file__).parents[2] / "node_modules" / "axe-core"]
    for place in filter(None, places):
        script = Path(place) if str(place).endswith(".js") else Path(place) / "axe.min.js"
        if script.is_file():
            return script.read_text(encoding="utf-8")
    pytest.skip("axe-core is not here; `npm install axe-core`, or say where it is with AXE_CORE")
