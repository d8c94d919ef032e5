"""Captum's methods beside ours: `python benchmarks/against_captum.py [PART ...] [--repeats 5]`.

Both explain the same number of the same prepared model, Captum through a function or a module that gives it. The parts:

right     largest difference between Captum's values and ours, over ours' largest, on each family of docs/methods.md
drawn     root mean square error of methods that draw, at equal numbers of passes, against converged or exact values;
          and how much what Captum gives for a sample depends on the other samples of the batch
cost      forward passes and CPU time of Captum's call over ours, on torchvision's r3d_18 (random weights)
measures  forward passes for the infidelity of three maps (max-sensitivity is Captum's)
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import captum.attr
import captum.metrics
import numpy as np
import torch
from torch import Tensor, nn

import explain
import zoo
from explain.attribution.methods import find_method
from explain.attribution.options import accepted
from explain.attribution.removal import grid
from explain.faithfulness.measures import Boxes
from explain.faithfulness.removal import Subject
from explain.model.preservation import prepared
from explain.model.targets import Score, Target, resolve
from zoo.errors import ZooError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "explain" / "attribution"))
from collections.abc import Callable

import families


class Scored(nn.Module):
    """A model whose output is the number explained, one for each sample."""

    def __init__(self, model: nn.Module, target: Target) -> None:
        super().__init__()
        self.model = model
        self.score = Score(model, target)

    def forward(self, batch: Tensor, samples: Tensor) -> Tensor:
        """N numbers."""
        return self.score(batch, samples.reshape(-1).expand(len(batch)))


def _call(name: str, **fixed: Any) -> Any:
    """Return Captum's class by name, on the score; `fixed`: arguments of `attribute` as functions of the options."""

    def run(scored: Scored, model: nn.Module, batch: Tensor, options: dict[str, Any]) -> Tensor:
        layer = [model.get_submodule(options["layer"])] if "Layer" in name or "Cam" in name else []
        given = {key: value(options) if callable(value) else value for key, value in fixed.items()}
        method = getattr(captum.attr, name)(scored, *layer)
        return method.attribute(batch, additional_forward_args=torch.arange(len(batch)), **given).detach()

    return run


def _tunnel(scored: Scored, _model: nn.Module, batch: Tensor, options: dict[str, Any]) -> Tensor:
    """SmoothGrad, sample by sample, since its noise has one width for all."""
    rows = []
    for sample in range(len(batch)):
        one = batch[sample : sample + 1]
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(scored))
        rows.append(
            tunnel.attribute(
                one,
                nt_samples=options["draws"],
                nt_samples_batch_size=options["size"],
                stdevs=0.15 * float(one.max() - one.min()),
                abs=False,
                additional_forward_args=torch.full((1,), sample),
            )
        )
    return torch.cat(rows).detach()


def _lime(scored: Scored, _model: nn.Module, batch: Tensor, options: dict[str, Any]) -> Tensor:
    """With the kernel and the ridge of ours."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    method = captum.attr.Lime(
        scored, SkLearnRidge(alpha=1e-3 * options["draws"]), get_exp_kernel_similarity_function("cosine", 0.25)
    )
    return method.attribute(
        batch,
        feature_mask=options["mask"],
        n_samples=options["draws"],
        perturbations_per_eval=options["size"],
        additional_forward_args=torch.arange(len(batch)),
    ).detach()


_mask, _draws, _size = (lambda options, key=key: options[key] for key in ("mask", "draws", "size"))
_zeros = lambda options: options["zeros"]  # noqa: E731 - a row's value
_parts: dict[str, Any] = {"feature_mask": _mask, "perturbations_per_eval": _size}

#: Our name -> Captum's call.
CALLS: dict[str, Any] = {
    "saliency": _call("Saliency", abs=False),
    "input_x_gradient": _call("InputXGradient"),
    "guided_backprop": _call("GuidedBackprop"),
    "deconvolution": _call("Deconvolution"),
    "gradient_shap": _call("GradientShap", baselines=_zeros, n_samples=_draws),
    "smooth_grad": _tunnel,
    "deep_lift": _call("DeepLift"),
    "lrp": _call("LRP"),
    "feature_ablation": _call("FeatureAblation", **_parts),
    "shapley_sampling": _call("ShapleyValueSampling", n_samples=_draws, **_parts),
    "kernel_shap": _call("KernelShap", n_samples=_draws, **_parts),
    "lime": _lime,
    "grad_cam": _call("LayerGradCam"),
    "guided_grad_cam": _call("GuidedGradCam", interpolate_mode=lambda o: o["mode"]),
    "layer_activation": _call("LayerActivation"),
    "layer_gradient_x_activation": _call("LayerGradientXActivation"),
}
DRAWING = ("gradient_shap", "smooth_grad", "shapley_sampling", "kernel_shap", "lime")
#: Extra arguments of our methods, so that the task is the same.
OURS: dict[str, dict[str, Any]] = {"gradient_shap": {"baseline": ["zero"]}}
#: A layer of each family that all methods of layers take.
LAYERS = {
    "3D CNN": "block",
    "2D CNN over frames": "second",
    "LSTM over frames": "second",
    "ConvLSTM": "gates",
    "video transformer": "patches",
    "image CNN": "3",
}


def quiet(call: Callable[[], Any], seed: int = 0) -> Any:
    """Run a call with seeds set, without its warnings (that hooks are set, that several samples are slow)."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Captum draws from it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def theirs(name: str, model: nn.Module, batch: Tensor, target: Target, options: dict[str, Any]) -> Callable[[], Tensor]:
    """Compute Captum's values."""

    def run() -> Tensor:
        with prepared(model):
            return CALLS[name](Scored(model, target).eval(), model, batch, options)

    return run


