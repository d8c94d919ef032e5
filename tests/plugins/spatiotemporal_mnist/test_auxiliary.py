import math

import pytest
import torch
from torch import nn

import zoo
from zoo.training import Stage
from zoo_spatiotemporal_mnist import blinking, training

CPU = torch.device("cpu")


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return training.build(design="conv3d")


def stage(**arguments):
    return Stage(
        name="s", steps=2, batch_size=4, learning_rate=0.1, data="d:d", loss="l:l", arguments={"frames": 6, **arguments}
    )


def drawn(count=6, frames=12, **choices):
    generator = torch.Generator().manual_seed(5)
    return blinking.draw(count, torch.arange(10), generator=generator, frames=frames, **choices)


def batch_of(parameters, whole=0):
    return {**training.truth(parameters), "masked": torch.arange(len(parameters)) >= whole}


def test_the_network_is_kept_and_the_auxiliary_heads_are_dropped(module):
    kept = training.export(module)
    assert sum(parameter.numel() for parameter in kept.parameters()) == 472_721
    assert not any("frame" in name or "track" in name for name, _ in kept.named_parameters())


def test_forget_gates_start_open_and_the_speed_in_the_middle():
    torch.manual_seed(0)
    lstm = training.build(design="conv3d").network.lstm
    bound = 1 / math.sqrt(128)
    assert (lstm.bias_ih_l0[128:256] > 1 - bound).all()
    assert (lstm.bias_ih_l0[:128] < bound).all()
    assert training.build(design="conv2d").network.speed.bias.item() == 3.5


def test_a_grown_network_names_the_weights_it_begins_with():
    assert training.build(design="conv3d_xl", grown_from="conv3d").zoo_start == {
        "conv3d.blinking_mnist": zoo.info("conv3d.blinking_mnist").weights[0].sha256
    }


@pytest.mark.parametrize("layer", ["lstm.bias_ih_l1", "body.res2_1.main.convlstm.of_input.bias"])
def test_only_forget_gates_start_open(layer):
    torch.manual_seed(0)
    design = "convlstm" if "convlstm" in layer else "conv2d"
    bias = dict(training.build(design=design).network.named_parameters())[layer].detach()
    means = bias.unflatten(0, (4, -1)).mean(1)
    assert means[1] > 0.9
    assert means[[0, 2, 3]].abs().max() < 0.1


def test_empty_frames_left_out_change_no_feature():
    torch.manual_seed(0)
    module = training.build(design="conv2d").eval()
    parameters = drawn(pairs=[(1, 3), (2, 5)])
    images = torch.randint(0, 256, (10, 28, 28), dtype=torch.uint8)
    parameters.image.remainder_(10)
    clips = blinking.render(images, parameters)
    with torch.no_grad():
        torch.testing.assert_close(
            module.features(clips, parameters.quadrant >= 0), module.network.features(clips / 255.0)
        )


def test_strided_steps_are_asked_for_what_their_last_frame_knows():
    batch = batch_of(drawn(frames=12))
    at_steps = training._at_steps(batch, 3)
    for name in ("seen", "corner", "velocity"):
        assert torch.equal(at_steps[name], batch[name][:, [3, 7, 11]])
    assert at_steps["digit"] is batch["digit"]


def test_a_stage_may_leave_single_frames_unasked(mnist):
    torch.manual_seed(0)
    module = training.build(design="ts_conv3d_xl")
    chosen = stage(frames=17, frame_weight=0)
    loss, terms = training.loss(module, training.clips(module, chosen, 0, CPU)(0), chosen)
    loss.backward()
    assert {"digit", "order", "speed", "track"} == set(terms)
    assert module.frame.weight.grad is None


def test_refined_networks_ask_nothing_of_heads_that_begin_anew(mnist, module):
    module.zero_grad()
    chosen = stage(frame_weight=0, track_weight=0, periods=1)
    training.loss(module, training.clips(module, chosen, 0, CPU)(0), chosen)[0].backward()
    assert module.frame.weight.grad is None or not module.frame.weight.grad.any()
    assert not module.track.weight.grad.any()
    assert module.network.speed.weight.grad.any()


def test_a_batch_depends_on_seed_and_step_alone(mnist, module):
    batch_at = training.clips(module, stage(), 3, CPU)
    first, later = batch_at(0), batch_at(1)
    again = training.clips(module, stage(), 3, CPU)(1)
    assert all(torch.equal(later[name], again[name]) for name in later)
    assert not torch.equal(first["clips"], later["clips"])
    assert not torch.equal(training.clips(module, stage(), 4, CPU)(1)["clips"], later["clips"])


def test_periods_are_limited_and_a_share_of_clips_shows_whole_digits(mnist, module):
    batch = training.clips(module, stage(periods=2, whole=0.5), 0, CPU)(0)
    assert batch["period"].max() <= 2
    assert batch["masked"].tolist() == [False, False, True, True]
    pixels = (batch["clips"] > 0).flatten(3).sum(-1)[:, 0].amax(1)
    assert pixels[:2].min() > pixels[2:].max()


def test_truth_follows_the_digit():
    parameters = drawn()
    truth = training.truth(parameters)
    torch.testing.assert_close(truth["corner"] * 36, parameters.position.float())
    assert torch.equal(truth["velocity"][:, 1:], parameters.position.diff(dim=1).float())
    assert torch.equal(truth["velocity"][:, 0], truth["velocity"][:, 1])
    for k in range(6):
        counted = [min(4, int(parameters.visible[k, : t + 1].sum())) for t in range(12)]
        assert truth["seen"][k].tolist() == counted


