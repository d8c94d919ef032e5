import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN
from zoo.errors import MemoryLimitError, ModelError, UnknownNameError, UsageError

METHODS = [method.name for method in BUILT_IN]
FAST = {"n_steps": 3, "window": (2, 3, 3), "stride": (2, 3, 3), "n_samples": 6}
#: Three parts of a clip of 4 x 6 x 6.
FAST["feature_mask"] = torch.arange(4).clamp(max=2)[:, None, None].expand(4, 6, 6)
#: Methods that refuse the gates of an LSTM.
NO_LSTM = {"deep_lift", "deep_lift_shap", "lrp"}


def network(nets, method):
    """The network of these tests that a method applies to."""
    if method == "supervoxel_occlusion":
        pytest.importorskip("skimage")
    return nets.Rectified() if method in NO_LSTM else nets.TwoHeads()


class Hungry(nn.Module):
    """Runs out of memory above so many samples at once."""

    def __init__(self, model, most, error=torch.OutOfMemoryError):
        super().__init__()
        self.model, self.most, self.error = model, most, error

    def forward(self, x):
        if len(x) > self.most:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate a lot")
        return self.model(x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_fewer_samples_at_once_are_tried_when_memory_runs_out(nets, having, method, error):
    model, batch = network(nets, method), torch.randn(5, 1, 4, 6, 6)
    plain = explain.attribute(model, batch, method=method, layer="block", target="digit", **having(method, FAST))
    hungry = Hungry(model, 2, error)
    hungry.zoo_entry = None
    result = explain.attribute(
        hungry, batch, method=method, layer="model.block", target="digit", **having(method, FAST)
    )
    assert torch.allclose(result.raw, plain.raw, atol=1e-12)
    assert result.target.descriptions == plain.target.descriptions


def test_where_not_one_sample_fits_a_message_says_so(nets):
    with pytest.raises(MemoryLimitError, match="smaller clip"):
        explain.attribute(Hungry(nets.TwoHeads(), 0), torch.randn(2, 1, 4, 6, 6), method="saliency")


def test_a_model_that_does_not_take_the_batch_is_a_model_error(nets):
    with pytest.raises(ModelError, match="does not take a batch"):
        explain.attribute(nets.TwoHeads(), torch.randn(1, 3, 4, 6, 6), method="saliency")


def test_several_methods_come_back_in_their_order_and_equal_the_single_ones(nets, having):
    pytest.importorskip("skimage")
    model, batch = nets.Rectified(), torch.randn(2, 1, 4, 6, 6)
    results = explain.attribute(model, batch, method=METHODS[::-1], target="digit", **FAST)
    assert [result.method for result in results] == METHODS[::-1]
    for result in results:
        alone = explain.attribute(model, batch, method=result.method, target="digit", **having(result.method, FAST))
        assert torch.equal(alone.raw, result.raw)
        assert alone.settings == result.settings


def test_the_target_of_one_result_can_be_kept_for_the_next(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    first = explain.attribute(model, batch, method="saliency")
    again = explain.attribute(model, -batch, method="saliency", target=first.target)
    expected = explain.attribute(
        model, -batch, method="saliency", target=lambda output: output["digit"][[0, 1], first.target.classes]
    )
    assert torch.equal(again.raw, expected.raw)
    with pytest.raises(UsageError, match="2 samples"):
        explain.attribute(model, batch[:1], method="saliency", target=first.target)


@pytest.mark.parametrize("method", METHODS)
def test_progress_goes_up_to_its_total(nets, having, method):
    steps = []
    explain.attribute(
        network(nets, method),
        torch.randn(3, 1, 4, 6, 6),
        method=method,
        batch_size=2,
        progress=lambda done, total: steps.append((done, total)),
        **having(method, FAST),
    )
    done, totals = zip(*steps, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]
    assert len(set(totals)) == 1


def test_an_evaluation_mode_lstm_can_be_explained_without_switching_cudnn_off_for_others(nets):
    model, seen = nets.TwoHeads().eval(), {}
    conv = model.stem[0].forward

    def watched_conv(x):
        seen.setdefault("conv", set()).add(torch.backends.cudnn.enabled)
        return conv(x)

    class Watched(nn.LSTM):
        def check_forward_args(self, *arguments):
            seen.setdefault("lstm", set()).add(torch.backends.cudnn.enabled)
            super().check_forward_args(*arguments)

    watching = Watched(4, 5, batch_first=True)
    watching.load_state_dict(model.lstm.state_dict())
    model.lstm = watching
    model.stem[0].forward = watched_conv
    result = explain.attribute(model, torch.randn(2, 1, 4, 6, 6), method="saliency")
    assert seen == {"lstm": {False}, "conv": {True}}
    assert torch.backends.cudnn.enabled
    assert result.raw.abs().sum() > 0


def test_a_model_that_writes_into_its_input_changes_nobodys_batch(having):
    class Centred(nn.Module):
        def forward(self, x):
            x -= x.mean()
            return x.flatten(1)[:, :3]

    batch = torch.randn(2, 1, 3, 4, 4)
    copy = batch.clone()
    for method in ("saliency", "occlusion", "integrated_gradients"):
        explain.attribute(Centred(), batch, method=method, **having(method, FAST))
    assert torch.equal(batch, copy)


def test_what_cannot_be_explained_is_refused(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    with pytest.raises(UnknownNameError, match="saliency"):
        explain.attribute(model, batch, method="salienc")
    with pytest.raises(UsageError, match="floating point"):
        explain.attribute(model, batch.byte(), method="saliency")
    with pytest.raises(UsageError, match="batch size"):
        explain.attribute(model, batch, method="saliency", batch_size=0)
    with pytest.raises(UsageError, match="N x C x T x H x W"):
        explain.attribute(model, batch[0, 0], method="saliency")
    with pytest.raises(UsageError, match="N of at least 1"):
        explain.attribute(model, batch[:0], method="saliency")
    with pytest.raises(ModelError, match="does not depend on the input"):
        explain.attribute(model, batch, method="saliency", target=lambda output: torch.ones(len(output["digit"])))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_maps_on_a_gpu_are_those_of_the_cpu(nets, having, method):
    model, batch = network(nets, method).float(), torch.randn(2, 1, 4, 6, 6).float()
    here = explain.attribute(model, batch, method=method, **having(method, FAST))
    device = f"cuda:{torch.cuda.device_count() - 1}"
    there = explain.attribute(model.to(device), batch.to(device), method=method, **having(method, FAST))
    assert there.map.device == torch.device(device)
    assert torch.cosine_similarity(here.map.flatten(), there.map.cpu().flatten(), dim=0) > 0.9999
