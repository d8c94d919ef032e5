import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN
from zoo.errors import UnknownNameError, ZooError

NETWORKS = (
    "Rectified",
    "PooledLinear",
    "FoldedTimeFirst",
    "FrameByFrame",
    "flat",
)


def made(nets, name):
    """A network by name, and a batch for it."""
    if name == "flat":
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 3), nn.GELU()), torch.randn(1, 1, 4, 6, 6)
    model = getattr(nets, name)()
    if not name.startswith(("Folded", "Frame")):
        return model, torch.randn(1, 1, 4, 6, 6)
    model.zoo_entry = nets.entry("NTCHW")
    return model, torch.randn(1, 4, 2, 6, 6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_method_is_said_to_apply_just_where_it_works(nets, having, name):
    pytest.importorskip("skimage")
    model, batch = made(nets, name)
    found = nets.fingerprint(model)
    reasons = explain.applicability(model, batch)
    assert nets.fingerprint(model) == found
    assert list(reasons) == [method.name for method in BUILT_IN]
    parts = (torch.arange(4)[:, None, None] // 2 + torch.arange(6)[:, None] // 4).expand(4, 6, 6)
    fast = {"n_steps": 2, "n_samples": 6, "feature_mask": parts}
    for method, reason in reasons.items():
        if reason:
            with pytest.raises(ZooError) as refused:
                explain.attribute(model, batch, method=method, **having(method, fast))
            assert str(refused.value) == reason
        else:
            explain.attribute(model, batch, method=method, **having(method, {**fast, "window": (2, 3, 3)}))


def test_reasons_are_those_of_the_target(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    assert "recurrent" in explain.applicability(model, batch)["deep_lift"]
    assert explain.applicability(model, batch, "block/1")["deep_lift"] == ""
    with pytest.raises(UnknownNameError):
        explain.applicability(model, batch, "blok/1")


def test_an_output_without_a_gradient_leaves_the_methods_that_need_none(nets):
    reasons = explain.applicability(
        nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6), lambda output: output["digit"].argmax(dim=1).double()
    )
    assert "not differentiably" in reasons["saliency"]
    assert reasons["occlusion"] == reasons["rise"] == reasons["frame_order"] == ""


def test_a_layer_is_looked_for_once_for_all_methods(nets):
    model, passes = nets.TwoHeads(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    explain.attribution.applicability(model, torch.randn(1, 1, 4, 6, 6))
    several = len(passes)
    passes.clear()
    explain.attribution.applicability(model, torch.randn(1, 1, 4, 6, 6), layer="block")
    # The run that is followed, three that check it, one for the output, and one for what lies around the layer.
    assert 0 < several - len(passes) <= 6
