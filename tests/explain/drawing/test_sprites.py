"""Pictures of a page: what goes in is what is shown, frame by frame."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from explain.drawing import colours
from explain.drawing.sprites import Sprite, animation, clip_sprite, overlay_sprite


def cell(sprite, frame):
    """One frame cut out of a sprite's sheet, as RGBA."""
    sheet = np.asarray(Image.open(io.BytesIO(sprite.content)).convert("RGBA"))
    height, width = sprite.size
    row, column = divmod(frame, sprite.columns)
    return sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 16, 48, 49])
def test_every_frame_of_a_grey_clip_stands_in_its_cell(count):
    frames = noise(count, 5, 7, 1)
    sprite = clip_sprite("clip", frames)
    assert (sprite.frames, sprite.size, sprite.mime) == (count, (5, 7), "image/png")
    for frame in range(count):
        assert (cell(sprite, frame)[..., :3] == frames[frame]).all()


@pytest.mark.parametrize(("side", "mime", "off"), [(16, "image/png", 0), (128, "image/webp", 3)])
def test_a_colour_clip_keeps_its_colours(side, mime, off):
    frames = np.zeros((3, side, side, 3), dtype=np.uint8)
    frames[0, ..., 0] = frames[1, ..., 1] = frames[2, ..., 2] = 255
    sprite = clip_sprite("clip", frames)
    assert sprite.mime == mime
    for frame in range(3):
        assert abs(cell(sprite, frame)[..., :3].astype(int) - frames[frame]).mean() <= off


def test_a_large_clip_is_shown_smaller():
    sprite = clip_sprite("clip", noise(32, 448, 448, 1))
    assert sprite.size == (149, 149)


def test_an_overlay_is_transparent_at_zero_and_opaque_at_its_scale():
    values = np.array([[[0.0, 1.0, -1.0, 0.3]]])
    pixels = cell(overlay_sprite("map", values, colours.signed()), 0)[0]
    assert pixels[0, 3] == 0
    assert pixels[1, 3] == pixels[2, 3] == 255
    assert 0 < pixels[3, 3] < 255
    assert pixels[1, 0] > pixels[1, 2], "red speaks for"
    assert pixels[2, 2] > pixels[2, 0], "blue speaks against"


def test_a_magnitude_grows_lighter_and_more_opaque():
    palette = colours.magnitude().palette.astype(float)
    light = palette[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(light) >= -1.0).all()
    assert (np.diff(palette[:, 3]) >= 0).all()
    assert (palette[0, 3], palette[-1, 3]) == (0, 255)


def test_values_outside_the_range_take_the_nearest_colour():
    assert colours.signed().indices(np.array([-9.0, 9.0])).tolist() == [0, 255]


def test_positions_point_at_the_cell():
    sprite = Sprite(name="a", mime="image/png", content=b"", frames=24, columns=12, size=(1, 1))
    assert sprite.position(0) == "0.0000% 0.0000%"
    assert sprite.position(23) == "100.0000% 100.0000%"
    assert sprite.position(12) == "0.0000% 100.0000%"


@pytest.mark.parametrize("name", ["", "A", "a b", "a}", "1a", "a_b"])
def test_a_sprite_name_is_a_plain_class_name(name):
    with pytest.raises(ValueError, match="sprite name"):
        clip_sprite(name, noise(1, 2, 2, 1))


def test_an_animation_holds_every_frame():
    image = Image.open(io.BytesIO(animation(noise(5, 4, 4, 1), frames_per_second=12, scale=3)))
    assert (image.n_frames, image.size) == (5, (12, 12))


def test_a_still_is_enlarged_dimmed_under_a_map_and_painted_where_the_map_says():
    from explain.drawing.sprites import still

    frame = np.full((8, 16, 1), 200, dtype=np.uint8)
    plain = np.asarray(Image.open(io.BytesIO(still(frame))))
    assert plain.shape == (8 * 16, 16 * 16, 3)
    assert (plain == 200).all()
    values = np.zeros((8, 16))
    values[2, 3] = 1.0
    painted = np.asarray(Image.open(io.BytesIO(still(frame, values, colours.magnitude()))))
    assert painted[2 * 16, 3 * 16].tolist() == colours.magnitude().palette[255, :3].tolist()
    assert painted[0, 0].tolist() == [120] * 3
    red = np.asarray(Image.open(io.BytesIO(still(np.full((300, 400, 3), [9, 5, 1], dtype=np.uint8)))))
    assert red.shape == (300, 400, 3)
    assert red[0, 0].tolist() == [9, 5, 1]