def ours(name: str, model: nn.Module, batch: Tensor, target: Target, options: dict[str, Any]) -> Callable[..., Tensor]:
    """Compute our values."""
    method = find_method(name)
    given = accepted(method, {"n_samples": options["draws"], "feature_mask": options["features"], **OURS.get(name, {})})
    layer = options["layer"] if "cam" in name or "layer" in name else None
    return lambda seed=0: (
        explain.attribute(
            model, batch, method=name, target=target, layer=layer, seed=seed, batch_size=options["size"], **given
        ).raw
    )


def options_for(batch: Tensor, layout: str, layer: str, draws: int, size: int, window: tuple[int, int, int]) -> Any:
    """Describe the task: parts of the clip, draws, layer."""
    time_axis = {"NCTHW": 2, "NTCHW": 1}.get(layout)
    extent = (batch.shape[time_axis] if time_axis else 1, *batch.shape[-2:])
    features = grid(extent, window, batch.device)
    mask = features[0] if time_axis is None else features.unsqueeze(0 if layout == "NCTHW" else 1)
    if time_axis is None:
        mask = mask[None]
    return {
        "features": features,
        "mask": mask[None],
        "draws": draws,
        "size": size,
        "layer": layer,
        "zeros": torch.zeros_like(batch[:1]),
        "mode": "bilinear" if batch.ndim == 4 else "trilinear",
    }


def _reduced(name: str, found: Tensor, wanted: Tensor) -> Tensor | str:
    """Convert Captum's values to the form of ours; or say why they cannot be."""
    if "layer_" in name and found.ndim == wanted.ndim - 1 and wanted.shape[2] == 1 and len(found) == len(wanted):
        found = found.unsqueeze(2)
    if name == "grad_cam" and wanted.shape[2] == 1 and found.ndim == 4 and len(found) == len(wanted):
        found = found.unsqueeze(2)
    if name == "layer_activation" and found.ndim == 5:
        found = found.abs().mean(dim=1, keepdim=True)
    if name == "layer_gradient_x_activation" and found.ndim == 5:
        found = found.sum(dim=1, keepdim=True)
    return found if found.shape == wanted.shape else f"shape {tuple(found.shape)} for {tuple(wanted.shape)}"


def right() -> None:
    """Compare Captum's values with ours, family by family."""
    for name in CALLS:
        if name in DRAWING:
            continue
        cells = []
        for family, layer in LAYERS.items():
            model, batch = families.model_of(family).double(), families.batch_of(family).double()
            layout = families.FAMILIES[family][1]
            options = options_for(batch, layout, layer, 64, 8, (2, 6, 6))
            try:
                with prepared(model):
                    target = resolve(model, batch)
                wanted = ours(name, model, batch, target, options)()
            except ZooError:
                wanted = None
            try:
                found = quiet(theirs(name, model, batch, target, options))
            except Exception as error:  # noqa: BLE001 - whatever Captum raises is its answer
                cells.append(f"{family}: Captum raises {type(error).__name__} ({str(error)[:60]!r})")
                continue
            if wanted is None:
                cells.append(f"{family}: ours refuses, Captum answers")
                continue
            found = _reduced(name, found, wanted)
            if isinstance(found, str):
                cells.append(f"{family}: {found}")
                continue
            cells.append(f"{family}: {float((found - wanted).abs().max() / wanted.abs().max()):.1e}")
        print(f"{name}\n  " + "\n  ".join(cells), flush=True)


