import captum.attr
import pytest
import torch
from torch import nn

import explain
from explain.attribution.layer_choice import default_layer
from zoo.errors import ModelError, UnknownNameError


def test_of_a_pooled_linear_head_is_its_class_activation_map_over_all_positions(nets):
    model, batch = nets.PooledLinear(), torch.randn(2, 1, 3, 4, 5)
    result = explain.attribute(model, batch, method="grad_cam", target=2, layer="conv")
    maps = model.conv(batch).detach()
    expected = torch.einsum("ncthw,c->nthw", maps, model.head.weight[2].detach()) / (3 * 4 * 5)
    assert torch.allclose(result.raw[:, 0], expected)
    assert torch.allclose(result.map, expected.clamp(min=0))
    assert (expected < 0).any()


def test_per_frame_weighs_each_time_step_by_itself(nets):
    model = nets.TwoHeads().eval()
    batch = torch.randn(2, 1, 4, 6, 6)
    kept = []
    handle = model.block.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    score = model(batch)["digit"][:, 0].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    whole = (gradient.mean(dim=(2, 3, 4), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).detach()
    by_frame = (gradient.mean(dim=(3, 4), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).detach()
    both = explain.attribute(model, batch, method=["grad_cam", "grad_cam_per_frame"], target="digit:0", layer="block")
    assert [result.method for result in both] == ["grad_cam", "grad_cam_per_frame"]
    assert torch.allclose(both[0].raw, whole)
    assert torch.allclose(both[1].raw, by_frame)
    assert not torch.allclose(whole, by_frame)


@pytest.mark.parametrize("layer", ["stem.0", "stem.1", "block.1", "block"])
def test_equals_captum_also_before_an_in_place_relu(nets, layer):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    expected = captum.attr.LayerGradCam(lambda x: model(x)["digit"], model.get_submodule(layer)).attribute(batch, 1)
    result = explain.attribute(model, batch, method="grad_cam", target="digit:1", layer=layer)
    assert torch.allclose(result.raw, expected.detach(), atol=1e-12)


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_per_frame"])
def test_frames_folded_into_the_batch_and_frames_called_one_by_one_keep_their_time(nets, method):
    folded, batch = nets.FoldedFrames(), torch.randn(2, 5, 2, 6, 6)
    others = nets.FoldedTimeFirst(), nets.FrameByFrame()
    maps = []
    for model in (folded, *others):
        model.load_state_dict(folded.state_dict())
        model.zoo_entry = nets.entry("NTCHW")
        maps.append(explain.attribute(model, batch, method=method, target=1, layer="conv").raw)
    outputs = folded.conv(batch.flatten(0, 1)).detach().unflatten(0, (2, 5))
    slopes = folded.head.weight[1].detach().view(1, 1, 3, 1, 1) * (outputs > 0) / (5 * 6 * 6)
    over = (1, 3, 4) if method == "grad_cam" else (3, 4)
    expected = (slopes.mean(dim=over, keepdim=True) * outputs).sum(dim=2)
    for raw in maps:
        assert torch.allclose(raw[:, 0], expected)


def test_the_map_has_the_input_size_and_the_raw_map_the_layer_size(nets):
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3)
    )
    batch = torch.randn(1, 1, 8, 12, 12)
    model(batch)
    result = explain.attribute(model, batch, method="grad_cam", layer="0")
    assert result.raw.shape == (1, 1, 4, 6, 6)
    assert result.map.shape == (1, 8, 12, 12)
    assert result.map.min() >= 0
    assert result.layer == "0"
    assert result.note == ""


def test_default_layer_is_the_deepest_convolution_that_resolves_time_and_space(nets):
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3, stride=(1, 2, 2), padding=1),
        nn.Conv3d(2, 2, 3, stride=2, padding=1),
        nn.Conv3d(2, 2, 3, stride=2, padding=1),
        nn.Conv3d(2, 2, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    )
    assert default_layer(model, torch.zeros(1, 1, 16, 64, 64))[0] == "2"  # 16, 8, 4, 2 time steps
    assert default_layer(model, torch.zeros(1, 1, 64, 32, 32))[0] == "2"  # 16, 8, 4, 2 rows
    assert default_layer(model, torch.zeros(1, 1, 16, 24, 24))[0] == "1"  # 12, 6, 3, 2 rows
    name, reason = default_layer(model, torch.zeros(1, 1, 16, 64, 64))
    assert "4 time steps of 16" in reason
    result = explain.attribute(model, torch.randn(1, 1, 16, 64, 64), method="grad_cam", target=0)
    assert (result.layer, result.note) == (name, reason)


def test_default_layer_is_not_a_shortcut_that_runs_last(nets):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Conv3d(1, 2, 3, padding=1)
            self.shortcut = nn.Conv3d(1, 2, 1)

        def forward(self, x):
            y = self.main(x)
            return (y + self.shortcut(x)).mean(dim=(2, 3, 4))

    assert default_layer(Block(), torch.zeros(1, 1, 4, 8, 8))[0] == "main"


class Rebuilding(nn.Module):
    """A clip of clips, as a frame predictor gives it; of one frame if asked."""

    def __init__(self, *, last=False):
        super().__init__()
        self.inner, self.head, self.last = nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 1, 3, padding=1), last

    def forward(self, x):
        y = self.head(self.inner(x).relu()).sigmoid()
        return y[:, :, -1:] if self.last else y


