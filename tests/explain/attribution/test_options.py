"""Options belong to methods: each takes its own, by name, and refuses what cannot be."""

import math
import sys
import types
from dataclasses import dataclass
from typing import Literal

import pytest
import torch

import explain
from explain.attribution.job import Raw
from explain.attribution.methods import BUILT_IN, Method, find_method
from explain.attribution.options import accepted, built_in, names_for, option, options_for, parsed
from explain.attribution.results import Attribution
from zoo.errors import UnknownNameError, UsageError


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Options of a plugin's method."""

    power: float = option(1.0, "Exponent of the gradient.", minimum=0)
    side: Literal["left", "right"] = "left"
    flip: bool = False
    cells: tuple[int, int] | None = None
    n_samples: int = option(3, "Samples drawn.", minimum=1)


def run(job):
    """The batch to the power that the options give."""
    return Raw(values=job.batch.abs() ** job.options.power)


def run_of_0_1(job):
    """What a plugin of version 0.1 reads of its job."""
    assert (job.steps, job.draws, job.features, job.window, job.stride) == (32, 5, "grid", (1, 2, 3), (1, 1, 1))
    assert (job.integration, job.fill, job.order, job.smooth) == ("gausslegendre", "freeze", "reverse", "saliency")
    assert torch.equal(job.baseline, torch.full_like(job.batch, 0.5))
    return Raw(values=job.batch * job.draws)


@pytest.fixture
def plugin(monkeypatch):
    """Two methods of plugins: one with a class of options, one with a tuple of names, as in version 0.1."""
    module = types.ModuleType("options_of_a_plugin")
    module.Mine, module.run, module.run_of_0_1 = Mine, run, run_of_0_1
    monkeypatch.setitem(sys.modules, "options_of_a_plugin", module)
    about = {"summary": "s", "source": "here", "reduction": "sum"}
    own = "options_of_a_plugin:Mine"
    mine = Method(name="mine", run="options_of_a_plugin:run", options=own, **about)
    names = ("draws", "window", "baseline")
    old = Method(name="old", run="options_of_a_plugin:run_of_0_1", options=names, draws=4, **about)
    monkeypatch.setattr(
        "zoo.registry.plugins.collect", lambda hook, _: [("p", mine), ("p", old)] if hook == "explain_methods" else []
    )
    return mine


def explained(nets, method, **options):
    return explain.attribute(nets.TwoHeads(), torch.rand(1, 1, 4, 6, 6), method=method, **options)


@pytest.mark.parametrize("method", [method.name for method in BUILT_IN])
def test_every_method_refuses_the_options_of_others_and_names_its_own(nets, method):
    own = names_for(find_method(method))
    for name in [*built_in(), "nonsense"]:
        if name not in own:
            with pytest.raises(UnknownNameError, match=f"{method} '{name}'"):
                explained(nets, method, **{name: 1})


@pytest.mark.parametrize(
    ("method", "options", "error", "said"),
    [
        ("smooth_grad", {"smooth": "nonsense"}, UnknownNameError, "nonsense"),
        ("smooth_grad", {"smooth": 3}, UsageError, "smooth .* not 3"),
        ("smooth_grad", {"n_steps": 4}, UnknownNameError, "n_steps"),
        ("smooth_grad", {"smooth": "integrated_gradients", "n_steps": 0}, UsageError, "n_steps .* not 0"),
        ("temporal_occlusion", {"fill": "freez"}, UnknownNameError, "freez"),
        ("frame_order", {"order": "random"}, UnknownNameError, "random"),
        ("rise", {"n_samples": -1}, UsageError, "n_samples .* not -1"),
        ("rise", {"n_samples": True}, UsageError, "n_samples .* not True"),
        ("rise", {"n_samples": math.nan}, UsageError, "n_samples .* not nan"),
        ("rise", {"n_samples": "8"}, UsageError, "n_samples .* not '8'"),
        ("rise", {"n_samples": 10**30}, UsageError, "n_samples"),
        ("rise", {"baseline": math.nan}, UsageError, "baseline .* not nan"),
        ("rise", {"baseline": "zeros"}, UnknownNameError, "zeros"),
        ("rise", {"baseline": torch.tensor(math.nan)}, UsageError, "finite"),
        ("rise", {"baseline": []}, UsageError, "baseline"),
        ("rise", {"baseline": ["zero", "blur"]}, UsageError, "baseline of rise"),
        ("integrated_gradients", {"integration": "simpson"}, UnknownNameError, "simpson"),
        ("integrated_gradients", {"n_steps": 1, "integration": "riemann_left"}, UsageError, "riemann_left"),
        ("occlusion", {"window": (2, 2)}, UsageError, r"window .* not \(2, 2\)"),
        ("occlusion", {"window": (2, 2, 0)}, UsageError, "window"),
        ("occlusion", {"window": 3}, UsageError, "window .* not 3"),
        ("occlusion", {"stride": (1, 1, 7)}, UsageError, "along W"),
        ("lime", {"feature_mask": "voxels"}, UnknownNameError, "voxels"),
        ("lime", {"feature_mask": 3}, UsageError, "feature_mask .* not 3"),
    ],
)
def test_impossible_values_are_refused(nets, method, options, error, said):
    with pytest.raises(error, match=said):
        explained(nets, method, **options)


