import pytest
import torch

from zoo.training import Stage, parallel
from zoo_spatiotemporal_mnist import blinking, training


def batch_of(count, frames, whole):
    parameters = blinking.draw(count, torch.arange(10), generator=torch.Generator().manual_seed(5), frames=frames)
    images = torch.randint(256, (10, 28, 28), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    masked = torch.arange(count) >= whole
    return {"clips": blinking.render(images, parameters), **training.truth(parameters), "masked": masked}


@pytest.mark.parametrize("design", ["conv2d", "ts_conv3d_xl"])
def test_the_losses_of_the_parts_of_a_batch_add_up_to_that_of_the_batch(design, monkeypatch):
    torch.manual_seed(0)
    module = training.build(design=design).eval()
    stage = Stage(
        name="s", steps=1, batch_size=5, learning_rate=0.1, data="d:d", loss="l:l", arguments={"frame_weight": 0.5}
    )
    batch = batch_of(5, 6, whole=1)
    loss, terms = training.loss(module, batch, stage)
    learning = [value for name, value in module.named_parameters() if name in ("track.weight", "frame.weight")]
    expected = torch.autograd.grad(loss, learning, allow_unused=True)

    parts = [parallel.Part(5, rank, 2) for rank in range(2)]
    counts = [[], []]
    for part, seen in zip(parts, counts, strict=True):  # what each process counts
        monkeypatch.setattr(
            parallel, "divisor", lambda count, seen=seen: seen.append(float(count)) or torch.tensor(1.0)
        )
        training.loss(module, part.of(batch), stage)
    losses, found = [], []
    for part in parts:
        both = iter([max(1.0, sum(pair)) for pair in zip(*counts, strict=True)])
        monkeypatch.setattr(parallel, "divisor", lambda _, both=both, part=part: torch.tensor(next(both) * part.weight))
        value, more = training.loss(module, part.of(batch), stage)
        losses.append({name: part.weight * one for name, one in {"loss": value, **more}.items()})
        found.append(torch.autograd.grad(part.weight * value, learning, allow_unused=True))
    for name, value in {"loss": loss, **terms}.items():
        torch.testing.assert_close(losses[0][name] + losses[1][name], value, rtol=1e-5, atol=1e-6)
    for whole, first, second in zip(expected, *found, strict=True):
        if whole is not None:
            torch.testing.assert_close(first + second, whole, rtol=1e-5, atol=1e-6)
    assert losses[0]["loss"] != losses[1]["loss"]
