"""Training on blinking digits: the functions that the recipes name.

Read at the last frame alone, the three tasks are hardly learned. So every time step is supervised, as far as
the frames visible until then determine the targets, and linear heads that are dropped afterwards predict the content of
each frame from its features, and the digit's position and motion from the LSTM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.entries.recipes import Stage
from zoo.training import parallel
from zoo.training.data import mnist
from zoo_spatiotemporal_mnist import blinking, growth, networks, sparse

Batch = dict[str, Tensor]

#: Weight of each task at a time step, by how many frames have been visible until then (0, 1, 2, 3, 4 and more).
SEEN_WEIGHTS: dict[str, tuple[float, ...]] = {
    "digit": (0.0, 0.25, 0.5, 0.75, 1.0),
    "order": (0.0, 0.0, 0.25, 1.0, 1.0),
    "speed": (0.0, 0.0, 0.5, 0.75, 1.0),
    "track": (0.0, 0.5, 1.0, 1.0, 1.0),
}

#: Farthest position of a digit's corner, in pixels; positions are learned in units of it.
REACH = blinking.FRAME_SIZE - blinking.DIGIT_SIZE


class AuxiliaryHeads(nn.Module):
    """A network together with the heads used only in training.

    `frame` reads the features of a time step: for each of its `frames_per_step` frames, hidden
    or which quadrant (5) and the corner (2); for all of them together, digit (10), order (6) and speed (1).
    `track` reads the LSTM: corner (2) and velocity (2) of the digit at that frame, visible or not.
    """

    def __init__(self, network: networks.BlinkingNetwork) -> None:
        super().__init__()
        self.network = network
        features = network.hidden.in_features
        #: Frames per time step of the features: the product of the strides in time.
        self.frames_per_step = network.frames_per_step
        self.frame = nn.Linear(features, 7 * self.frames_per_step + 10 + 6 + 1)
        self.track = nn.Linear(features, 4)
        #: Names and sha256 of the weights that the network begins with.
        self.zoo_start: dict[str, str] = {}

    def features(self, clips: Tensor, visible: Tensor) -> Tensor:
        """Compute standardized features of uint8 clips: N x 1 x T x 64 x 64 to N x T' x F (float32).

        If features depend on a single frame, only the frames that `visible` (N x T) names are computed, and one
        empty frame for all others: that is a fourth of the work, and gives BatchNorm the statistics of visible frames.
        """
        if self.network.by_frame:
            frames = clips.transpose(1, 2)[visible.to(clips.device)]
            packed = torch.cat((frames, torch.zeros_like(clips[:1, :, 0])))[:, :, None]
            index = torch.full(visible.shape, len(frames), device=clips.device)
            index[visible] = torch.arange(len(frames), device=clips.device)
            return self._features(packed)[:, 0][index]
        if self.network.lstm is not None:
            return self.network.pooled(sparse.body(self.network.body, clips)).float()
        return self._features(clips)

    def _features(self, clips: Tensor) -> Tensor:
        x = clips.to(memory_format=torch.channels_last_3d).float().div_(255)
        return self.network.features(x).float()


def build(*, design: str, grown_from: str | None = None) -> AuxiliaryHeads:
    """Build the network of that design with its auxiliary heads, ready to train.

    From scratch, the LSTM's forget gates start open (bias 1), the speed at the middle of its range. `grown_from` names
    trained weights of a network that is no wider, for initialization (`growth.py`).
    """
    built = networks.build(design=design)
    for part in built.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = True
        elif isinstance(part, nn.Conv3d):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stub leaves it out
        elif isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start: dict[str, str] = {}
    if grown_from is not None:
        small = zoo.load(grown_from)
        growth.grow(built, small)
        report: Any = small.zoo_load_report
        start[report.name] = report.sha256
    else:
        with torch.no_grad():
            for name, bias in built.named_parameters():
                size = len(bias) // 4
                if name.startswith("lstm.bias_ih") or name.endswith("convlstm.of_input.bias"):
                    bias[size : 2 * size] += 1  # the forget gate, second of four in both kinds
            built.speed.bias.fill_(3.5)
    module = AuxiliaryHeads(built)
    module.zoo_start = start
    return module


def export(module: AuxiliaryHeads) -> nn.Module:
    """Return the network without its auxiliary heads."""
    return module.network


def clips(
    module: AuxiliaryHeads,  # noqa: ARG001 - every data function is given it
    stage: Stage,
    seed: int,
    device: torch.device,
) -> Callable[[int], Batch]:
    """Yield batches of newly drawn clips of the training digits.

    Stage arguments: `frames`; `periods` (longest V); `late_start`; `whole` (share of clips that show whole digits).
    """
    found = mnist.read_part("train")
    images = found.images.to(device)
    longest = stage.arguments.get("periods", 12)
    pairs = [pair for pair in blinking.PAIRS if pair[1] <= longest]
    whole = round(stage.arguments.get("whole", 0.0) * stage.batch_size)

    def batch_at(step: int) -> Batch:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        parameters = blinking.draw(
            stage.batch_size,
            found.labels,
            generator=generator,
            frames=stage.arguments.get("frames", blinking.FRAMES),
            pairs=pairs,
            late_start=stage.arguments.get("late_start", False),
        )
        painted = blinking.render(images, parameters[whole:])
        if whole:
            painted = torch.cat((blinking.render(images, parameters[:whole], masked=False), painted))
        batch = {name: value.to(device) for name, value in truth(parameters).items()}
        batch["masked"] = torch.arange(stage.batch_size, device=device) >= whole
        return {"clips": painted, **batch}

    return batch_at


def truth(parameters: blinking.Parameters) -> Batch:
    """Return the targets, N first: labels, and per frame quadrant, corner (0..1) and velocity (pixels)."""
    position = parameters.position.float()
    step = position.diff(dim=1)
    velocity = torch.cat((step[:, :1], step), dim=1)
    return {
        **parameters.labels(),
        "quadrant": parameters.quadrant,
        "corner": position / REACH,
        "velocity": velocity,
        "seen": parameters.visible.cumsum(1).clamp(max=4),
        "period": parameters.period,
    }


def frame_loss(module: AuxiliaryHeads, features: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss of single time steps' features (N x T' x F) on the frames of each."""
    each = module.frames_per_step
    frames, steps = batch["quadrant"].shape[1], features.shape[1]
    heads = module.frame(features).split((5 * each, 10, 6, 2 * each, 1), dim=-1)
    digit, order, speed = heads[1], heads[2], heads[4]
    quadrant, corner = (heads[k].reshape(len(features), steps * each, -1)[:, :frames] for k in (0, 3))
    visible = batch["quadrant"] >= 0
    masked = visible & batch["masked"][:, None]
    state = batch["quadrant"] + 1
    blinks = batch["masked"]
    quadrant_loss = _mean(F.cross_entropy(quadrant[blinks].flatten(0, 1), state[blinks].flatten(), reduction="none"))
    corner_loss = _mean((corner[visible] - batch["corner"][visible]).abs())
    shows = F.pad(visible, (0, each * steps - frames)).view(-1, steps, each).any(-1)
    digits = batch["digit"][:, None].expand(-1, steps)
    digit_loss = _mean(F.cross_entropy(digit[shows], digits[shows], reduction="none"))
    # Three neighboring quadrants determine order and speed: within the receptive field up to every fourth frame.
    near = shows & (batch["masked"] & (batch["period"] <= 4))[:, None]
    orders = batch["order"][:, None].expand(-1, steps)
    order_loss = _mean(F.cross_entropy(order[near], orders[near], reduction="none"))
    moving = shows & (batch["period"] <= 8)[:, None]
    speeds = batch["speed"][:, None].expand(-1, steps, -1)
    speed_loss = _mean((speed[moving] + 3.5 - speeds[moving]).abs())
    loss = quadrant_loss + digit_loss + 4 * corner_loss + 0.5 * order_loss + 0.5 * speed_loss
    with torch.no_grad():
        terms = {
            "frame_quadrant": _mean((quadrant[masked].argmax(-1) == state[masked]).float()),
            "frame_digit": _mean((digit[shows].argmax(-1) == digits[shows]).float()),
            "frame_corner": corner_loss * REACH,
            "frame_order": _mean((order[near].argmax(-1) == orders[near]).float()),
            "frame_speed": speed_loss,
        }
    return loss, terms