def test_of_several_methods_each_gets_what_it_has_and_one_must_have_it(nets):
    found = explained(nets, ["saliency", "rise", "integrated_gradients"], n_samples=4, n_steps=3)
    assert [one.settings for one in found] == [
        {},
        {"baseline": None, "n_samples": 4, "seed": 0},
        {"baseline": None, "n_steps": 3, "integration": "gausslegendre"},
    ]
    with pytest.raises(UnknownNameError, match="saliency, rise 'n_steps'"):
        explained(nets, ["saliency", "rise"], n_steps=3)


def test_a_method_that_wraps_another_takes_its_options(nets):
    found = explained(nets, "smooth_grad", smooth="integrated_gradients", n_samples=2, n_steps=3, baseline=0.5)
    assert found.settings == {
        "smooth": "integrated_gradients",
        "n_samples": 2,
        "baseline": 0.5,
        "n_steps": 3,
        "integration": "gausslegendre",
        "seed": 0,
    }


def test_former_names_are_taken_with_a_warning_and_read_in_settings(nets):
    with pytest.warns(DeprecationWarning, match="n_samples") as warned:
        found = explained(nets, "rise", draws=4)
    assert warned[0].filename == __file__
    assert found.settings["n_samples"] == 4
    with pytest.warns(DeprecationWarning, match="n_samples"):
        assert found.settings["draws"] == 4
    with pytest.raises(UsageError, match="draws"):
        explained(nets, "rise", draws=4, n_samples=5)


def test_results_with_former_names_are_read(nets, tmp_path):
    found = explained(nets, "rise", n_samples=4)
    values = {name: getattr(found, name) for name in found.__slots__}
    old = Attribution(**{**values, "settings": {"draws": 4, "baseline": None, "seed": 0}})
    assert Attribution.load(old.save(tmp_path / "old")).settings == {"n_samples": 4, "baseline": None, "seed": 0}


@pytest.mark.parametrize("shape", [(4, 6, 6), (1, 1, 4, 6, 6), (2, 1, 4, 6, 6), (2, 2, 4, 6, 6), (6,)])
def test_a_mask_broadcasts_to_the_batch(nets, shape):
    parts = torch.arange(6).expand(shape).contiguous() // 3
    model, batch = nets.LinearClips((2, 4, 6, 6)), torch.rand(2, 2, 4, 6, 6)
    found = explain.attribute(model, batch, method="feature_ablation", feature_mask=parts, target=0)
    same = explain.attribute(
        model, batch, method="feature_ablation", feature_mask=parts.expand(2, 2, 4, 6, 6)[0, 0], target=0
    )
    assert torch.equal(found.raw, same.raw)


def test_a_mask_that_differs_between_channels_is_refused(nets):
    parts = torch.arange(2).view(1, 2, 1, 1, 1)
    with pytest.raises(UsageError, match="channels"):
        explain.attribute(
            nets.LinearClips((2, 4, 6, 6)), torch.rand(1, 2, 4, 6, 6), method="feature_ablation", feature_mask=parts
        )


def test_a_plugin_of_0_1_reads_its_job_as_before(nets, plugin):
    found = explained(nets, "old", n_samples=5, window=(1, 2, 3), baseline=0.5)
    assert found.settings == {"n_samples": 5, "window": (1, 2, 3), "baseline": 0.5, "seed": 0}
    with pytest.raises(UnknownNameError, match="old 'n_steps'"):
        explained(nets, "old", n_steps=3)


def test_a_plugin_has_options_of_its_own(nets, plugin):
    found = explained(nets, "mine", power=2, cells=[2, 3])
    assert found.settings == {
        "power": 2.0,
        "side": "left",
        "flip": False,
        "cells": (2, 3),
        "n_samples": 3,
        "seed": 0,
    }
    for options, said in (
        ({"power": -1}, "power"),
        ({"power": math.inf}, "power"),
        ({"side": "up"}, "side"),
        ({"flip": 1}, "flip"),
        ({"cells": (1, 2, 3)}, "cells"),
    ):
        with pytest.raises(UsageError, match=f"{said} of mine"):
            explained(nets, "mine", **options)
    with pytest.raises(UnknownNameError, match="did you mean 'power'"):
        explained(nets, "mine", powr=2)


def test_texts_become_values_of_the_type_of_the_field(plugin):
    texts = ["power=1e-1", "side=right", "flip=true", "cells=2,3", "n_samples=5"]
    assert parsed([plugin], texts) == {
        "power": 0.1,
        "side": "right",
        "flip": True,
        "cells": (2, 3),
        "n_samples": 5,
    }
    assert parsed([plugin], ["cells=none"]) == {"cells": None}
    for text in ("power=fast", "n_samples=2.5", "flip=1", "cells=2", "side=up", "power", "=3"):
        with pytest.raises(UsageError, match=text.partition("=")[0] or text):
            options_for([plugin], parsed([plugin], [text]))
    with pytest.raises(UnknownNameError, match="powr"):
        parsed([plugin], ["powr=2"])


def test_those_that_a_method_has_are_picked_out_of_others():
    given = {"steps": 4, "draws": 5, "window": (1, 1, 1)}
    assert accepted(find_method("integrated_gradients"), given) == {"n_steps": 4}
    assert accepted(find_method("saliency"), given) == {}