def _error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def drawn(seeds: int = 6) -> None:
    """Compute the errors of stochastic methods, at as many draws."""
    family = "3D CNN"
    model, batch = families.model_of(family).double(), families.batch_of(family).double()
    with prepared(model):
        target = resolve(model, batch)
    for name, draws, many in (  # how many draws, and how many more are taken to be converged
        ("gradient_shap", 48, 2_000),
        ("smooth_grad", 16, 3_000),
        ("shapley_sampling", 8, 0),
        ("kernel_shap", 200, 0),
        ("lime", 200, 12_000),
    ):
        options = options_for(batch, "NCTHW", "block", draws, 64, (2, 6, 4))
        converged = {**options, "draws": many or 1 << 12}  # 12 parts: kernel_shap tries all choices, and is exact
        wanted = ours(name if many else "kernel_shap", model, batch, target, converged)()
        rows = {"ours": [], "Captum": []}
        for seed in range(seeds):
            rows["ours"].append(_error(ours(name, model, batch, target, options)(seed=seed), wanted))
            rows["Captum"].append(_error(quiet(theirs(name, model, batch, target, options), seed), wanted))
        means = {who: float(np.mean(values)) for who, values in rows.items()}
        again = quiet(theirs(name, model, batch, target, options), 0)
        same = torch.equal(again, quiet(theirs(name, model, batch, target, options), 0))
        with prepared(model):
            one = resolve(model, batch[1:])
        alone = quiet(theirs(name, model, batch[1:], one, options), 0)
        apart = float((alone[0] - again[1]).abs().max() / again[1].abs().max())
        halved = quiet(theirs(name, model, batch, target, {**options, "size": 5}), 0)
        print(
            f"{name}, {draws} draws: error {100 * means['Captum']:.2f} % (Captum), {100 * means['ours']:.2f} % (ours); "
            f"Captum: {'the same' if same else 'other'} bytes by seed, a sample alone differs by {100 * apart:.1f} %, "
            f"sizes of batches change it by {100 * float((halved - again).abs().max() / again.abs().max()):.1g} %",
            flush=True,
        )


def _seconds(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the least CPU time of each call, measured in turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - started)
    return found


def _passes(model: nn.Module, call: Callable[[], Any]) -> int:
    """Count the samples that a call runs the model on."""
    seen: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        call()
    finally:
        handle.remove()
    return sum(seen)


def cost(repeats: int, methods: list[str]) -> None:
    """Forward passes and CPU time over ours."""
    torch.set_num_threads(1)
    model = zoo.load("r3d_18", weights=None)
    batch = torch.randn(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with prepared(model):
        target = resolve(model, batch)
    for name in methods or CALLS:
        options = options_for(batch, "NCTHW", "layer3", 16, 8, (4, 8, 8))
        if name == "shapley_sampling":
            options["draws"] = 2
        if name == "kernel_shap":
            options["draws"] = 128
        task = model, batch, target, options
        both = {"Captum": theirs(name, *task), "ours": ours(name, *task)}
        try:
            counted = {who: quiet(lambda call=call: _passes(model, call)) for who, call in both.items()}
            taken = _seconds({who: lambda call=call: quiet(call) for who, call in both.items()}, repeats)
        except Exception as error:  # noqa: BLE001 - whatever Captum raises is its answer
            print(f"{name}: {type(error).__name__}: {str(error)[:100]}", flush=True)
            continue
        print(
            f"{name}: forward passes {counted['Captum']} over {counted['ours']}, CPU time "
            f"{taken['Captum'] / taken['ours']:.3f} ({taken['Captum']:.2f} s over {taken['ours']:.2f} s)",
            flush=True,
        )


def measures(boxes: int = 16) -> None:
    """Forward passes for the infidelity of three maps: Captum's, map by map, over ours."""
    model, batch = families.model_of("3D CNN"), families.batch_of("3D CNN", 1)
    maps = [explain.attribute(model, batch, method=name) for name in ("saliency", "input_x_gradient", "occlusion")]
    with prepared(model):
        drawn = Boxes(Subject(model, batch, maps[0].target, 0.0), boxes, seed=0)
        scored = Scored(model, maps[0].target)
        masks = torch.stack(drawn.masks)[:, None].float()

        def three() -> None:
            for one in maps:
                captum.metrics.infidelity(
                    scored,
                    lambda inputs: (masks, inputs * (1 - masks)),
                    batch,
                    one.raw,
                    additional_forward_args=torch.zeros(1, dtype=torch.long),
                    n_perturb_samples=boxes,
                    normalize=True,
                )

        counted = _passes(model, three)
    print(f"infidelity of 3 maps, {boxes} boxes: forward passes {counted} over {boxes}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["right", "drawn", "cost", "measures"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=[], help="For cost: these alone.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for part in given.parts:
        if part == "cost":
            cost(given.repeats, given.methods)
        else:
            {"right": right, "drawn": drawn, "measures": measures}[part]()