@pytest.mark.parametrize("last", [False, True])
def test_default_layer_is_not_what_makes_an_output_clip(nets, last):
    model, batch = Rebuilding(last=last), torch.rand(1, 1, 4, 8, 8)
    assert default_layer(model, batch)[0] == "inner"
    corners = [
        explain.attribute(model, batch, method="grad_cam", target=f"output[0, {rows}, 0:4]") for rows in ("0:4", "4:8")
    ]
    assert not torch.allclose(corners[0].map, corners[1].map, rtol=0.05)
    assert default_layer(nn.Sequential(nn.Conv3d(1, 1, 3, padding=1)), batch)[0] == "0"  # there is nothing else


def test_default_layer_is_the_block_that_joins_branches(nets):
    class Branches(nn.Module):
        def __init__(self, joined):
            super().__init__()
            self.joined = joined
            self.branches = nn.ModuleList([nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(2, 3, 1)])

        def forward(self, x):
            maps = [branch(x) for branch in self.branches]
            return torch.cat(maps, dim=1) if self.joined else sum(maps)

    def named(joined):
        model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), Branches(joined), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        return default_layer(model, torch.zeros(1, 1, 4, 8, 8))

    name, reason = named(joined=True)
    assert (name, reason[:36]) == ("1", "with all branches beside 1.branches.")
    assert named(joined=False)[0] == "1.branches.0"


def test_default_layer_has_a_name(nets):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.named = nn.Conv3d(1, 1, 3, padding=1)
            self.weight = nn.Parameter(torch.randn(1, 1, 3, 3, 3))

        def forward(self, x):
            return nn.functional.conv3d(self.named(x), self.weight, padding=1).mean(dim=(2, 3, 4))

    assert default_layer(Functional(), torch.zeros(1, 1, 4, 8, 8))[0] == "named"


def test_layers_that_cannot_be_looked_at_are_refused(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    with pytest.raises(UnknownNameError, match=r"did you mean 'stem"):
        explain.attribute(model, batch, method="grad_cam", layer="stemm")
    with pytest.raises(ModelError, match="does not depend on layer 'speed'"):
        explain.attribute(model, batch, method="grad_cam", target="digit:0", layer="speed")
    model.unused = nn.Conv3d(1, 1, 1)
    with pytest.raises(ModelError, match="did not run"):
        explain.attribute(model, batch, method="grad_cam", layer="unused")
    with pytest.raises(ModelError, match="no convolution"):
        explain.attribute(nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method="grad_cam")


def test_a_recurrent_layer_has_a_map_over_time(nets):
    result = explain.attribute(nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6), method="grad_cam", layer="lstm")
    assert result.raw.shape == (2, 1, 4, 1, 1)
    assert result.map.shape == (2, 4, 6, 6)


class Transformer(nn.Module):
    """Patches of a clip, and one block on them that keeps their places (Swin) or lines them up (ViT)."""

    def __init__(self, *, lined_up):
        super().__init__()
        self.patches = nn.Conv3d(1, 6, (2, 4, 4), (2, 4, 4))
        self.block = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU())
        self.head = nn.Linear(6, 3)
        self.lined_up = lined_up

    def forward(self, clip):
        positions = self.patches(clip).movedim(1, -1)
        return self.head(self.block(positions.flatten(1, 3) if self.lined_up else positions).flatten(1, -2).mean(dim=1))


def test_of_a_transformer_no_layer_is_chosen():
    model, batch = Transformer(lined_up=False).eval(), torch.randn(1, 1, 4, 8, 12)
    with pytest.raises(ModelError, match="patches cuts the clip into patches"):
        explain.attribute(model, batch, method="grad_cam")


def test_convolutions_on_the_heads_of_an_attention_are_not_chosen():
    class Pooled(Transformer):
        def __init__(self):
            super().__init__(lined_up=False)
            self.pool = nn.Conv3d(2, 2, 3, padding=1)

        def forward(self, clip):
            heads = self.patches(clip).reshape(3 * len(clip), 2, 2, 2, 3)
            pooled = self.pool(heads).reshape(len(clip), 6, 2, 2, 3).movedim(1, -1)
            return self.head(self.block(pooled).mean(dim=(1, 2, 3)))

    with pytest.raises(ModelError, match="patches cuts the clip into patches"):
        explain.attribute(Pooled().eval(), torch.randn(1, 1, 4, 8, 12), method="grad_cam")


def test_maps_with_channels_last_are_read_as_such():
    model, batch = Transformer(lined_up=False).eval(), torch.randn(2, 1, 4, 8, 12)
    result = explain.attribute(model, batch, method="grad_cam", layer="block", target=1)
    maps = model.block(model.patches(batch).movedim(1, -1)).detach()
    expected = maps @ model.head.weight[1].detach() / maps[0, ..., 0].numel()
    assert expected.shape == (2, 2, 2, 3)
    assert torch.allclose(result.raw[:, 0], expected, atol=1e-6)


def test_positions_in_a_row_are_refused():
    model, batch = Transformer(lined_up=True).eval(), torch.randn(1, 1, 4, 8, 12)
    with pytest.raises(ModelError, match="'block' gives 12 positions in a row for a clip of 4 frames"):
        explain.attribute(model, batch, method="grad_cam", layer="block")
