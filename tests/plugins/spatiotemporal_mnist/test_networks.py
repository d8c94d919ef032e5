import pytest
import torch
from torch import nn

from zoo_spatiotemporal_mnist import networks

#: Table 5 of arXiv 2009.07338, in thousands, and the exact counts that round to them.
PARAMETERS = {
    "conv2d": (385, 384_881),
    "conv3d": (473, 472_721),
    "convlstm": (437, 436_961),
    "conv2d_xl": (702, 701_513),
    "conv3d_xl": (1_145, 1_145_393),
    "ts_conv3d_xl": (1_145, 1_145_393),
    "convlstm_xl": (1_967, 1_966_805),
}


@pytest.fixture(scope="module", params=sorted(PARAMETERS))
def named(request):
    torch.manual_seed(0)
    return request.param, networks.build(design=request.param).eval()


def test_parameters_are_as_many_as_published(named):
    name, network = named
    count = sum(parameter.numel() for parameter in network.parameters())
    assert (round(count / 1000), count) == PARAMETERS[name]


@pytest.mark.parametrize("frames", [1, 3, 17])
def test_three_heads_read_clips_of_any_length(named, frames):
    _, network = named
    with torch.no_grad():
        outputs = network(torch.rand(2, 1, frames, 64, 64))
    assert {head: tuple(value.shape) for head, value in outputs.items()} == {
        "digit": (2, 10),
        "order": (2, 6),
        "speed": (2, 1),
    }


def test_blocks_have_the_channels_and_sizes_of_tables_1_to_4(named):
    name, network = named
    narrow, wide, features, deep = (36, 72, 72, 144) if name.endswith("_xl") else (16, 32, 64, 128)
    times = (8, 4, 2, 2, 1, 1, 1, 1) if name == "ts_conv3d_xl" else (16,) * 8
    x = torch.rand(1, 1, 16, 64, 64)
    found = []
    with torch.no_grad():
        for block, part in network.body.named_children():
            inside = part.main.expand.in_channels
            incoming = x.shape[1]
            x = part(x)
            found.append((block, incoming, inside, *x.shape[1:]))
    assert found == [
        ("res1_1", 1, narrow, features, times[0], 32, 32),
        ("res2_1", features, narrow, features, times[1], 16, 16),
        ("res3_1", features, narrow, features, times[2], 8, 8),
        ("res3_2", features, narrow, features, times[3], 8, 8),
        ("res4_1", features, wide, deep, times[4], 4, 4),
        ("res4_2", deep, wide, deep, times[5], 4, 4),
        ("res4_3", deep, wide, deep, times[6], 4, 4),
        ("res4_4", deep, wide, deep, times[7], 4, 4),
    ]


def test_features_see_as_many_frames_as_the_tables_say(named):
    name, network = named
    clip = torch.rand(1, 1, 25, 64, 64)
    changed = clip.clone()
    changed[:, :, 12] += 10
    with torch.no_grad():
        moved = (network.features(clip) - network.features(changed)).abs().amax((0, 2)) > 0
    expected = {
        "conv2d": [12],
        "conv3d": list(range(4, 21)),  # temporal receptive field 17
        "convlstm": list(range(12, 25)),  # a frame and all before it
        "ts_conv3d": [0, 1],  # both of its two steps
    }[name.removesuffix("_xl")]
    assert moved.nonzero().flatten().tolist() == expected


def test_the_first_block_has_no_convolution_before_its_3x3_and_the_others_do(named):
    _, network = named
    first = [hasattr(block.main, "reduce") for block in network.body]
    assert first == [False] + [True] * 7


def test_standardising_adds_no_parameter_and_gives_unit_features_in_training(named):
    name, network = named
    assert list(network.standardize.parameters()) == []
    trained = networks.build(design=name).train()
    features = trained.features(torch.rand(4, 1, 20, 64, 64)).flatten(0, 1)
    torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]), atol=1e-4, rtol=0)
    alive = features.std(0) > 0.5
    assert alive.any()


def test_every_convolution_and_relu_is_a_module_used_once(named):
    _, network = named
    calls: dict[str, int] = {}
    hooks = []
    for path, module in network.named_modules():
        recurrent = path.endswith("of_state")  # called by its weight, step by step
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ReLU) and not recurrent:
            hook = module.register_forward_hook(lambda *_, path=path: calls.update({path: calls.get(path, 0) + 1}))
            hooks.append(hook)
    with torch.no_grad():
        network(torch.rand(1, 1, 2, 64, 64))
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(hooks)
    assert set(calls.values()) == {1}


def test_a_block_is_what_section_4_says(named):
    """Main path and open connection written out with the block's own weights."""
    name, network = named
    block = network.body.res2_1
    main = block.main
    x = torch.randn(1, block.shortcut.in_channels, 4, 8, 8)
    strides = (2, 2, 2) if name == "ts_conv3d_xl" else (1, 2, 2)
    with torch.no_grad():
        y = main.reduce_norm(nn.functional.conv3d(x, main.reduce.weight, main.reduce.bias)).clamp(min=0)
        if name.startswith("convlstm"):
            y = main.convlstm(y)
        else:
            pad = tuple(size // 2 for size in main.conv.kernel_size)
            y = nn.functional.conv3d(y, main.conv.weight, main.conv.bias, stride=strides, padding=pad)
            y = main.conv_norm(y).clamp(min=0)
        y = main.expand_norm(nn.functional.conv3d(y, main.expand.weight, main.expand.bias))
        kept = x[:, :, :: strides[0], ::2, ::2]
        open_connection = nn.functional.conv3d(kept, block.shortcut.weight, block.shortcut.bias)
        torch.testing.assert_close(block(x), (y + open_connection).clamp(min=0))
        assert isinstance(network.body.res3_2.shortcut, nn.Identity)


def test_the_output_is_what_the_last_time_step_says(named):
    _, network = named
    clip = torch.rand(2, 1, 5, 64, 64)
    with torch.no_grad():
        features = network.features(clip)
        every = network.read(features if network.lstm is None else network.lstm(features)[0])
        for head, value in network(clip).items():
            torch.testing.assert_close(value, every[head][:, -1])


def test_other_numbers_of_classes_and_channels_are_built():
    network = networks.build(design="conv3d", in_channels=3, digits=5, orders=2).eval()
    with torch.no_grad():
        outputs = network(torch.rand(1, 3, 2, 64, 64))
    assert outputs["digit"].shape == (1, 5)
    assert outputs["order"].shape == (1, 2)
