"""One result of each kind, made up: what is drawn of them is known."""

from __future__ import annotations

import pytest
import torch

from explain.attribution import Attribution
from explain.attribution.maps import over_time
from explain.faithfulness import Faithfulness
from explain.faithfulness.results import Curves, Randomized, Verdict
from explain.fields.effective import EffectiveField
from explain.maximization import Maximization, TopClip, TopClips
from explain.maximization.unit_views import UnitView
from explain.model.targets import Target
from explain.robustness.results import Curve, Measure, Robustness
from explain.temporal import LayerParameters, TemporalParameters

#: A label that would do harm if it were not escaped.
HARMFUL = "<img src=x onerror=\"document.title='harmed'\">"


def attribution(frames=12, samples=2, **fields):
    """Sample 0 looks at one pixel of frame 5, for it; sample 1 at one of frame 9, against it and less for it."""
    heat = torch.zeros(samples, frames, 6, 8)
    heat[0, min(5, frames - 1), 2, 3] = 2.0
    heat[-1, min(9, frames - 1), 1, 1], heat[-1, min(9, frames - 1), 4, 6] = -4.0, 1.0
    clip = torch.full((samples, 1, frames, 6, 8), 100, dtype=torch.uint8)
    given = {
        "method": "integrated_gradients",
        "target": Target(
            descriptions=(f"shape = {HARMFUL}", *["shape = flat"] * (samples - 1)), value=torch.ones(samples)
        ),
        "raw": heat[:, None],
        "map": heat,
        "time": over_time(heat),
        "delta": torch.full((samples,), 0.25),
        "settings": {"baseline": None, "n_steps": 32, "window": (1, 2, 3)},
        "clip": clip,
    }
    return Attribution(**{**given, **fields})


def curves(kind="both"):
    at = torch.linspace(0, 1, 5, dtype=torch.float64)
    own = torch.stack([1 - at, (1 - at) ** 2])
    draws = torch.stack([own + 0.1, own + 0.3])
    return Curves(
        kind=kind,
        removed=at,
        shown=at,
        deletion=own,
        insertion=own.flip(1),
        random_deletion=draws,
        random_insertion=draws.flip(2),
        centre_deletion=own + 0.2,
        centre_insertion=own.flip(1) - 0.2,
    )


def faithfulness(**fields):
    given = {
        "method": "saliency",
        "target": HARMFUL,
        "value": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "empty": torch.zeros(2, dtype=torch.float64),
        "curves": {kind: curves(kind) for kind in ("spatial", "temporal", "both")},
        "measures": {"infidelity": torch.tensor([0.5, float("nan")], dtype=torch.float64)},
        "randomization": tuple(
            Randomized(layer=f"layer{depth}", depth=depth, correlation=torch.tensor([value, value - 0.2]))
            for depth, value in ((1, 0.9), (3, 0.5), (4, 0.1))
        ),
        "verdict": Verdict(
            word="flagged", parts={"model": ("flagged", "It does not depend."), "deletion": ("passes", "It finds.")}
        ),
        "missing": {"sensitivity": "nobody knows the method"},
        "settings": {"steps": 4, "remade": {}},
    }
    return Faithfulness(**{**given, **fields})


def temporal(still=False):
    generator = torch.Generator().manual_seed(0)

    def drawn(about, spread):
        values = about + spread * torch.randn(2, 6, generator=generator, dtype=torch.float64)
        return torch.full_like(values, about) if still else values

    layers = {
        name: LayerParameters(
            name=name,
            kind="3tconv",
            kernel_size=(3, 5, 5),
            scale=drawn(1.0, 0.05),
            rotation=drawn(0.0, 0.1),
            translate_x=drawn(0.0, 0.1),
            translate_y=drawn(0.0, 0.1),
            identified=torch.ones(2, 6, dtype=torch.bool),
        )
        for name in ("early", HARMFUL)
    }
    return TemporalParameters(layers=layers, left_out={"pointwise": "1 x 1 x 1: one slice, no time"})


def maximization(units=(3, 7), still=False):
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(len(units), 3, 8, 10, 10, generator=generator)
    return Maximization(
        layer="late",
        units=tuple(units),
        clips=clips[:, :, :1].expand_as(clips) if still else clips,
        activation=torch.arange(len(units)) + 5.0,
        initial=torch.zeros(len(units)),
        history=torch.arange(4.0)[:, None].expand(4, len(units)) + torch.arange(len(units)),
        settings={"shape": (3, 8, 10, 10), "steps": 4, "seed": 0},
    )


def robustness(curves=4, samples=3):
    measures = {
        "digit unchanged": Measure(name="digit unchanged", kind="share", summary="the same answer"),
        "speed error": Measure(
            name="speed error", kind="error", summary="", unit="pixels per frame", lines={"always 3": 1.5}
        ),
    }
    levels = torch.linspace(0, 0.5, 5, dtype=torch.float64)
    return Robustness(
        measures=measures,
        curves={
            f"noise {place}": Curve(
                perturbation=f"noise {place}",
                title=f"Noise {place}",
                level=f"deviation {HARMFUL}"[:40],
                levels=levels,
                mean={"digit unchanged": 1 - levels, "speed error": levels * place},
                error={name: torch.full((5,), 0.1, dtype=torch.float64) for name in measures},
            )
            for place in range(curves)
        },
        samples=samples,
        missing={"shuffle": "there is one frame"},
        settings={"draws": 2},
    )


def effective_field(frames=6):
    heat = torch.zeros(frames, 8, 10, dtype=torch.float64)
    heat[frames // 2, 3:5, 4:7] = 1 / 6
    return EffectiveField(
        layer="late",
        position=(2, 1, 1),
        positions=(4, 4, 5),
        heat=heat,
        share=0.95,
        box=((frames // 2, frames // 2), (3, 4), (4, 6)),
        theoretical_box=((0, frames - 1), (1, 6), (2, 8)),
        theoretical=(9, 6, 7),
        settings={"draws": 8},
    )


def unit_view(frames=8):
    return UnitView(
        layer="late",
        unit=3,
        activation=2.5,
        position=(3, 1, 2),
        frame=min(6, frames - 1),
        picture=torch.rand(1, 10, 12, generator=torch.Generator().manual_seed(0)),
        gradient=torch.eye(12)[:10],
        time=torch.arange(float(frames)),
        image=torch.full((1, 10, 12), 0.5),
        maximized=1.5,
        initial=0.5,
    )


def top_clip(place, highest, *, known=True, label=None):
    """The unit is highest in the upper left quarter at time step 1 of 2, frame 3 of 4."""
    heat = torch.zeros(2, 4, 4)
    heat[1, 0, 0] = highest
    return TopClip(
        source=f"clips/{place}.mp4",
        label=label,
        mean=float(heat.mean()),
        highest=highest,
        position=(1, 0, 0),
        place=(3, 1, 1),
        map=heat,
        picture=torch.full((1, 8, 8), 100, dtype=torch.uint8) if known else None,
    )


def top_clips(units=(3, 7), **options):
    best = tuple(
        tuple(top_clip(f"{unit}-{place}", 4.0 / (1 + place), label=HARMFUL, **options) for place in range(2))
        for unit in units
    )
    return TopClips(layer="late", units=tuple(units), clips=best, count=9, problems=(("torn.mp4", "no video"),))


@pytest.fixture(scope="session")
def made():
    """The functions that make results, by name."""
    return {
        "attribution": attribution,
        "faithfulness": faithfulness,
        "temporal": temporal,
        "maximization": maximization,
        "unit": unit_view,
        "robustness": robustness,
        "effective_field": effective_field,
        "top_clips": top_clips,
    }
