import pytest
import torch
from torch import nn
from torch.nn import functional as F

from explain.fields.theoretical import receptive_fields, trace
from zoo.errors import ModelError, UsageError


class Residual(nn.Module):
    """A block of r3d_18: two 3x3x3 convolutions; strided, the sum takes a 1x1x1 shortcut."""

    def __init__(self, stride):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv3d(2, 2, 3, stride, 1), nn.BatchNorm3d(2), nn.ReLU(inplace=True), nn.Conv3d(2, 2, 3, 1, 1)
        )
        self.shortcut = nn.Conv3d(2, 2, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.main(x) + self.shortcut(x))


class Branches(nn.Module):
    """Inception's way: paths of different reach, concatenated; then one more convolution."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv3d(1, 2, 1)
        self.five = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, (1, 3, 5), padding=(0, 1, 2)))
        self.pool = nn.Sequential(nn.AvgPool3d((5, 1, 1), 1, (2, 0, 0)), nn.Conv3d(1, 2, 1))
        self.last = nn.Conv3d(6, 1, 2, dilation=(1, 2, 3))

    def forward(self, x):
        return self.last(torch.cat([self.one(x), self.five(x), self.pool(x)], dim=1))


class Decoder(nn.Module):
    """Down, up again, and joined with what never went down."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(1, 2, 3, padding=1)
        self.down = nn.Conv3d(2, 2, 2, 2)
        self.deep = nn.Conv3d(2, 2, 3, padding=1)
        self.up = nn.ConvTranspose3d(2, 2, 2, 2)
        self.last = nn.Conv3d(4, 1, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.cat([x, self.up(self.deep(self.down(x)))], dim=1))


class Folded(nn.Module):
    """N x C x T x H x W with 2-D convolutions on frames in the batch, then a convolution in time."""

    def __init__(self):
        super().__init__()
        self.space = nn.Conv2d(1, 2, 3, 2, 1)
        self.pool = nn.AvgPool2d(2)
        self.time = nn.Conv3d(2, 1, (3, 1, 1), dilation=(2, 1, 1))

    def forward(self, x):
        frames = self.pool(self.space(x.transpose(1, 2).flatten(0, 1)))
        return self.time(frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2))


class FrameByFrame(Folded):
    """The same, frame by frame, written into one tensor."""

    def forward(self, x):
        first = self.pool(self.space(x[:, :, 0]))
        frames = x.new_zeros(*first.shape[:2], x.shape[2], *first.shape[2:])
        for time in range(x.shape[2]):
            frames[:, :, time] = self.pool(self.space(x[:, :, time]))
        return self.time(frames)


