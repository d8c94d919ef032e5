"""What a layer's parameters do to the pattern that one sees."""

import math

import pytest
import torch

from explain.temporal import LayerParameters, TemporalParameters, tables


def layer(name="one", kind="3tconv", size=(2, 7, 7), s=1.0, r=0.0, x=0.0, y=0.0, identified=None, **fitted):
    """One step of some filters."""
    values = [torch.as_tensor(value, dtype=torch.float64).reshape(1, -1) for value in (s, r, x, y)]
    filters = max(value.numel() for value in values)
    scale, rotation, across, down = (value.expand(1, filters) for value in values)
    known = torch.ones(1, filters, dtype=torch.bool) if identified is None else torch.tensor([identified])
    return LayerParameters(
        name=name,
        kind=kind,
        kernel_size=size,
        scale=scale,
        rotation=rotation,
        translate_x=across,
        translate_y=down,
        identified=known,
        **fitted,
    )


def centre(slices):
    """Centre of mass (x, y) in pixels from the centre."""
    k = slices.shape[-1]
    at = torch.arange(k).double() - (k - 1) / 2
    mass = slices.sum(dim=(-2, -1))
    return (slices.sum(dim=-2) * at).sum(-1) / mass, (slices.sum(dim=-1) * at).sum(-1) / mass


def blob(k, x, y, width=2.0):
    """A Gaussian around (x, y) pixels from the centre."""
    at = torch.arange(k).double() - (k - 1) / 2
    return torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * width**2)).reshape(1, 1, k, k)


@pytest.mark.parametrize(
    ("s", "r", "x", "y"), [(1, 0, 0.2, -0.3), (1.2, 0, 0, 0), (1, 0.5, 0, 0), (0.9, -0.4, 0.1, 0.2)]
)
def test_the_pattern_does_what_resampling_makes_of_a_blob(motion, s, r, x, y):
    k, start = 25, (4.0, -2.0)
    planted = torch.tensor([s, r, x, y]).double().reshape(4, 1, 1)
    ended = motion.moved(blob(k, *start), planted)[:, :, 1]
    pattern = layer(size=(2, k, k), s=s, r=r, x=x, y=y).pattern()
    angle = math.radians(float(pattern.rotation))  # clockwise on screen: with y down, x turns towards y
    turned = (
        start[0] * math.cos(angle) - start[1] * math.sin(angle),
        start[0] * math.sin(angle) + start[1] * math.cos(angle),
    )
    at = [float(c) for c in centre(ended)]
    assert at[0] == pytest.approx(float(pattern.scale) * turned[0] + float(pattern.x_pixels), abs=0.05)
    assert at[1] == pytest.approx(float(pattern.scale) * turned[1] + float(pattern.y_pixels), abs=0.05)


def test_units_and_signs_of_the_pattern():
    pattern = layer(s=1.25, r=0.1, x=0.5, y=-0.25).pattern()
    assert float(pattern.scale) == 0.8
    assert float(pattern.rotation) == pytest.approx(-5.729578)
    assert (float(pattern.x_pixels), float(pattern.y_pixels)) == (-1.5, 0.75)
    assert (float(pattern.x_widths), float(pattern.y_widths)) == (-1.5 / 7, 0.75 / 7)
    wide = layer(size=(2, 5, 9), x=0.5, y=-0.5).pattern()
    assert (float(wide.x_pixels), float(wide.y_pixels)) == (-2, 1)
    assert (float(wide.x_widths), float(wide.y_widths)) == (-2 / 9, 1 / 5)
    still = layer().pattern()
    assert [str(float(value)) for value in (still.rotation, still.x_pixels, still.y_pixels)] == ["0.0"] * 3


def test_the_path_is_that_of_the_centre_through_all_steps(motion):
    planted = torch.tensor([[1.1, 0.95], [0.3, -0.5], [0.2, -0.1], [0.1, 0.25]]).double().unsqueeze(2)
    slices = motion.moved(blob(25, 0, 0), planted)
    whole = LayerParameters(
        name="",
        kind="3tconv",
        kernel_size=(3, 25, 25),
        **dict(zip(motion.NAMES, planted, strict=True)),
        identified=torch.ones(2, 1, dtype=torch.bool),
    )
    path = whole.pattern().path()
    assert path.shape == (3, 1, 2)
    x, y = centre(slices[:, 0])
    torch.testing.assert_close(path[:, 0], torch.stack([x[0], y[0]], dim=1), atol=0.03, rtol=0)


def test_statistics_are_those_of_the_deviations_from_identity_signed_and_absolute():
    found = layer(s=[1.1, 0.9, 1.3, 1.1], x=[0.1, -0.1, 0.1, -0.1]).statistics()
    scale = found.parameters["scale"]
    assert scale.mean == pytest.approx(0.1)
    assert scale.std == pytest.approx(math.sqrt(0.02))
    assert scale.absolute_mean == pytest.approx(0.15)
    assert scale.absolute_std == pytest.approx(math.sqrt(0.0075))
    shift = found.pattern["x_pixels"]
    assert (shift.mean, shift.std) == (pytest.approx(0), pytest.approx(0.3))
    assert (shift.absolute_mean, shift.absolute_std) == (pytest.approx(0.3), pytest.approx(0))
    assert (found.filters, found.motions, found.identified, found.r2) == (4, 4, 1.0, None)


def test_statistics_count_identified_motions_alone_and_of_a_model_every_motion_alike():
    r2 = torch.tensor([[0.9, 0.2, 0.8]], dtype=torch.float64)
    fitted = layer("two", "fit", s=[1.2, 1.9, 1.4], identified=[True, False, True], r2=r2, r2_still=r2 / 2)
    found = fitted.statistics()
    assert found.parameters["scale"].mean == pytest.approx(0.3)
    assert (found.identified, found.r2, found.r2_still) == (pytest.approx(2 / 3), 0.8, 0.4)
    both = TemporalParameters(layers={"one": layer(s=[1.0]), "two": fitted}).statistics()
    assert both.parameters["scale"].mean == pytest.approx(0.2)
    assert (both.filters, both.identified, both.r2) == (4, 0.75, 0.8)


def test_nothing_identified_has_no_mean_and_the_table_shows_none():
    r2 = torch.tensor([[0.1]], dtype=torch.float64)
    alone = TemporalParameters(layers={"one": layer("one", "fit", identified=[False], r2=r2, r2_still=r2)})
    assert math.isnan(alone.statistics().parameters["scale"].absolute_mean)
    assert tables.absolute_table(alone)[1][1] == ["one", "fit", "2 x 7 x 7", "1", "0.0 %", "0.100", "0.100", *["-"] * 4]


def test_next_to_nothing_has_no_minus_in_a_table():
    found = TemporalParameters(layers={"one": layer(s=1 + 1e-9, r=1e-9, x=1e-9)})
    assert tables.signed_table(found)[1][1][1:] == ["+0.00 / 0.00"] * 4


def test_tables_are_in_the_units_they_name():
    found = TemporalParameters(layers={"one": layer(s=1.25, r=-0.1, x=0.5)})
    header, rows = tables.absolute_table(found)
    assert header == ["layer", "kind", "kernel", "filters", "s", "r", "tx", "ty"]
    assert rows[0] == [
        "all layers",
        "3tconv",
        "-",
        "1",
        "250.00 / 0.00",
        "100.00 / 0.00",
        "500.00 / 0.00",
        "0.00 / 0.00",
    ]
    assert tables.signed_table(found)[1][1] == [
        "one",
        "-20.00 / 0.00",
        "+5.73 / 0.00",
        "-1.50 / 0.00",
        "+0.00 / 0.00",
    ]
