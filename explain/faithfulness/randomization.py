"""Parameter randomization: whether a map changes when the model's weights are randomized.

Adebayo et al., Sanity Checks for Saliency Maps, arXiv 1810.03292, section 3: layer by layer from the model's end, each
layer is randomized and stays so (cascading), and the map is compared with that of the original model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from explain.model.preservation import generator
from explain.model.targets import Score
from zoo.errors import ModelError

#: Offset of the seed of a model's parameters, followed by the index of each.
PARAMETERS: Final = 5


def weight_layers(model: nn.Module, score: Score, batch: Tensor, samples: Tensor) -> dict[str, tuple[str, ...]]:
    """Return the layers with parameters that the explained output depends on, last run first: name -> parameters.

    A layer is a module that runs; parameters of modules that never run by themselves (read by a parent) belong to the
    nearest parent module that does. Layers are in the order in which they last begin to run. Parameters that the output
    does not depend on, such as those of another head, are excluded: its maps cannot depend on them.

    Args:
        model: The model, its parameters frozen.
        score: The explained output.
        batch: One sample.
        samples: Its index.

    Raises:
        ModelError: The output depends on no parameter.
    """
    began: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: began.append(name))
        for name, module in model.named_modules()
    ]
    parameters = {name: one for name, one in model.named_parameters() if one.is_floating_point()}
    try:
        for one in parameters.values():
            one.requires_grad_()
        with torch.enable_grad():
            total = score(batch, samples).sum()
        met = _leaves(total)
    finally:
        for one in parameters.values():
            one.requires_grad_(False)  # noqa: FBT003 - torch's stubs take no keyword
        for handle in handles:
            handle.remove()
    last = {name: place for place, name in enumerate(began)}
    layers: dict[str, list[str]] = {}
    for name, one in parameters.items():
        if id(one) in met:
            owner = name.rpartition(".")[0]
            while owner not in last and owner:
                owner = owner.rpartition(".")[0]
            layers.setdefault(owner, []).append(name)
    if not layers:
        raise ModelError(f"{score.target} depends on no parameter of the model: there is nothing to randomise")
    return {name: tuple(layers[name]) for name in sorted(layers, key=lambda name: last.get(name, -1), reverse=True)}


def _leaves(total: Tensor) -> set[int]:
    """Return the identities of the tensors that receive gradients in a backward pass from `total`."""
    found: set[int] = set()
    seen: set[Any] = set()
    open_nodes = [total.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        open_nodes.extend(following for following, _ in node.next_functions)
    return found


def chosen_depths(layers: int, depths: int | None) -> list[int]:
    """Return the number of layers randomized at each depth: 1, all, and evenly between; None uses each depth."""
    if depths is None or depths >= layers:
        return list(range(1, layers + 1))
    if depths == 1:
        return [1]
    return [1 + (layers - 1) * step // (depths - 1) for step in range(depths)]


@contextlib.contextmanager
def randomized(model: nn.Module, names: Sequence[str], seed: int, draw: int = 0) -> Iterator[None]:
    """Replace the named parameters by noise within a context: normal, mean 0, each of its own root mean square.

    The noise of a parameter depends on the seed, the draw and its index in the model alone. The model's tensors are
    never written to: parameters point to other data within the context and are restored on exit, also on failure.
    """
    places = {name: (place, one) for place, (name, one) in enumerate(model.named_parameters())}
    kept = [(one, one.data) for _, one in places.values()]
    try:
        for name in names:
            place, one = places[name]
            one.data = _noise(one.data, seed, place + draw * len(places))
        yield
    finally:
        for one, numbers in kept:
            one.data = numbers


def _noise(like: Tensor, seed: int, place: int) -> Tensor:
    size = like.double().square().mean().sqrt().to("cpu")
    return (torch.randn(like.shape, generator=generator(seed, PARAMETERS + place), dtype=torch.float64) * size).to(like)


def rank_correlation(first: Tensor, second: Tensor, *, seen: bool = False) -> Tensor:
    """Return Spearman's rank correlation of each sample's values, ties by mean ranks: N.

    0 if only the second is constant, NaN if the first is constant or a value is not finite.

    Args:
        first: N x ..., the maps.
        second: Maps to compare them with, of the same shape.
        seen: Exclude elements that are 0 in both. For a target that sees only a part of the clip, all others are 0
            whatever the weights, and would make any two maps agree.
    """
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(first, second, strict=True)]
    if seen:
        pairs = [(a[kept], b[kept]) if bool((kept := (a != 0) | (b != 0)).any()) else (a, b) for a, b in pairs]
    return torch.stack([_spearman(a, b) for a, b in pairs])


def _spearman(first: Tensor, second: Tensor) -> Tensor:
    if not bool(first.isfinite().all() & second.isfinite().all()):
        return first.new_tensor(torch.nan, dtype=torch.float64)
    if bool((first == first[:1]).all()) or bool((second == second[:1]).all()):
        return first.new_tensor(torch.nan if bool((first == first[:1]).all()) else 0.0, dtype=torch.float64)
    one, other = (values.double().cpu().numpy() for values in (first, second))
    return first.new_tensor(spearmanr(one, other).statistic, dtype=torch.float64)
