"""The drawing of what one unit depends on: units and lines against the windows that the layers are made of."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from explain.drawing.fields import draw_temporal, temporal_field, write_temporal
from explain.fields.theoretical import trace
from zoo.errors import UnknownNameError, UsageError


class Strided(nn.Sequential):
    """Windows of three frames: two of them strided in time, and a pointwise convolution that is not drawn."""

    def __init__(self):
        super().__init__(
            nn.Conv3d(1, 1, 3, (2, 1, 1), 1), nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, (3, 1, 1), (2, 1, 1), (1, 0, 0))
        )


class WithLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv3d(1, 2, 3, padding=1), nn.AdaptiveAvgPool3d((None, 1, 1))
        self.lstm = nn.LSTM(2, 3, batch_first=True)

    def forward(self, x):
        return self.lstm(self.pool(self.conv(x)).flatten(2).transpose(1, 2))[0][:, -1]


def field(model, *unit, shape=(1, 1, 12, 6, 6)):
    torch.manual_seed(0)
    return temporal_field(trace(model, shape), *unit)


def test_a_unit_depends_on_the_windows_below_it():
    drawn = field(Strided())
    assert (drawn.layer, drawn.position, drawn.seen) == ("2", 1, list(range(1, 8)))
    first, last = drawn.levels
    assert (first.row.layer, last.row.layer) == ("0", "2")
    assert (first.stand, last.stand) == ([0, 2, 4, 6, 8, 10], [0, 4, 8])
    assert (first.used, last.used) == ([1, 2, 3], [1])
    assert last.reads == {1: [1, 2, 3]}
    assert first.reads == {1: [1, 2, 3], 2: [3, 4, 5], 3: [5, 6, 7]}
    data = drawn.data
    assert (data["first_frame"], data["last_frame"]) == (1, 7)
    assert [(row["stride"], row["first_frame"], row["last_frame"]) for row in data["layers"]] == [(2, 2, 6), (4, 4, 4)]
    assert drawn.sentence == "Unit 1 of 2 depends on frames 1 to 7 of 12."


def test_the_deepest_layer_below_a_recurrent_one_is_drawn_and_all_that_the_recurrent_one_reads():
    drawn = field(WithLSTM())
    assert (drawn.layer, drawn.position, drawn.seen) == ("conv", 6, [5, 6, 7])
    conv, lstm = drawn.levels
    assert (conv.used, lstm.used, lstm.recurrent) == ([6], [], True)
    assert lstm.reads == {at: [at] for at in range(12)}


def test_a_unit_of_a_recurrent_layer_depends_on_all_before_it_by_way_of_its_state():
    drawn = field(WithLSTM(), "lstm", 4)
    assert drawn.seen == list(range(6))
    conv, lstm = drawn.levels
    assert lstm.used == conv.used == list(range(5))
    assert lstm.reads == {at: [at] for at in range(5)}
    assert conv.reads[0] == [0, 1]
    assert conv.reads[4] == [3, 4, 5]


def test_a_recurrence_by_hand_hides_its_parts_and_its_last_unit_is_taken():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.entering, self.of_state = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            states = []
            for frame in x.unbind(2):
                before = self.of_state(states[-1]) if states else 0
                states.append(torch.tanh(self.entering(frame) + before))
            return torch.stack(states, 2)

    drawn = field(nn.Sequential(Loop(), nn.Identity()), shape=(1, 1, 5, 6, 6))
    assert [(level.row.layer, level.row.kind) for level in drawn.levels] == [("0", "recurrence")]
    assert (drawn.position, drawn.seen, drawn.levels[0].used) == (4, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert drawn.levels[0].reads == {at: [at] for at in range(5)}


def test_many_layers_are_few_in_the_drawing_the_chosen_one_among_them():
    model = nn.Sequential(*[nn.Conv3d(1, 1, (3 if at % 2 else 1, 3, 3), padding="same") for at in range(40)])
    drawn = field(model, "6", 3)
    layers = [int(level.row.layer) for level in drawn.levels]
    assert len(layers) == 12
    assert layers == sorted(layers)
    assert 6 in layers
    assert all(layer % 2 for layer in layers if layer != 6)


def test_nothing_is_drawn_of_images_and_of_what_cannot_be_followed():
    assert field(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)), shape=(1, 1, 8, 8)) is None


def test_a_unit_in_the_padding_depends_on_nothing():
    drawn = field(nn.Sequential(nn.Conv3d(1, 1, (2, 3, 3), padding=(2, 1, 1))), "0", 0)
    assert (drawn.seen, drawn.data["first_frame"], drawn.data["last_frame"]) == ([], None, None)
    assert drawn.sentence == "Unit 0 of 0 depends on no frame of 12."
    assert "no frame of 12" in draw_temporal(drawn)


def test_a_unit_that_is_not_there_is_refused():
    with pytest.raises(UnknownNameError, match="known: 0, 2"):
        field(Strided(), "3")
    with pytest.raises(UsageError, match="positions 0 to 2"):
        field(Strided(), "2", 3)


def test_a_unit_of_a_block_depends_on_what_its_layers_and_the_path_around_them_read():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = (nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0)) for _ in range(2))

        def forward(self, x):
            return x + self.two(self.one(x))

    model = nn.Sequential(nn.Conv3d(1, 1, 1), Residual(), nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0)))
    drawn = temporal_field(trace(model, (1, 1, 12, 6, 6), blocks=True), "1", 5)
    assert [(level.row.layer, level.used) for level in drawn.levels] == [
        ("1.one", [4, 5, 6]),
        ("1.two", [5]),
        ("1", [5]),
        ("2", []),
    ]
    assert drawn.seen == [3, 4, 5, 6, 7]
    assert drawn.levels[2].reads == {5: [5]}
    assert "Unit 5 of 1 depends on frames 3 to 7 of 12." in draw_temporal(drawn)


def test_a_layer_that_cannot_be_drawn_is_refused_with_those_that_can():
    with pytest.raises(UsageError, match=r"^1 cannot be drawn: .*one position alone; these layers can: 0, 2$"):
        field(Strided(), "1")
    with pytest.raises(UsageError, match=r"^pool cannot be drawn: .*; these layers can: conv, lstm$"):
        field(WithLSTM(), "pool")
    images = nn.Sequential(nn.Conv2d(1, 1, 3))
    with pytest.raises(UsageError, match=r"^0 cannot be drawn: .*; nor can any other layer$"):
        field(images, "0", shape=(1, 1, 8, 8))


def test_the_drawing_names_its_layers_and_is_the_same_each_time():
    drawn = draw_temporal(field(WithLSTM()))
    assert drawn == draw_temporal(field(WithLSTM()))
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {"conv", "lstm", "frames of the clip", "3 frames", "all frames so far"} <= set(texts)
    assert 'aria-label="Unit 6 of conv depends on frames 5 to 7 of 12."' in drawn


def test_a_file_of_its_own_needs_no_page():
    text = write_temporal(field(WithLSTM()))
    ElementTree.fromstring(text)
    assert "var(--" not in text
    assert "prefers-color-scheme: dark" in text
