import pytest
import torch
from torch import nn

from explain.model.layers import Capture, as_maps, find_layer, is_folded, layer_names
from zoo.errors import ModelError, UnknownNameError


def test_layers_go_by_the_names_of_their_modules(nets):
    model = nets.TwoHeads()
    assert layer_names(model)[:3] == ["stem", "stem.0", "stem.1"]
    assert "" not in layer_names(model)
    assert find_layer(model, "stem.1") is model.stem[1]
    with pytest.raises(UnknownNameError, match=r"did you mean 'block"):
        find_layer(model, "blok")
    with pytest.raises(UnknownNameError):
        find_layer(model, "")


def test_a_captured_output_is_what_the_layer_gave_not_what_an_in_place_operation_left(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    with torch.no_grad():
        expected = model.stem[1](model.stem[0](batch))
        plain = model(batch)
        with Capture(model, "stem.1") as capture:
            output = capture.run(batch)
    assert torch.equal(capture.calls[0], expected)
    assert (expected < 0).any()
    assert torch.equal(output["digit"], plain["digit"])


def test_nothing_behind_the_layer_runs_when_stopped_early(nets):
    model = nets.TwoHeads()

    def never(*_):
        raise AssertionError("ran on")

    model.block.register_forward_pre_hook(never)
    with Capture(model, "stem", stop_after=1) as capture:
        assert capture.run(torch.randn(1, 1, 4, 6, 6)) is None
    assert capture.calls[0].shape == (1, 4, 4, 6, 6)


def test_a_model_that_swallows_exceptions_is_stopped_all_the_same():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()

        def forward(self, x):
            try:
                self.first(x)
            except Exception:  # noqa: BLE001
                return "went on"
            return "went on"

    with Capture(Stubborn(), "first", stop_after=1) as capture:
        assert capture.run(torch.zeros(1, 1)) is None


def test_hooks_are_gone_afterwards_also_on_failure(nets):
    model = nets.TwoHeads()
    with pytest.raises(RuntimeError), Capture(model, "stem") as capture:
        capture.run(torch.randn(1, 7, 4, 6, 6))
    assert not model.stem._forward_hooks


def test_every_call_of_a_layer_is_kept(nets):
    model, batch = nets.FrameByFrame(), torch.randn(2, 5, 2, 6, 6)
    with Capture(model, "conv") as capture:
        capture.run(batch)
    assert len(capture.calls) == 5
    assert torch.allclose(capture.maps(2)[:, :, 3], model.conv(batch[:, 3]))


def test_gradients_reach_a_leaf_and_end_there(nets):
    model = nets.PooledLinear()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with Capture(model, "conv", leaf=True) as capture:
        output = capture.run(torch.randn(2, 1, 3, 4, 5))
    (gradient,) = torch.autograd.grad(output[:, 1].sum(), capture.calls)
    expected = model.head.weight[1].view(1, 3, 1, 1, 1).expand_as(gradient) / (3 * 4 * 5)
    assert torch.allclose(gradient, expected)
    assert capture.calls[0].is_leaf


def test_outputs_of_every_form_become_maps():
    conv, rnn = nn.Conv2d(1, 1, 1), nn.LSTM(1, 1, batch_first=True)
    clip = torch.randn(2, 3, 4, 5, 6)
    assert as_maps([clip], conv, 2) is clip
    assert torch.equal(as_maps([clip[:, :, 0]], conv, 2), clip[:, :, :1])
    folded = clip.transpose(1, 2).flatten(0, 1)
    assert torch.equal(as_maps([folded], conv, 2), clip)
    assert torch.equal(as_maps([clip[:, :, time] for time in range(4)], conv, 2), clip)
    features = torch.randn(2, 4, 3)
    assert torch.equal(as_maps([features], rnn, 2)[..., 0, 0], features.transpose(1, 2))
    assert torch.equal(as_maps([features.transpose(0, 1)], nn.LSTM(1, 1), 2)[..., 0, 0], features.transpose(1, 2))
    assert torch.equal(as_maps([features], nn.Conv1d(1, 1, 1), 2)[..., 0, 0], features)
    assert torch.equal(as_maps([features[:, 0]], nn.Linear(1, 1), 2)[..., 0, 0, 0], features[:, 0])
    assert torch.equal(as_maps([features.flatten(0, 1)], nn.Linear(1, 1), 2)[..., 0, 0], features.transpose(1, 2))
    last, block = clip.movedim(1, -1), nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 12), nn.Linear(12, 3))
    assert torch.equal(as_maps([last], block, 2), clip)
    assert torch.equal(as_maps([last[:, 0]], block[0], 2), clip[:, :, :1])
    assert torch.equal(as_maps([clip], block, 2), clip)  # ConvNeXt permutes within its blocks
    assert is_folded([folded], 2)
    assert not is_folded([clip], 2)


@pytest.mark.parametrize(
    "calls",
    [
        [torch.zeros(3, 1, 2, 2, 2)],
        [torch.zeros(2, 1, 2, 2, 2)] * 2,
        [torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 3, 3)],
        [torch.zeros(3, 1, 2, 2)],
        [torch.zeros(())],
    ],
)
def test_what_is_no_map_is_refused(calls):
    with pytest.raises(ModelError, match="layer 'odd' gives"):
        as_maps(calls, nn.Identity(), 2, "odd")


def test_layers_that_do_not_run_or_give_no_tensor_are_refused(nets):
    model = nets.PooledLinear()
    model.unused = nn.Identity()
    with pytest.raises(ModelError, match="'unused' did not run"), Capture(model, "unused") as capture:
        capture.run(torch.randn(1, 1, 3, 4, 5))
    model.unused.forward = lambda x: {"a": x}
    model.forward = lambda x: model.unused(x)
    with pytest.raises(ModelError, match="gives dict"), Capture(model, "unused") as capture:
        capture.run(torch.randn(1, 1, 3, 4, 5))
