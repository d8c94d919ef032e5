"""The families of models that every attribution method is tried on, and which of them refuses which, and why.

`python tests/explain/attribution/families.py` prints the table of docs/methods.md.
"""

import sys

import torch
from torch import nn

from explain.attribution.methods import BUILT_IN
from zoo.entries import InputSpec, ModelEntry

FRAMES, SIZE = 4, 12


def _normalised(model):
    """BatchNorm as after training: no method is right by its being the identity."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0.0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


class Video(nn.Module):
    """3-D convolutions with BatchNorm, in-place ReLU, a residual sum, max pooling, dropout and two heads."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4))
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.drop = nn.Dropout(0.5)
        self.digit, self.speed = nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x):
        y = self.stem(x)
        y = self.pool(self.relu(self.block(y) + y))
        y = self.drop(y.mean(dim=(2, 3, 4)))
        return {"digit": self.digit(y), "speed": self.speed(y)}


class Frames(nn.Module):
    """2-D convolutions on frames folded into the batch, one ReLU module for both, the mean over time."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.relu, self.head = nn.ReLU(), nn.Linear(4, 3)

    def features(self, x):
        y = self.relu(self.norm(self.first(x.flatten(0, 1))))
        return self.relu(self.second(y)).mean(dim=(2, 3)).unflatten(0, x.shape[:2])

    def forward(self, x):
        return self.head(self.features(x).mean(dim=1))


class Recurrent(Frames):
    """The same, with an LSTM over the frames, which are weighted by their place."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        return self.head(self.lstm(self.features(x))[0][:, -1])


class ConvLSTM(nn.Module):
    """A ConvLSTM written by hand: one convolution, run at every time step, and gates."""

    def __init__(self):
        super().__init__()
        self.gates, self.head = nn.Conv2d(1 + 3, 4 * 3, 3, padding=1), nn.Linear(3, 3)

    def forward(self, x):
        hidden = cell = x.new_zeros(len(x), 3, *x.shape[-2:])
        for frame in x.unbind(dim=2):
            take, keep, give, new = self.gates(torch.cat([frame, hidden], dim=1)).chunk(4, dim=1)
            cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
            hidden = give.sigmoid() * cell.tanh()
        return self.head(hidden.mean(dim=(2, 3)))


class Transformer(nn.Module):
    """Blocks of a clip as tokens with places, one layer of attention, and their mean."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv3d(1, 8, (2, 4, 4), stride=(2, 4, 4))
        self.places = nn.Parameter(0.3 * torch.randn(1, 18, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2) + self.places).mean(dim=1))


def _image():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


#: Builder and layout of each family.
FAMILIES = {
    "3D CNN": (Video, "NCTHW"),
    "2D CNN over frames": (Frames, "NTCHW"),
    "LSTM over frames": (Recurrent, "NTCHW"),
    "ConvLSTM": (ConvLSTM, "NCTHW"),
    "video transformer": (Transformer, "NCTHW"),
    "image CNN": (_image, "NCHW"),
}

_NO_GATES = "there is no rule for gates: products of two things that both depend on the clip"
_NO_NORM = "there is no rule for LayerNorm and softmax"
_NO_RELU = "the rule is for ReLU, and none runs, or other activation functions do"
_NO_MAP = "what cuts the clip into patches is the only convolution: name a layer whose output is a map"
_NO_TIME = "an image has no time to change"
_GRAD_CAMS = ("grad_cam", "grad_cam_per_frame", "layer_activation", "layer_gradient_x_activation")
_RULES = ("deep_lift", "deep_lift_shap", "lrp")
_GUIDED = ("guided_backprop", "deconvolution", "guided_grad_cam")

#: Family -> method -> why it refuses, for readers, and a piece of what it says itself. All other cells work.
REFUSED = {
    "3D CNN": {},
    "2D CNN over frames": {},
    "LSTM over frames": dict.fromkeys(_RULES, (_NO_GATES, "gates of recurrent layers")),
    "ConvLSTM": dict.fromkeys(_RULES, (_NO_GATES, "has no rule for it"))
    | dict.fromkeys(_GUIDED, (_NO_RELU, "no ReLU runs")),
    "video transformer": dict.fromkeys(_RULES, (_NO_NORM, "has no rule for it"))
    | dict.fromkeys(_GUIDED[:2], (_NO_RELU, "only for ReLU"))
    | dict.fromkeys((*_GRAD_CAMS, "guided_grad_cam"), (_NO_MAP, "cuts the clip into patches")),
    "image CNN": dict.fromkeys(("temporal_occlusion", "frame_order"), (_NO_TIME, "single frame")),
}


def model_of(family):
    """A model of that family, in eval mode, the same at each call."""
    build, layout = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _normalised(build()).eval()
    spec = InputSpec(
        layout=layout, channels="L", frames=1 if layout == "NCHW" else FRAMES, size=(SIZE, SIZE), range=(0.0, 1.0)
    )
    model.zoo_entry = ModelEntry(name="family", builder="tests:none", summary="", parameters=0, input=spec, outputs=())
    return model


def batch_of(family, samples=2):
    """Samples for it."""
    layout = FAMILIES[family][1]
    clips = torch.randn(samples, 1, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    if layout == "NCHW":
        return clips[:, :, 0].clone()
    return clips.transpose(1, 2).contiguous() if layout == "NTCHW" else clips


def table():
    """The table in Markdown: methods x families, and the reasons below."""
    reasons = list(dict.fromkeys(reason for refused in REFUSED.values() for reason, _ in refused.values()))
    head = ["method", *FAMILIES]
    lines = [head, ["---"] * len(head)]
    for method in BUILT_IN:
        cells = []
        for refused in REFUSED.values():
            reason = refused.get(method.name)
            cells.append("yes" if reason is None else f"no ({reasons.index(reason[0]) + 1})")
        lines.append([f"`{method.name}`", *cells])
    rows = [f"| {' | '.join(line)} |" for line in lines]
    notes = [f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*rows, "", *notes])


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