def state_loss(
    module: AuxiliaryHeads, features: Tensor, batch: Batch, *, track_weight: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss of the LSTM at every time step, weighted by what can be known there, and at the last one."""
    states = module.network.states(features)
    outputs = module.network.read(states)
    corner, velocity = module.track(states).split(2, dim=-1)
    frames = features.shape[1]
    weights = {name: features.new_tensor(table)[batch["seen"]] for name, table in SEEN_WEIGHTS.items()}
    weights["order"] = weights["order"] * batch["masked"][:, None]
    losses = {
        "digit": _classes(outputs["digit"], batch["digit"]),
        "order": _classes(outputs["order"], batch["order"]),
        "speed": F.smooth_l1_loss(
            outputs["speed"].squeeze(-1), batch["speed"].expand(-1, frames), beta=0.25, reduction="none"
        ),
        "track": 4 * (corner - batch["corner"]).abs().mean(-1) + (velocity - batch["velocity"]).abs().mean(-1) / 2,
    }
    loss = features.new_zeros(())
    for name, value in losses.items():
        weight = weights[name]
        everywhere = (value * weight).sum() / parallel.divisor(weight.sum())
        last = (value[:, -1] * weight[:, -1]).sum() / parallel.divisor(weight[:, -1].sum())
        loss = loss + (track_weight * everywhere if name == "track" else 0.5 * everywhere + 0.5 * last)
    with torch.no_grad():
        ordered = weights["order"][:, -1] == 1
        hits = (outputs["order"][:, -1].argmax(-1) == batch["order"]).float()
        terms = {
            "digit": (outputs["digit"][:, -1].argmax(-1) == batch["digit"]).float().mean(),
            "order": _mean(hits[ordered]),
            "speed": (outputs["speed"][:, -1] - batch["speed"]).abs().mean(),
            "track": losses["track"].mean(),
        }
    return loss, terms


def loss(module: AuxiliaryHeads, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Return both losses together.

    The stage arguments `frame_weight` and `track_weight` (default 1) weigh the losses of the auxiliary heads: on
    single frames, and on the digit's track.

    The body runs in whatever precision the stage has, LSTM, heads and losses in float32.
    """
    features = module.features(batch["clips"], batch["quadrant"] >= 0)
    with torch.autocast(features.device.type, enabled=False):
        track_weight = stage.arguments.get("track_weight", 1.0)
        of_state, terms = state_loss(module, features, _at_steps(batch, features.shape[1]), track_weight=track_weight)
        weight = stage.arguments.get("frame_weight", 1.0)
        if not weight:
            return of_state, terms
        of_frames, more = frame_loss(module, features, batch)
    return of_state + weight * of_frames, {**terms, **more}


def _at_steps(batch: Batch, steps: int) -> Batch:
    """Return the targets of the network's time steps: those of the last of each step's frames."""
    frames = batch["seen"].shape[1]
    if steps == frames:
        return batch
    stride = -(-frames // steps)
    last = torch.arange(1, steps + 1, device=batch["seen"].device).mul(stride).clamp(max=frames) - 1
    return {**batch, **{name: batch[name][:, last] for name in ("seen", "corner", "velocity")}}


def _classes(logits: Tensor, label: Tensor) -> Tensor:
    """Compute the cross-entropy at every time step: N x T x K and N to N x T."""
    frames = logits.shape[1]
    return F.cross_entropy(logits.transpose(1, 2), label[:, None].expand(-1, frames), reduction="none")


def _mean(values: Tensor) -> Tensor:
    """Return the mean, 0 if empty; in distributed training over the clips of all processes."""
    return values.sum() / parallel.divisor(values.numel())
