"""From a name to a module: parameters built on meta, weights mapped and assigned, everything checked."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import devices
from zoo.entries import ModelEntry, WeightsEntry
from zoo.errors import (
    MemoryLimitError,
    ModelError,
    NotFiniteWarning,
    UsageError,
    WeightsError,
)
from zoo.models import heads_and_channels, inflation, provenance
from zoo.models.features import Features
from zoo.models.load_report import LoadReport
from zoo.models.meta import initialised, left_on_meta, meta_build, shapes, shapes_of, tensors_of
from zoo.names import natural
from zoo.registry.resolving import resolve
from zoo.weights import digests, identification, obtaining
from zoo.weights import files as weights_files

#: BatchNorm's counter of batches: older files lack it, nothing in eval mode needs it, and torch sets it to 0.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """Tensors loaded from a file; none by default."""

    #: In the model: as they are in the file, and adapted.
    taken: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    converted: int = 0
    left: tuple[str, ...] = ()
    initialised: tuple[str, ...] = ()
    build: str = "ordinary"
    build_reason: str = ""
    replaced: tuple[str, ...] = ()


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = "default",
    device: str = "cpu",
    dtype: torch.dtype | str | None = None,
    num_classes: int | Mapping[str, int] | None = None,
    in_channels: int | None = None,
    adapt: inflation.Adapt | None = None,
    features: Sequence[str] | None = None,
    seed: int = 0,
    offline: bool = False,
    token: str | None = None,
    mmap: bool = True,
) -> nn.Module:
    """Load a model of the catalog, ready to use: on its device, in eval mode.

    Args:
        name: `architecture`, `architecture.tag`, or `hub:ORG/REPO@REVISION` for a repository that `zoo.push` made.
        weights: "default" (the tag in the name, else the entry's first), a tag, the path of a safetensors
            file or of an index of several (`*.safetensors.index.json`), or None for random initialization drawn from
            `seed`; with `adapt` also another model of the catalog by its name.
        device: "cpu", "cuda", "cuda:N", or "auto".
        dtype: Floating-point type of parameters and buffers; None keeps the architecture's own.
        num_classes: Other numbers of classes: for the only classification head, or for heads by name. Such a head is
            drawn from `seed` and has no labels; one that has this number already is loaded unchanged.
        in_channels: Other number of input channels; the first layer's filters are adapted as
            `zoo.models.heads_and_channels` says.
        adapt: None loads strictly. "inflate" takes the convolutions of a file that holds the weights of a 2D network
            under the same names, as described in `zoo.models.inflation.inflate`; the rest is drawn from `seed`,
            and the file's own arguments, input and outputs are ignored.
        features: Names of layers, wildcards allowed: the module returned is then a `zoo.models.features.Features`, with
            a dict of these layers' activations as its output.
        seed: Seed of random initialization; the global random state is left as it was.
        offline: Raise instead of download weights that are not on this machine (`zoo.weights.torch_files`,
            `zoo.weights.hub`).
        token: For a private repository of the Hub, where it is not the token of the environment.
        mmap: Memory-map the file instead of reading it at once; use False on network disks.

    Returns:
        The module, with `.zoo_entry` (the resolved entry), `.zoo_weights` (the weights entry or None) and
        `.zoo_load_report`.

    Raises:
        UnknownNameError: for an unknown model, tag, file, head or layer.
        UsageError: if `adapt` is unknown or has nothing to adapt; if a number is invalid, or its head ambiguous.
        ModelError: if no layer can be identified as a head's classifier, or as the reader of the input channels.
        WeightsError: if the file is damaged, does not match its entry, or is of another architecture.
        PluginError: if the plugin's builder fails.
        DeviceError, MemoryLimitError: if the device is missing or full.
    """
    device = devices.resolve(device)
    target = _dtype(dtype)
    fetching: dict[str, Any] = {"offline": offline, "token": token}
    inflation.check(adapt)
    if adapt is not None and weights is None:
        raise UsageError(f"adapt={adapt!r} takes 2D weights from a file; name it in weights, or leave adapt out")
    entry, chosen = resolve(name, os.fspath(weights) if weights is not None else None, adapt=adapt, **fetching)
    if chosen is not None:
        chosen = obtaining.obtain(chosen, **fetching)
    if adapt is not None and chosen is not None:
        chosen = _changed(chosen, "inflated")
    resolved = entry.resolve(chosen)
    asked = heads_and_channels.wish(resolved, num_classes, in_channels)
    try:
        if asked.kept and adapt is None and chosen is not None and _lacks_tensors(resolved, chosen):
            asked = asked.with_kept()
        if asked:
            model, taken, resolved = _resized(resolved, chosen, asked, adapt, seed, mmap)
            chosen = resolved.weights[0] if resolved.weights else None
        else:
            model, taken = _as_said(resolved, chosen, adapt, seed, mmap, target)
        _check_whole(model, name)
        model = model.to(device=device, dtype=target)
    except (RuntimeError, MemoryError) as error:
        if devices.is_out_of_memory(error):
            raise MemoryLimitError(f"{name} does not fit into the memory of {device}: {error}") from error
        raise
    odd = not_finite(model) if chosen is not None else ()
    tensors = model.state_dict()
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    model.zoo_entry = resolved  # type: ignore[assignment]  # plain attributes on a module
    model.zoo_weights = chosen  # type: ignore[assignment]
    model.zoo_load_report = LoadReport(  # type: ignore[assignment]
        name=entry.name if chosen is None else f"{entry.name}.{chosen.tag}",
        tag=chosen.tag if chosen else None,
        file=str(obtaining.locate(chosen.source)) if chosen else None,
        bytes=chosen.bytes if chosen else 0,
        sha256=chosen.sha256 if chosen else None,
        adapt=adapt,
        taken=len(taken.taken) + len(taken.adapted),
        converted=taken.converted,
        adapted=len(taken.adapted),
        left=len(taken.left),
        initialised=len(taken.initialised),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=device,
        dtype=", ".join(sorted(dtypes)),
        num_classes=dict(asked.classes) or None,
        in_channels=asked.channels,
        build=taken.build,
        build_reason=taken.build_reason,
        replaced=taken.replaced,
        left_names=taken.left,
        taken_names=taken.taken,
        adapted_names=taken.adapted,
        initialised_names=taken.initialised,
        initial_sha256=provenance.digest(tensors, (*taken.initialised, *taken.adapted)),
        not_finite=odd,
    )
    if odd:
        said = f"{', '.join(odd[:3])}{', ...' if len(odd) > 3 else ''}"
        warnings.warn(
            f"{name}: {len(odd)} of {len(tensors)} tensors hold NaN or infinity ({said}); its outputs mean nothing, as "
            "where training diverged",
            NotFiniteWarning,
            stacklevel=2,
        )
    model.eval()
    return model if features is None else Features(model, features)


def _changed(weights: WeightsEntry, how: str) -> WeightsEntry:
    """Return the entry of weights adopted from another network, of which only the file applies here."""
    return dataclasses.replace(
        weights,
        tag=f"{weights.tag} ({how})",
        recipe=None,
        metrics=(),
        golden=None,
        record=None,
        arguments=None,
        input=None,
        outputs=None,
        parameters=None,
    )


def _as_said(
    entry: ModelEntry,
    weights: WeightsEntry | None,
    adapt: str | None,
    seed: int,
    mmap: bool,  # noqa: FBT001
    dtype: torch.dtype | None = None,
) -> tuple[nn.Module, _Taken]:
    """Build the model by its entry, with these weights."""
    if weights is None:
        model = initialised(entry, seed)
        return model, _Taken(initialised=tuple(model.state_dict()))
    return _from_file(entry, weights, mmap, dtype) if adapt is None else _inflated(entry, weights, seed, mmap)


def _resized(
    entry: ModelEntry,
    weights: WeightsEntry | None,
    asked: heads_and_channels.Wish,
    adapt: str | None,
    seed: int,
    mmap: bool,  # noqa: FBT001
) -> tuple[nn.Module, _Taken, ModelEntry]:
    """Return the model with other classes or input channels, and its entry."""
    given, rest = heads_and_channels.arguments(entry, asked)
    built = dataclasses.replace(entry, arguments={**entry.arguments, **given})
    fits = weights is not None and adapt is None
    if fits:
        model, taken = initialised(built, seed), _Taken()
    else:
        model, taken = _as_said(built, weights, adapt, seed, mmap)
    layers: dict[str, set[str]] = {}
    if rest:
        as_built = built if asked.channels == rest.channels else _with_channels(built, asked)
        trained = bool(taken.taken or taken.adapted)
        became, layers = heads_and_channels.replace(model.eval(), as_built, rest, seed, trained=trained)
        adapted, drawn = ([name for name, how in became.items() if how == one] for one in ("adapted", "initialised"))
        taken = _retold(taken, adapted, drawn, [name for name in drawn if name in (*taken.taken, *taken.adapted)])
        taken = dataclasses.replace(taken, replaced=tuple(dict.fromkeys(name.rpartition(".")[0] for name in became)))
    if fits:
        assert weights is not None  # noqa: S101 - ensured by `fits`
        taken = dataclasses.replace(_fitted(model, entry, weights, asked, layers, mmap=mmap), replaced=taken.replaced)
    resolved = heads_and_channels.describe(
        entry, asked, given, sum(parameter.numel() for parameter in model.parameters())
    )
    heads_and_channels.check(model.eval(), resolved, asked)
    kept = () if weights is None else (_changed(weights, "resized"),)
    return model, taken, dataclasses.replace(resolved, weights=kept)


def _fitted(
    model: nn.Module,
    entry: ModelEntry,
    weights: WeightsEntry,
    asked: heads_and_channels.Wish,
    layers: Mapping[str, set[str]],
    *,
    mmap: bool,
) -> _Taken:
    """Load a file into a model that was built with other numbers than its entry's, in place.

    The file was saved from a model with the requested numbers, or with the entry's; it may lack heads
    whose number is changed. Everything else is strict.

    Args:
        model: As requested, initialized.
        entry: Of the architecture without the request.
        weights: The file.
        asked: The requested numbers.
        layers: Names of the tensors of the heads replaced after building.
        mmap: As in `load`.

    Raises:
        WeightsError: if the file is neither of the two.
    """
    path, header = _opened(weights)
    wanted = shapes_of(model.state_dict())
    before = shapes(entry)
    heads = {
        **layers,
        **{head: tensors_of(entry, head, count) for head, count in asked.classes.items() if head not in layers},
    }
    expected, drawn, left = dict(wanted), set[str](), set[str]()
    others = header.tensors.keys() - wanted.keys() - before.keys()
    for names in heads.values() if not others else ():  # under other names a head may be there
        found = {name: header.tensors[name][1] for name in names if name in header.tensors}
        here = {name: wanted[name] for name in names if name in wanted}
        if found != here and found in ({}, {name: before[name] for name in names if name in before}):
            drawn |= here.keys()
            left |= found.keys()
    for name in wanted.keys() & before.keys() - {name for names in heads.values() for name in names}:
        if header.tensors.get(name, ("", ()))[1] == before[name]:  # of other channels: to be adapted
            expected[name] = before[name]
    left |= header.tensors.keys() & (before.keys() - wanted.keys())
    described = {name: shape for name, shape in expected.items() if name not in drawn}
    _check_architecture(entry.name, path, described, {n: s for n, (_, s) in header.tensors.items() if n not in left})
    state = model.state_dict()
    tensors = weights_files.map_tensors(path, mmap=mmap)
    converted = 0
    adapted: list[str] = []
    for name in described.keys() & tensors.keys():
        tensor = _checked_kind(tensors[name], state[name], name, path)
        converted += tensor.dtype != state[name].dtype
        if expected[name] == wanted[name]:
            state[name] = tensor.to(state[name].dtype)
        elif asked.channels is not None and heads_and_channels.is_input(
            before[name], wanted[name], entry.input.channel_count, asked.channels
        ):
            state[name] = heads_and_channels.spread(tensor.to(state[name].dtype), asked.channels)
            adapted.append(name)
        else:
            drawn.add(name)
            left.add(name)
    model.load_state_dict(state, strict=True, assign=True)
    initialised = [name for name in state if name in drawn or name not in tensors]
    return _Taken(
        taken=tuple(name for name in state if name in described and name in tensors and name not in {*drawn, *adapted}),
        adapted=tuple(sorted(adapted, key=list(state).index)),
        converted=converted,
        left=(*(name for name in state if name in left), *sorted(left - state.keys(), key=natural)),
        initialised=tuple(initialised),
        build_reason="what the file does not give is initialised" if initialised else "built with other numbers",
    )


def _lacks_tensors(entry: ModelEntry, weights: WeightsEntry) -> bool:
    """Check whether a file lacks tensors of the model that its entry describes."""
    _, header = _opened(weights)
    return any(name not in header.tensors and not name.endswith(_COUNTER) for name in shapes(entry))


def _with_channels(entry: ModelEntry, asked: heads_and_channels.Wish) -> ModelEntry:
    """Return the entry of a model built with its channels, but without its new classes yet."""
    return dataclasses.replace(entry, input=heads_and_channels.describe(entry, asked, {}, 0).input)


def _retold(taken: _Taken, adapted: Iterable[str], initialised: Iterable[str], left: Iterable[str]) -> _Taken:
    """Return the tensors from a file, after some were adapted or drawn anew."""
    drawn, changed = dict.fromkeys((*taken.initialised, *initialised)), dict.fromkeys((*taken.adapted, *adapted))
    return dataclasses.replace(
        taken,
        taken=tuple(name for name in taken.taken if name not in drawn and name not in changed),
        adapted=tuple(name for name in changed if name not in drawn),
        initialised=tuple(drawn),
        left=(*taken.left, *left),
        build="ordinary",
        build_reason="what the file does not give is initialised",
    )


def _inflated(entry: ModelEntry, weights: WeightsEntry, seed: int, mmap: bool) -> tuple[nn.Module, _Taken]:  # noqa: FBT001
    path, _ = _opened(weights)  # reports what is wrong with a damaged file
    model = initialised(entry, seed)
    done = inflation.inflate(model, weights_files.map_tensors(path, mmap=mmap), name=entry.name, source=str(path))
    return model, _Taken(
        adapted=done.taken,
        converted=done.converted,
        left=done.left,
        initialised=done.untouched,
        build_reason="what the file does not give is initialised",
    )


def _from_file(
    entry: ModelEntry,
    weights: WeightsEntry,
    mmap: bool,  # noqa: FBT001
    dtype: torch.dtype | None = None,
) -> tuple[nn.Module, _Taken]:
    """Load a file's tensors into the model; floating-point ones become `dtype` at once, or are used in place."""
    path, _ = _opened(weights)
    return assemble(entry, weights_files.map_tensors(path, mmap=mmap), str(path), dtype)


def assemble(
    entry: ModelEntry, tensors: dict[str, torch.Tensor], source: str, dtype: torch.dtype | None = None
) -> tuple[nn.Module, _Taken]:
    """Build an entry's network and load tensors strictly, as `load` does with those of a file.

    Args:
        entry: Resolved.
        tensors: By name; those whose type changes are replaced.
        source: What messages call them.
        dtype: Floating-point type to load as; None is the network's own.

    Raises:
        WeightsError: if they are not those of the network.
        PluginError: if the builder fails.
    """
    model, reason = meta_build(entry)
    expected = model.state_dict()
    _check_architecture(entry.name, source, shapes_of(expected), shapes_of(tensors))
    converted = 0
    for name, tensor in tensors.items():
        _checked_kind(tensor, expected[name], name, source)
        wanted = dtype if dtype is not None and tensor.is_floating_point() else expected[name].dtype
        if tensor.dtype != wanted:
            tensors[name] = tensor.to(wanted)
            converted += 1
    model.load_state_dict(tensors, strict=True, assign=True)
    left = left_on_meta(model)
    if left:
        reason = f"computed from parameters while building: {', '.join(left[:3])}"
        model = initialised(entry, seed=0)
        model.load_state_dict(tensors, strict=True, assign=True)
    return model, _Taken(
        taken=tuple(tensors),
        converted=converted,
        initialised=tuple(key for key in expected if key not in tensors),
        build="ordinary" if reason else "meta",
        build_reason=reason,
    )


def _opened(weights: WeightsEntry) -> tuple[Path, weights_files.Header]:
    """Return the file of an entry, checked against the entry, and its header."""
    path = obtaining.locate(weights.source)
    digests.check(path, weights)
    return path, weights_files.read_header(path)


def _checked_kind(tensor: torch.Tensor, expected: torch.Tensor, name: str, source: object) -> torch.Tensor:
    """Return the tensor; raise WeightsError if only one of the two has a floating-point type."""
    if tensor.is_floating_point() != expected.is_floating_point():
        raise WeightsError(f"{source}: {name} is {tensor.dtype}, expected {expected.dtype}; nothing was loaded")
    return tensor


def differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """Describe the differences of tensors from an architecture's, both by name and shape; empty if none."""
    missing, unexpected, reshaped = _differing(expected, found)
    shapes = [f"{key} {list(found[key])}, expected {list(expected[key])}" for key in reshaped]
    return "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
        if keys
    )