def by_gradient(model, shape):
    """The extent of what one position of the output depends on, weights all one: largest over positions."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    output = model.double()(x)
    extents = []
    middle = [size // 2 for size in output.shape[2:]]
    for shift in range(-1, 2):
        place = [min(max(at + shift, 0), size - 1) for at, size in zip(middle, output.shape[2:], strict=True)]
        (gradient,) = torch.autograd.grad(output[0, 0][tuple(place)], x, retain_graph=True)
        used = gradient[0].sum(dim=0).nonzero()
        extents.append((used.amax(dim=0) - used.amin(dim=0) + 1).tolist())
    return tuple(map(max, zip(*extents, strict=True)))


def fields(model, shape):
    return {row.layer: row for row in receptive_fields(model, shape)}


@pytest.mark.parametrize(
    ("model", "last"),
    [
        (nn.Sequential(nn.Conv3d(1, 2, (3, 7, 7), (1, 2, 2), (1, 3, 3)), Residual(1), Residual(2)), "2.main.3"),
        (nn.Sequential(nn.Conv3d(1, 1, 3, dilation=(1, 2, 4)), nn.AvgPool3d(3, 2), nn.Conv3d(1, 1, (2, 3, 1))), "2"),
        (nn.Sequential(nn.Conv3d(1, 4, 3, groups=1), nn.Conv3d(4, 4, (1, 5, 3), groups=4)), "1"),
        (Branches(), "last"),
        (Decoder(), "last"),
        (Folded(), "time"),
        (FrameByFrame(), "time"),
        (nn.Sequential(nn.Conv3d(1, 1, 3, 2), nn.Upsample(scale_factor=2, mode="trilinear"), nn.Conv3d(1, 1, 3)), "2"),
        (nn.Sequential(nn.Conv3d(1, 1, 3, 2), nn.Upsample(scale_factor=2), nn.Conv3d(1, 1, 2)), "2"),
        (nn.Sequential(nn.Conv3d(1, 1, 3), nn.AdaptiveAvgPool3d((8, 10, 10)), nn.Conv3d(1, 1, 2)), "2"),
    ],
)
def test_a_field_is_what_a_position_depends_on(model, last):
    shape = (1, 1, 34, 42, 42)
    model.eval()
    assert fields(model, shape)[last].field == by_gradient(model, shape)


def test_r3d_18_reads_as_published():
    layers = [nn.Sequential(Residual(stride), Residual(1)) for stride in (1, 2, 2)]
    stem = nn.Conv3d(3, 2, (3, 7, 7), (1, 2, 2), (1, 3, 3))
    rows = fields(nn.Sequential(stem, *layers), (1, 3, 16, 112, 112))
    assert [rows[name].field for name in ("0", "1.1.main.3", "2.1.main.3", "3.1.main.3")] == [
        (3, 7, 7),
        (11, 23, 23),
        (25, 51, 51),
        (53, 107, 107),
    ]
    assert rows["3.1.main.3"].stride == (4, 8, 8)
    assert rows["3.1.main.3"].output == (4, 14, 14)
    assert rows["2.0.shortcut"].field == (11, 23, 23)


#: Columns SRF and TRF of tables 1 to 4 of arXiv 2009.07338, block by block.
SPACE = [3, 7, 15, 31, 47, 79, 111, 143]
TIME = {
    "conv2d": [1] * 8,
    "conv2d_xl": [1] * 8,
    "conv3d": [3, 5, 7, 9, 11, 13, 15, 17],
    "conv3d_xl": [3, 5, 7, 9, 11, 13, 15, 17],
    "ts_conv3d_xl": SPACE,
    "convlstm": [48] * 8,
    "convlstm_xl": [48] * 8,
}
PIXELS = [2, 4, 8, 8, 16, 16, 16, 16]


@pytest.mark.parametrize("name", TIME)
def test_the_networks_for_blinking_digits_read_as_in_their_papers_tables(name):
    networks = pytest.importorskip("zoo_spatiotemporal_mnist.networks")
    found = receptive_fields(networks.build(design=name), (1, 1, 48, 64, 64), blocks=True)
    blocks = [row for row in found if row.kind == "block" and row.layer.count(".") == 1]
    assert [block.layer for block in blocks] == [f"body.{row.name}" for row in networks.DESIGNS[name].rows]
    assert [block.field[0] for block in blocks] == TIME[name]
    assert [block.frame_field for block in blocks] == [(size, size) for size in SPACE]
    assert [block.stride[1:] for block in blocks] == [(size, size) for size in PIXELS]
    assert [block.output[1:] for block in blocks] == [(64 // size, 64 // size) for size in PIXELS]
    assert [block.stride[0] for block in blocks] == (PIXELS if name.startswith("ts") else [1] * 8)
    assert all(row.exact for row in found)
    if name.startswith("convlstm"):
        # From frame to frame, the recurrent convolution of one layer of all looks 2 positions further.
        history = [2 * 47 * stride for stride in PIXELS]
        assert [block.field[1] for block in blocks] == [a + b for a, b in zip(SPACE, history, strict=True)]
        assert all(block.whole == (True, False, False) for block in blocks)
        assert all(block.frames == tuple((0, frame) for frame in range(48)) for block in blocks)
    else:
        assert [block.field[1:] for block in blocks] == [(size, size) for size in SPACE]
        assert next(row for row in found if row.layer == "lstm").whole == (True, True, True)


class StackedConvLSTM(nn.Module):
    """Two convolutional LSTMs, the second behind a stride, written as loops over frames."""

    def __init__(self, write):
        super().__init__()
        self.write = write
        self.first, self.second = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(1, 4, 3, 2, 1)
        self.of_first, self.of_second = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(1, 4, 3, 1, 1)
        self.last = nn.Conv3d(1, 1, 1)

    def loop(self, x, conv, of_state):
        state = memory = x.new_zeros(())
        states, gathered = [], None
        for frame in x.unbind(2):
            gates = conv(frame)
            state = state.expand(gates[:, :1].shape)
            i, f, o, g = (gates + of_state(state)).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            state = o.sigmoid() * memory.tanh()
            if self.write:
                gathered = state.new_zeros(*state.shape[:2], x.shape[2], *state.shape[2:]) if not states else gathered
                gathered[:, :, len(states)] = state
            states.append(state)
        return gathered if self.write else torch.stack(states, 2)

    def forward(self, x):
        x = self.loop(x, self.first, self.of_first)
        return self.last(self.loop(x, self.second, self.of_second))


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_a_convolutional_recurrence_sees_what_its_gradient_sees(write, frames):
    torch.manual_seed(0)
    model, shape = StackedConvLSTM(write).double(), (1, 1, frames, 41, 41)
    rows = fields(model, shape)
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    output = model(x)
    (gradient,) = torch.autograd.grad(output[0, 0, -1, 10, 10], x)
    extents = []
    for frame in gradient[0, 0]:
        used = frame.nonzero()
        extents.append(tuple((used.amax(dim=0) - used.amin(dim=0) + 1).tolist()))
    assert rows["last"].field == (frames, *map(max, zip(*extents, strict=True)))
    assert rows["last"].frame_field == extents[-1]
    assert rows["last"].exact
    assert rows["last"].whole[0] == (frames > 1)
    assert rows["last"].frames == tuple((0, frame) for frame in range(frames))


def test_a_recurrence_by_hand_is_listed_with_its_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.after = ConvolutionalRecurrence(), nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0))

        def forward(self, x):
            return self.after(self.cell(x))

    torch.manual_seed(0)
    rows = {(row.layer, row.kind): row for row in receptive_fields(Net(), (1, 1, 6, 8, 8))}
    cell = rows["cell", "recurrence"]
    assert len([row for row in rows if row[0] == "cell"]) == 1  # its own convolution over time is part of it
    assert (cell.kernel, cell.field, cell.frame_field, cell.whole[0]) == ((6, 3, 3), (6, 13, 13), (3, 3), True)
    assert rows["after", "convolution"].frames == tuple((0, min(at + 1, 5)) for at in range(6))


@pytest.mark.parametrize(
    ("model", "last"), [(Decoder(), "last"), (Branches(), "last"), (Folded(), "time"), (FrameByFrame(), "time")]
)
def test_frames_are_those_that_change_a_position(model, last):
    torch.manual_seed(0)
    size = 24

    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(F.interpolate(x, (x.shape[2], size, size)))

    row = {row.layer: row for row in receptive_fields(Sized(), (1, 1, 16, 8, 8))}[f"model.{last}"]
    assert row.frames == by_change(Sized(), 16)


def test_a_trace_says_which_positions_of_a_layer_are_used():
    model = nn.Sequential(
        nn.Conv3d(1, 1, 3, (2, 1, 1), 1), nn.Conv3d(1, 1, (3, 1, 1), (2, 1, 1), (1, 0, 0)), nn.Conv3d(1, 1, 1)
    )
    found = trace(model, (1, 1, 12, 6, 6))
    first, second, last = found.followed
    assert [found.used(row, 1, first) for row in (first, second, last)] == [[], [1, 2, 3], [1, 2, 3]]
    assert [found.used(second, 1, row) for row in (second, last)] == [[], []]
    assert (found.stand(first), found.stand(second)) == ([0, 2, 4, 6, 8, 10], [0, 4, 8])
    assert (found.seen(second, 1), second.frames[1]) == ([1, 2, 3, 4, 5, 6, 7], (1, 7))


@pytest.mark.parametrize(("both", "frames"), [(False, [(0, 1), (0, 2), (0, 3), (0, 3)]), (True, [(0, 3)] * 4)])
def test_a_recurrent_layer_sees_the_past_and_in_both_directions_all(both, frames):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3, padding=1)
            self.lstm = nn.LSTM(2, 3, 2, batch_first=True, bidirectional=both)
            self.after = nn.Conv1d(3 + 3 * both, 1, 1)

        def forward(self, x):
            return self.after(self.lstm(self.conv(x).mean(dim=(3, 4)).transpose(1, 2))[0].transpose(1, 2))

    rows = fields(Net(), (1, 1, 4, 6, 6))
    assert rows["lstm"].frames == rows["after"].frames == tuple(frames)


def test_global_pooling_and_recurrence_see_whole_axes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 3, 3, padding=1)
            self.pool = nn.AdaptiveAvgPool3d((None, 1, 1))
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.lstm(self.pool(self.conv(x)).flatten(2).transpose(1, 2))[0]

    rows = fields(Net(), (2, 1, 8, 16, 12))
    assert (rows["pool"].field, rows["pool"].whole) == ((3, 16, 12), (False, True, True))
    assert (rows["pool"].kernel, rows["pool"].output) == ((1, 16, 12), (8, 1, 1))
    assert (rows["lstm"].kind, rows["lstm"].field) == ("recurrence", (8, 16, 12))


@pytest.mark.parametrize(
    ("pool", "field", "stride"),
    [
        (nn.AvgPool1d(3, 2), 7, 2),
        (nn.MaxPool1d(3, 2), 7, 2),
        (nn.LPPool1d(2, 3, 2), 7, 2),
        (nn.AdaptiveAvgPool1d(6), 6, 2),
        (nn.AdaptiveMaxPool1d(6), 6, 2),
        (nn.AdaptiveAvgPool1d(1), 12, 12),
        (nn.AdaptiveMaxPool1d(1), 12, 12),
    ],
)
def test_pooling_of_sequences_is_over_time(pool, field, stride):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.pool, self.last = nn.Conv3d(1, 2, 1), pool, nn.Conv1d(2, 1, 3, padding=1)

        def forward(self, x):
            return self.last(self.pool(self.first(x).mean(dim=(3, 4))))

    row = fields(Net(), (1, 1, 12, 16, 16))["last"]
    assert (row.field, row.stride[0], row.whole[0]) == ((field, 16, 16), stride, stride == 12)


class Mixing(nn.Module):
    """A convolution over three frames, something that mixes frames and is no layer, and a pointwise convolution."""

    def __init__(self, mix):
        super().__init__()
        self.first, self.mix, self.last = nn.Conv3d(1, 4, 3, padding=1), mix, nn.Conv3d(4, 2, 1)

    def forward(self, x):
        return self.last(self.mix(self.first(x)))


def shifted_channels(x):
    return torch.cat([F.pad(x[:, :1, 1:], (0, 0, 0, 0, 0, 1)), F.pad(x[:, 1:2, :-1], (0, 0, 0, 0, 1, 0)), x[:, 2:]], 1)


@pytest.mark.parametrize(
    ("mix", "field"),
    [
        (lambda x: x[:, :, 1:] - x[:, :, :-1], 4),
        (lambda x: x - x.roll(1, 2), 12),  # the first position sees the last frames
        (shifted_channels, 5),
        (lambda x: x.cumsum(2), 12),
        (lambda x: x.softmax(2), 12),
        (lambda x: torch.fft.fft(x, dim=2).abs(), 12),
        (lambda x: x.flip(2) + x, 12),
        (lambda x: torch.einsum("ncthw,ts->ncshw", x, torch.ones(12, 12)), 12),
    ],
)
def test_operations_that_mix_frames_are_found_out(mix, field):
    torch.manual_seed(0)
    rows = fields(Mixing(mix), (1, 1, 12, 8, 8))
    assert (rows["first"].field[0], rows["first"].exact) == (3, True)
    assert rows["last"].field[0] == field
    assert rows["last"].whole[0] or not rows["last"].exact or rows["last"].frames == by_change(Mixing(mix), 12)


def by_change(model, frames):
    """For each position, the first and the last frame whose change changes it, found by changing each."""
    model = model.double().eval()
    clip = torch.rand(1, 1, frames, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        before = model(clip)
        seen = []
        for frame in range(frames):
            changed = clip.clone()
            changed[:, :, frame] = 3 * torch.rand(8, 8)
            seen.append((model(changed) != before)[0].any(dim=(0, 2, 3)))
    found = torch.stack(seen, 1)
    return tuple((int(at[0]), int(at[-1])) for at in (row.nonzero().flatten() for row in found))


@pytest.mark.parametrize(
    ("model", "take", "stride"),
    [
        (nn.Conv3d(1, 2, 3, padding=1), lambda x: x[:, :, ::4], 4),
        (nn.Conv3d(1, 2, 3, padding=1), lambda x: x.index_select(2, torch.tensor([0, 5, 10, 15])), 5),
        (nn.Conv2d(1, 2, 3, padding=1), lambda x: x[:, :, ::4].transpose(1, 2).flatten(0, 1), 4),
    ],
)
def test_frames_left_out_widen_stride_and_field(model, take, stride):
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = model

        def forward(self, x):
            return self.conv(take(x))

    row = fields(Sparse(), (1, 1, 16, 8, 8))["conv"]
    assert (row.stride[0], row.exact) == (stride, True)
    if row.kernel[0] == 3:
        assert row.frames == by_change(Sparse(), 16)


class ConvolutionalRecurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates, self.after = nn.Conv2d(3, 2, 3, padding=1), nn.Conv3d(2, 2, 1)

    def forward(self, x):
        state, states = x.new_zeros(1, 2, *x.shape[3:]), []
        for frame in x.unbind(2):
            state = torch.tanh(self.gates(torch.cat([frame, state], 1)))
            states.append(state)
        return self.after(torch.stack(states, 2))


class CellOverFrames(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.cell, self.after = nn.Conv2d(1, 3, 3, padding=1), nn.LSTMCell(3, 4), nn.Conv1d(4, 2, 1)

    def forward(self, x):
        state, states = None, []
        for frame in x.unbind(2):
            state = self.cell(self.conv(frame).mean(dim=(2, 3)), state)
            states.append(state[0])
        return self.after(torch.stack(states, 2))


def test_recurrences_written_by_hand_are_found_out():
    torch.manual_seed(0)
    rows = fields(ConvolutionalRecurrence(), (1, 1, 10, 8, 8))
    assert (rows["gates"].field[0], rows["gates"].whole[0]) == (10, True)
    assert (rows["after"].field, rows["after"].frame_field) == ((10, 21, 21), (3, 3))
    assert rows["after"].exact
    rows = fields(CellOverFrames(), (1, 1, 10, 8, 8))
    assert (rows["conv"].field[0], rows["conv"].exact) == (1, True)
    assert rows["after"].whole[0] or not rows["after"].exact


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv3d(4, 2, 3)),
        nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 3)),
        nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 4, 3, 2), nn.Conv3d(4, 2, 3, 2)),
        nn.Sequential(*[nn.Conv3d(1, 1, 2, 2) for _ in range(3)]),
        nn.Sequential(nn.AdaptiveAvgPool3d((7, 8, 8)), nn.Conv3d(1, 1, 3)),
        nn.Conv3d(1, 1, 1, 7),
        nn.Sequential(nn.Conv3d(1, 2, 3, padding=1, padding_mode="replicate"), nn.Conv3d(2, 1, 3)),
        nn.Sequential(nn.ReflectionPad3d(1), nn.Conv3d(1, 2, 3), nn.Conv3d(2, 1, 3)),
        Mixing(
            lambda x: F.pad(x.transpose(1, 2).flatten(0, 1), (1,) * 4, "reflect").unflatten(0, (1, -1)).transpose(1, 2)
        ),
        Decoder(),
        Branches(),
        Folded(),
        FrameByFrame(),
    ],
)
def test_layers_that_are_followed_are_exact(model):
    torch.manual_seed(0)
    assert all(row.exact for row in receptive_fields(model, (1, 1, 22, 24, 24)))


def test_a_recurrent_layer_on_flattened_frames_sees_them_whole():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3, padding=1)
            self.gru = nn.GRU(2 * 4 * 4, 3, batch_first=True)

        def forward(self, x):
            return self.gru(self.conv(x).transpose(1, 2).flatten(2))[0]

    assert fields(Net(), (1, 1, 6, 4, 4))["gru"].field == (6, 4, 4)


def test_a_gate_from_a_global_mean_makes_what_follows_see_everything():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate, self.last = nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 3)

        def forward(self, x):
            x = self.first(x)
            return self.last(x * self.gate(x.mean(dim=(2, 3, 4), keepdim=True)).sigmoid())

    rows = fields(Gated(), (1, 1, 8, 16, 16))
    assert rows["first"].whole == (False, False, False)
    assert rows["last"].whole == (True, True, True)
    assert rows["last"].field == (8, 16, 16)
    assert rows["last"].stride == (1, 1, 1)


def test_attention_mixes_all_positions():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8))
            self.attention = nn.TransformerEncoderLayer(8, 2, batch_first=True)
            self.after = nn.Conv3d(8, 8, 1)

        def forward(self, x):
            y = self.patches(x)
            tokens = self.attention(y.flatten(2).transpose(1, 2))
            return self.after(tokens.transpose(1, 2).reshape(y.shape))

    rows = fields(Tokens(), (1, 3, 8, 32, 32))
    assert rows["patches"].field == (2, 8, 8)
    assert (rows["after"].field, rows["after"].whole) == ((8, 32, 32), (True, True, True))


def test_pooling_is_listed_with_its_kind_and_functions_under_their_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool3d(3, 2, dilation=2)
            self.block = Functional()

        def forward(self, x):
            return self.block(self.pool(x))

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1, 3, 3, 3))

        def forward(self, x):
            return F.conv3d(x, self.weight, stride=(1, 2, 2))

    rows = fields(Net(), (1, 1, 20, 24, 24))
    assert (rows["pool"].kind, rows["pool"].field, rows["pool"].stride) == ("max pooling", (5, 5, 5), (2, 2, 2))
    assert (rows["block"].kind, rows["block"].field, rows["block"].stride) == ("convolution", (9, 9, 9), (2, 4, 4))


def test_a_layer_used_twice_is_listed_once_with_its_largest_field():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x))

    rows = receptive_fields(Twice(), (1, 1, 8, 8, 8))
    assert [(row.layer, row.field) for row in rows] == [("conv", (5, 5, 5))]


def test_images_and_clips_with_time_before_channels(nets):
    image = fields(nn.Sequential(nn.Conv2d(3, 2, 3, 2), nn.MaxPool2d(3)), (1, 3, 20, 20))
    assert (image["1"].field, image["1"].stride) == ((1, 7, 7), (1, 6, 6))
    folded = nets.FoldedFrames()
    folded.zoo_entry = nets.entry("NTCHW")
    rows = fields(folded, (3, 5, 2, 6, 6))
    assert (rows["conv"].field, rows["conv"].output) == ((1, 3, 3), (5, 6, 6))


def test_the_model_is_left_as_found_also_on_failure(nets):
    model = nets.TwoHeads()
    found = nets.fingerprint(model)
    receptive_fields(model, (2, 1, 4, 6, 6))
    assert nets.fingerprint(model) == found
    with pytest.raises(ModelError):
        receptive_fields(model, (2, 3, 4, 6, 6))
    assert nets.fingerprint(model) == found
    with pytest.raises(UsageError):
        receptive_fields(model, (2, 3))


@pytest.mark.parametrize("dims", [2, 3])
def test_pooling_to_one_position_is_listed(dims):
    pool = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dims](1)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims](1, 4, 3)
    *_, last = receptive_fields(nn.Sequential(conv, pool, nn.Flatten(), nn.Linear(4, 2)), (1, 1, 8, 16, 16)[: dims + 2])
    assert (last.layer, last.kind) == ("1", "average pooling")
    assert last.whole[1:] == (True, True)


def test_time_that_cannot_be_followed_is_not_called_exact():
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.last(self.first(x).unflatten(2, (6, 2)).mean(3))

    rows = fields(Pairs(), (1, 1, 12, 6, 6))
    assert (rows["first"].exact, rows["last"].exact, rows["last"].frames) == (True, False, None)


class ChannelsLast(nn.Module):
    """A convolution, layers over channels that stand last, as in ConvNeXt's blocks, and a convolution."""

    def __init__(self, dims, width, mix="plain"):
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.mix = mix
        self.first = convolution(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.wide = nn.Linear(8, width)
        self.narrow = nn.Linear(width // 2 if mix == "gated" else width, 8)
        self.last = convolution(8, 8, 3, padding=1)

    def forward(self, x):
        y = self.wide(self.norm(self.first(x).movedim(1, -1)))
        if self.mix == "gated":
            y, gate = y.chunk(2, dim=-1)
            y = y * gate.sigmoid()
        return self.last(self.narrow(F.gelu(y)).movedim(-1, 1))


@pytest.mark.parametrize("mix", ["plain", "gated"])
@pytest.mark.parametrize("width", [6, 8, 16, 32])
@pytest.mark.parametrize(
    ("dims", "shape", "field"), [(2, (1, 3, 32, 32), (1, 5, 5)), (3, (1, 3, 8, 24, 24), (5, 5, 5))]
)
def test_layers_over_channels_that_stand_last_widen_nothing(dims, shape, field, width, mix):
    found = fields(ChannelsLast(dims, width, mix), shape)["last"]
    assert (found.field, found.whole, found.exact) == (field, (False, False, False), True)


def test_blocks_of_convnext_read_as_their_gradients():
    torchvision = pytest.importorskip("zoo_torchvision")
    assert torchvision
    import zoo

    rows = fields(zoo.load("convnext_tiny", weights=None), (1, 3, 128, 128))
    for name, field in {"features.1.1.block.0": 52, "features.1.2.block.0": 76, "features.2.1": 80}.items():
        assert (rows[name].field, rows[name].whole[1:], rows[name].exact) == ((1, field, field), (False, False), True)


def test_a_linear_layer_over_flattened_frames_mixes_no_frames():
    class PerFrame(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 2, 3, padding=1)
            self.flat = nn.Linear(2 * 64, 6)
            self.last = nn.Conv1d(6, 6, 3, padding=1)

        def forward(self, x):
            y = self.first(x.transpose(1, 2).flatten(0, 1)).flatten(1).unflatten(0, (len(x), -1))
            return self.last(self.flat(y).transpose(1, 2))

    found = fields(PerFrame(), (1, 1, 12, 8, 8))["last"]
    assert (found.field, found.whole, found.exact) == ((3, 8, 8), (False, True, True), True)


@pytest.mark.parametrize(
    ("between", "field"),
    [
        (lambda y: y.cumsum(4), None),  # reaches further than a window
        (lambda y: torch.fft.ifft(torch.fft.fft(y, dim=3) * torch.arange(24)[:, None], dim=3).real, None),
        (lambda y: y.sort(dim=4).values, None),
        (lambda y: F.pad(y, (1,) * 6, mode="reflect")[..., 1:-1, 1:-1, 1:-1], (5, 5, 5)),
    ],
)
def test_exact_is_what_gradients_confirm_along_rows_and_columns(between, field):
    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.last(between(self.first(x)))

    model = Between()
    found = fields(model, (1, 1, 8, 24, 24))
    assert found["first"].exact
    assert found["last"].exact == (field is not None)
    if field is not None:
        assert found["last"].field == field
    else:
        assert max(found["last"].field[1:]) > 5


def test_an_overestimate_is_corrected_by_gradients():
    class Padded(nn.Module):
        """Looks through a window of 9 columns of which three have weights."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, (1, 1, 9), padding=(0, 0, 4))
            self.conv.weight.data[..., :3] = 0
            self.conv.weight.data[..., 6:] = 0

        def forward(self, x):
            return self.conv(x)

    found = fields(Padded(), (1, 1, 4, 8, 24))["conv"]
    assert (found.field, found.exact) == ((1, 1, 3), False)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("spread", [1, 2])
def test_maxima_and_dead_units_hide_nothing_from_gradients(ceil, spread):
    model = nn.Sequential(
        nn.Conv3d(1, 1, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(3, 2, 1, dilation=spread, ceil_mode=ceil),
        nn.Conv3d(1, 1, 3, padding=1),
        nn.ReLU6(),
        nn.GroupNorm(1, 1),
        nn.AdaptiveMaxPool3d((3, 4, 4)),
        nn.Conv3d(1, 1, 1),
    )
    model[0].bias.data.fill_(-10.0)  # no unit is active
    found = receptive_fields(model, (1, 1, 22, 25, 25))
    assert [row.exact for row in found if row.layer in {"0", "2", "3"}] == [True] * 3


def test_what_has_no_gradient_is_not_called_exact():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1)

        def forward(self, x):
            return self.last(self.first(x).detach())

    found = fields(Detached(), (1, 1, 8, 12, 12))
    assert [found[name].exact for name in ("first", "last")] == [True, False]
    assert found["last"].field == (5, 5, 5)


def test_layers_beyond_the_bound_of_work_are_not_called_exact(monkeypatch):
    from explain.fields import gradients

    model = nn.Sequential(*(nn.Conv3d(1, 1, 3, padding=1) for _ in range(4)))
    found = receptive_fields(model, (1, 1, 8, 12, 12))
    assert [row.exact for row in found] == [True] * 4
    made = 4 * 8 * 12 * 12
    monkeypatch.setattr(gradients, "LARGEST_WORK", 2 * made)
    again = receptive_fields(model, (1, 1, 8, 12, 12))
    assert [row.exact for row in again] == [True, True, False, False]
    assert [row.field for row in again] == [row.field for row in found]


def test_windows_that_always_lie_alike_behind_upsampling_are_corrected():
    model = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv3d(1, 2, 3), nn.MaxPool3d(2), nn.Conv3d(2, 2, 2))
    found = fields(model, (1, 1, 22, 24, 24))
    assert [(found[name].field, found[name].exact) for name in "123"] == [
        ((2, 2, 2), True),
        ((2, 2, 2), False),  # windows of the pooling begin at every second position, so that none reaches a third
        ((3, 3, 3), False),
    ]