def test_the_order_is_not_asked_of_whole_digits_nor_before_two_quadrants_were_seen(module):
    parameters = drawn(pairs=[(1, 6)])  # two visible frames in twelve
    features = torch.randn(6, 12, 128)
    order = module.network.order.weight

    def gradient(batch):
        module.zero_grad()
        training.state_loss(module, features, batch)[0].backward()
        return order.grad.abs().sum()

    assert gradient(batch_of(parameters)) > 0
    assert gradient(batch_of(parameters, whole=6)) == 0
    assert gradient(batch_of(drawn(pairs=[(1, 12)]))) == 0


def test_the_loss_of_the_states_is_half_that_of_every_step_and_half_that_of_the_last(module):
    batch = batch_of(drawn(pairs=[(2, 2), (3, 1), (1, 5)]), whole=2)
    features = torch.randn(6, 12, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, _ = training.state_loss(module, features, batch)
        states, _ = module.network.lstm(features)
        outputs, track = module.network.read(states), module.track(states)
    expected = 0.0
    for task in ("digit", "order", "speed", "track"):
        weighted, weights = torch.zeros(6, 12), torch.zeros(6, 12)
        for n in range(6):
            for t in range(12):
                if task in ("digit", "order"):
                    value = -outputs[task][n, t].log_softmax(0)[batch[task][n]]
                elif task == "speed":
                    off = (outputs["speed"][n, t] - batch["speed"][n]).abs().item()
                    value = off - 0.125 if off > 0.25 else 2 * off**2
                else:
                    corner = (track[n, t, :2] - batch["corner"][n, t]).abs().mean()
                    value = 4 * corner + (track[n, t, 2:] - batch["velocity"][n, t]).abs().mean() / 2
                weights[n, t] = training.SEEN_WEIGHTS[task][batch["seen"][n, t]]
                if task == "order" and n < 2:
                    weights[n, t] = 0
                weighted[n, t] = value * weights[n, t]
        everywhere, last = weighted.sum() / weights.sum(), weighted[:, -1].sum() / weights[:, -1].sum()
        expected += everywhere if task == "track" else (everywhere + last) / 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("rows", "longest"), [(slice(15, 21), 4), (slice(23, 24), 8)])
def test_single_frames_are_asked_for_order_and_speed_up_to_a_period(module, rows, longest):
    features = torch.randn(6, 12, 128)
    for period in (longest, longest + 1):
        module.zero_grad()
        training.frame_loss(module, features, batch_of(drawn(pairs=[(1, period)])))[0].backward()
        assert bool(module.frame.weight.grad[rows].any()) == (period == longest)


class Knowing(nn.Module):
    """Heads that know a batch's truth, at steps of so many frames."""

    def __init__(self, batch, each):
        super().__init__()
        self.batch, self.each = batch, each

    def forward(self, features):
        batch, steps = self.batch, features.shape[1]
        quadrant = 50.0 * nn.functional.one_hot(batch["quadrant"] + 1, 5)
        missing = steps * self.each - quadrant.shape[1]
        quadrant, corner = (
            nn.functional.pad(value, (0, 0, 0, missing), value=-9.0).reshape(len(features), steps, -1)
            for value in (quadrant, batch["corner"])
        )
        classes = [
            50.0 * nn.functional.one_hot(batch[name], size)[:, None].expand(-1, steps, -1)
            for name, size in (("digit", 10), ("order", 6))
        ]
        speed = (batch["speed"] - 3.5)[:, None].expand(-1, steps, -1)
        return torch.cat((quadrant, *classes, corner, speed), dim=-1)


@pytest.mark.parametrize(("design", "frames", "steps"), [("conv3d", 12, 12), ("ts_conv3d_xl", 24, 2)])
def test_frame_losses_vanish_for_heads_that_know_the_truth(design, frames, steps):
    torch.manual_seed(0)
    module = training.build(design=design)
    batch = batch_of(drawn(frames=frames, pairs=[(2, 2), (3, 1), (1, 5)]), whole=1)
    features = torch.zeros(6, steps, module.network.hidden.in_features)
    assert training.frame_loss(module, features, batch)[0] > 1
    module.frame = Knowing(batch, module.frames_per_step)
    loss, terms = training.frame_loss(module, features, batch)
    assert float(loss) < 1e-4
    assert {name: round(float(value), 3) for name, value in terms.items()} == {
        "frame_quadrant": 1,
        "frame_digit": 1,
        "frame_corner": 0,
        "frame_order": 1,
        "frame_speed": 0,
    }


@pytest.mark.parametrize(("design", "frames"), [("conv3d", 6), ("ts_conv3d_xl", 17)])
def test_every_learning_part_gets_a_gradient(mnist, design, frames):
    torch.manual_seed(0)
    module = training.build(design=design)
    batch = training.clips(module, stage(periods=2, frames=frames), 0, CPU)(0)
    loss, terms = training.loss(module, batch, stage())
    loss.backward()
    assert math.isfinite(loss.item())
    assert {"digit", "order", "speed", "track", "frame_quadrant"} <= set(terms)
    missing = [
        name for name, value in module.named_parameters() if value.grad is None or not value.grad.isfinite().all()
    ]
    assert missing == []