def _differing(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> tuple[list[str], list[str], list[str]]:
    """Return the names of tensors that are missing, unexpected and of another shape."""
    missing = [key for key in expected if key not in found and not key.endswith(_COUNTER)]
    unexpected = [key for key in found if key not in expected]
    return missing, unexpected, [key for key, shape in expected.items() if key in found and found[key] != shape]


def _check_architecture(
    name: str, source: object, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise WeightsError where the tensors of a file, by their names and shapes, are not those of the architecture."""
    if problems := differences(expected, found):
        raise WeightsError(
            f"{source} holds weights of another architecture than {name}: {problems} of {len(expected)} tensors; "
            f"nothing was loaded{_remedy(expected, found)}"
        )


def _remedy(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """Return advice on a file that does not fit, if its names and shapes suggest any."""
    missing, unexpected, reshaped = _differing(expected, found)
    if unexpected and (hint := identification.prefix_remedy(expected, found)):
        return f"; {hint}"
    if any(len(found[key]) == 4 and len(expected[key]) == 5 for key in reshaped):
        return "; where these are 2D weights, zoo.load(..., adapt='inflate') takes their convolutions"
    if unexpected:
        return ""
    layers = {key.rpartition(".")[0] for key in (*missing, *reshaped)}
    counts = {found[key][0] for key in reshaped if found[key] and found[key][1:] == expected[key][1:]}
    if len(layers) == 1 and reshaped and not missing and len(counts) == 1:
        count = counts.pop()
        return f"; a head of {count} classes is loaded with --num-classes {count} (num_classes={count} in Python)"
    last = (list(expected) or [""])[-1].rpartition(".")[0]
    if layers == {last} and not reshaped:
        return "; where it lacks only the head, --num-classes N (num_classes=N in Python) initialises one of N classes"
    return ""


def not_finite(model: nn.Module) -> tuple[str, ...]:
    """Return parameters that hold NaN or infinity, and buffers that hold NaN or +inf: masks may well hold -inf."""
    parameters = {id(parameter) for parameter in model.parameters()}
    return tuple(
        name
        for name, tensor in model.state_dict(keep_vars=True).items()
        if isinstance(tensor, torch.Tensor) and (tensor.is_floating_point() or tensor.is_complex())
        if not _is_finite(tensor.detach(), mask=id(tensor) not in parameters)
    )


def _is_finite(tensor: torch.Tensor, *, mask: bool) -> bool:
    values = tensor.float() if tensor.itemsize == 1 else tensor
    if bool(torch.isfinite(values.sum())):  # one pass without a copy; a sum may overflow, so that False needs a second
        return True
    return not bool((values.isnan() | values.isposinf()).any() if mask else (~values.isfinite()).any())


def _check_whole(model: nn.Module, name: str) -> None:
    """Raise ModelError where a tensor was left on meta."""
    left = left_on_meta(model)
    if left:
        raise ModelError(f"{name}: {len(left)} tensors have no values after loading ({', '.join(left[:3])})")


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None) or dtype
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        return dtype
    raise UsageError(f"dtype {dtype!r} is not a floating-point type; expected float32, bfloat16, float16 or float64")
