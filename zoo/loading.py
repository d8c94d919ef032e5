"""From a name to a module: parameters built on meta, weights mapped and assigned, everything checked."""

from __future__ import annotations

import dataclasses
import os
import threading
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from zoo import adaptation, catalog, describing, devices, plugins, provenance, resizing
from zoo import weights as weights_files
from zoo.errors import (
    MemoryLimitError,
    ModelError,
    NotFiniteWarning,
    PluginError,
    PluginExitError,
    UnknownNameError,
    UsageError,
    WeightsError,
    ZooError,
    describe,
)
from zoo.features import Features
from zoo.isolation import guarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from zoo.entries import ModelEntry, WeightsEntry

#: How often a BatchNorm has averaged: older files lack it, nothing in eval mode needs it, and torch sets it to 0.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What `load` did; nothing is silent."""

    name: str
    #: Tag of the weights; None for random initialisation.
    tag: str | None
    #: File the weights came from, its size and SHA-256.
    file: str | None
    bytes: int
    sha256: str | None
    #: How the weights were adapted ("inflate"); None where they fit as they are.
    adapt: str | None
    #: Tensors of the file: taken; of those, changed in dtype on the way, and adapted; left unused.
    taken: int
    converted: int
    adapted: int
    left: int
    #: Tensors of the model that are not from the file, but as its builder makes them.
    initialised: int
    parameters: int
    device: str
    dtype: str
    #: Numbers asked for that differ from the architecture's: classes by head, input channels.
    num_classes: dict[str, int] | None
    in_channels: int | None
    #: "meta": parameters held no memory until the file was mapped; "ordinary": the builder could not run so.
    build: str
    #: Why the build was ordinary; empty otherwise.
    build_reason: str = ""
    #: Layers exchanged after building, where no argument of the builder says their size.
    replaced: tuple[str, ...] = ()
    #: Names in the file of what was left; in the model of what was taken as it is, adapted, and initialised.
    left_names: tuple[str, ...] = ()
    taken_names: tuple[str, ...] = ()
    adapted_names: tuple[str, ...] = ()
    initialised_names: tuple[str, ...] = ()
    #: SHA-256 of the tensors that were adapted or initialised, as they were then (`zoo.provenance.digest`).
    initial_sha256: str = ""
    #: Names of parameters and buffers that hold NaN or infinity.
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """What came from a file; nothing, by default."""

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
    adapt: adaptation.Adapt | None = None,
    features: Sequence[str] | None = None,
    seed: int = 0,
    offline: bool = False,
    token: str | None = None,
    mmap: bool = True,
) -> nn.Module:
    """A model of the catalogue, ready to use: on its device, in eval mode.

    Args:
        name: `architecture`, `architecture.tag`, or `hub:ORG/REPO@REVISION` for a repository that `zoo.push` made.
        weights: "default" (the tag in the name, else the entry's first), a tag, the path of a safetensors
            file or of an index of several (`*.safetensors.index.json`), or None for random initialisation drawn from
            `seed`; with `adapt` also another model of the catalogue by its name.
        device: "cpu", "cuda", "cuda:N", or "auto".
        dtype: Floating-point type of parameters and buffers; None keeps the architecture's own.
        num_classes: Other numbers of classes: of the only head that gives classes, or of heads by name. Such a head is
            drawn from `seed` and has no labels; one that has this number already is taken as it is.
        in_channels: Other number of input channels; the first layer's filters are adapted as `zoo.resizing` says.
        adapt: None loads strictly. "inflate" takes the convolutions of a file that holds the weights of a 2D network
            under the same names, as `zoo.adaptation.inflate` says; the rest of the model is drawn from `seed`, and
            what the file says of its own arguments, input and outputs does not count.
        features: Names of layers, wildcards allowed: the module given is then a `zoo.features.Features`, whose output
            is a dict of what these layers give.
        seed: Seed of random initialisation; the global random state is left as it was.
        offline: Raise rather than download weights that are not on this machine (`zoo.foreign`, `zoo.hub`).
        token: For a private repository of the Hub, where it is not the token of the environment.
        mmap: Map the file instead of reading it at once; say False on network disks.

    Returns:
        The module, with `.zoo_entry` (the resolved entry), `.zoo_weights` (the weights entry or None) and
        `.zoo_load_report`.

    Raises:
        UnknownNameError: for an unknown model, tag, file, head or layer.
        UsageError: where `adapt` is unknown, or there is nothing to adapt; where a number is none, or its head is open.
        ModelError: where no layer can be told to give a head's classes, or to read the input channels.
        WeightsError: where the file is damaged, not what its entry says, or of another architecture.
        PluginError: where the plugin's builder fails.
        DeviceError, MemoryLimitError: where the device is missing or full.
    """
    device = devices.resolve(device)
    target = _dtype(dtype)
    fetching: dict[str, Any] = {"offline": offline, "token": token}
    adaptation.check(adapt)
    if adapt is not None and weights is None:
        raise UsageError(f"adapt={adapt!r} takes 2D weights from a file; name it in weights, or leave adapt out")
    entry, chosen = resolve(name, os.fspath(weights) if weights is not None else None, adapt=adapt, **fetching)
    if chosen is not None:
        chosen = weights_files.obtain(chosen, **fetching)
    if adapt is not None and chosen is not None:
        chosen = _changed(chosen, "inflated")
    resolved = entry.resolve(chosen)
    asked = resizing.wish(resolved, num_classes, in_channels)
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
        file=str(weights_files.locate(chosen.source)) if chosen else None,
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


def resolve(
    name: str, weights: str | None, *, adapt: str | None = None, offline: bool = False, token: str | None = None
) -> tuple[ModelEntry, WeightsEntry | None]:
    """The architecture's entry and the weights that `load(name, weights=weights, adapt=adapt)` would take."""
    if name.startswith("hub:"):
        from zoo import hub

        entry, found = hub.describe(name, offline=offline, token=token)
        return _chosen(entry, found, True, weights, adapt)  # noqa: FBT003
    listing, named, tagged = catalog.find(name)
    return _chosen(listing.entry, named, tagged, weights, adapt)


def _chosen(
    entry: ModelEntry,
    named: WeightsEntry | None,
    tagged: bool,  # noqa: FBT001
    weights: str | None,
    adapt: str | None,
) -> tuple[ModelEntry, WeightsEntry | None]:
    """The entry and its weights: those of the name, or those that were asked for."""
    if weights is None:
        return entry, None
    if weights == "default":
        if named is None:
            raise UsageError(
                f"{entry.name} has no trained weights (`zoo list --pretrained` shows models that have some); where it "
                "is loaded, `--weights FILE` takes a safetensors file, `--weights none` random ones (weights=None in "
                "Python)"
            )
        return entry, named
    if tagged and named is not None and weights != named.tag:
        raise UsageError(f"the name says the weights {named.tag!r} already; leave out one of the two")
    if any(weights == known.tag for known in entry.weights):
        return entry, catalog.weights_of(entry, weights)
    if adapt is not None and not os.path.exists(weights):  # noqa: PTH110 - a name, not yet a path
        with suppress(UnknownNameError):
            other, found, _ = catalog.find(weights)
            if found is None:
                raise UsageError(f"{other.entry.name} has no trained weights to adapt")
            return entry, dataclasses.replace(found, tag=f"{other.entry.name}.{found.tag}")
    if describing.is_file_name(weights) or os.path.exists(weights):  # noqa: PTH110 - a name, not yet a path
        return entry, weights_files.describe_file(weights, entry.known)
    return entry, catalog.weights_of(entry, weights)


def build(entry: ModelEntry) -> nn.Module:
    """Call an entry's builder.

    Raises:
        PluginError: where it fails or returns no module.
        MemoryLimitError: where it makes more than memory holds, or more tensors than a weights file may have.
    """
    builder = plugins.resolve(entry.builder)
    try:
        with guarded(), _limited(entry):
            model = builder(**entry.arguments)
    except Exception as error:
        if (isinstance(error, ZooError) and not isinstance(error, PluginExitError)) or devices.is_out_of_memory(error):
            raise
        raise PluginError(f"the builder of {entry.name} ({entry.builder}) failed: {describe(error, 1000)}") from error
    if not isinstance(model, nn.Module):
        raise PluginError(
            f"the builder of {entry.name} ({entry.builder}) gave {type(model).__name__}, not a torch module"
        )
    return model


@contextmanager
def _limited(entry: ModelEntry) -> Iterator[None]:
    """Stop a builder whose modules ask for more memory than is free, before their parameters are filled."""
    owner, most = threading.get_ident(), devices.free_memory()
    bytes_made, tensors_made = 0, 0

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal bytes_made, tensors_made
        del module, name
        if tensor is None or threading.get_ident() != owner:  # the hooks are global
            return
        tensors_made += 1
        bytes_made += 0 if tensor.is_meta else tensor.numel() * tensor.element_size()
        if bytes_made > most or tensors_made > weights_files.MOST_TENSORS:
            made = f"{tensors_made:,} tensors" if bytes_made <= most else f"{bytes_made:,} bytes"
            raise MemoryLimitError(
                f"{entry.name} with the arguments {dict(entry.arguments)!s:.200} makes {made} or more; {most:,} bytes "
                f"of memory are free, and at most {weights_files.MOST_TENSORS:,} tensors are expected"
            )

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _MetaLeftUnfilled(TorchFunctionMode):
    """Filling a tensor on meta does nothing, and costs nothing: torch's own way takes half of a build."""

    _FILLS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_})

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in self._FILLS and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built inside hold their parameters on meta (no memory, no initialisation) and real buffers."""
    owner = threading.get_ident()

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        del module, name
        if parameter is None or threading.get_ident() != owner:  # the hook is global, other threads build as usual
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]  # may return a parameter
    try:
        with _MetaLeftUnfilled():
            yield
    finally:
        handle.remove()


def _initialised(entry: ModelEntry, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(entry)


def _changed(weights: WeightsEntry, how: str) -> WeightsEntry:
    """The entry of weights that another network took: of what it says and measured, only the file holds here too."""
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
    """The model as its entry says, with these weights."""
    if weights is None:
        model = _initialised(entry, seed)
        return model, _Taken(initialised=tuple(model.state_dict()))
    return _from_file(entry, weights, mmap, dtype) if adapt is None else _inflated(entry, weights, seed, mmap)


def _resized(
    entry: ModelEntry,
    weights: WeightsEntry | None,
    asked: resizing.Wish,
    adapt: str | None,
    seed: int,
    mmap: bool,  # noqa: FBT001
) -> tuple[nn.Module, _Taken, ModelEntry]:
    """The model with other classes or input channels, and its entry."""
    given, rest = resizing.arguments(entry, asked)
    built = dataclasses.replace(entry, arguments={**entry.arguments, **given})
    fits = weights is not None and adapt is None
    if fits:
        model, taken = _initialised(built, seed), _Taken()
    else:
        model, taken = _as_said(built, weights, adapt, seed, mmap)
    layers: dict[str, set[str]] = {}
    if rest:
        as_built = built if asked.channels == rest.channels else _with_channels(built, asked)
        trained = bool(taken.taken or taken.adapted)
        became, layers = resizing.replace(model.eval(), as_built, rest, seed, trained=trained)
        adapted, drawn = ([name for name, how in became.items() if how == one] for one in ("adapted", "initialised"))
        taken = _retold(taken, adapted, drawn, [name for name in drawn if name in (*taken.taken, *taken.adapted)])
        taken = dataclasses.replace(taken, replaced=tuple(dict.fromkeys(name.rpartition(".")[0] for name in became)))
    if fits:
        assert weights is not None  # noqa: S101 - as `fits` says
        taken = dataclasses.replace(_fitted(model, entry, weights, asked, layers, mmap=mmap), replaced=taken.replaced)
    resolved = resizing.describe(entry, asked, given, sum(parameter.numel() for parameter in model.parameters()))
    resizing.check(model.eval(), resolved, asked)
    kept = () if weights is None else (_changed(weights, "resized"),)
    return model, taken, dataclasses.replace(resolved, weights=kept)


def _fitted(
    model: nn.Module,
    entry: ModelEntry,
    weights: WeightsEntry,
    asked: resizing.Wish,
    layers: Mapping[str, set[str]],
    *,
    mmap: bool,
) -> _Taken:
    """Load a file into a model that was built with other numbers than its entry says, in place.

    The file was saved from a model with the numbers asked for, or from one as the entry says; it may lack heads of
    which another number is asked for. Everything else is strict.

    Args:
        model: As asked for, initialised.
        entry: Of the architecture without what was asked for.
        weights: The file.
        asked: The numbers asked for.
        layers: Names of the tensors of the heads that were exchanged after building.
        mmap: As in `load`.

    Raises:
        WeightsError: where the file is neither.
    """
    path, header = _opened(weights)
    wanted = shapes_of(model.state_dict())
    before = shapes(entry)
    heads = {
        **layers,
        **{head: _tensors_of(entry, head, count) for head, count in asked.classes.items() if head not in layers},
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
        elif asked.channels is not None and resizing.is_input(
            before[name], wanted[name], entry.input.channel_count, asked.channels
        ):
            state[name] = resizing.spread(tensor.to(state[name].dtype), asked.channels)
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
        left=(*(name for name in state if name in left), *sorted(left - state.keys(), key=catalog.natural)),
        initialised=tuple(initialised),
        build_reason="what the file does not give is initialised" if initialised else "built with other numbers",
    )


def shapes(entry: ModelEntry) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that an entry's network has."""
    return shapes_of(_meta_build(entry)[0].state_dict())


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _tensors_of(entry: ModelEntry, head: str, count: int) -> set[str]:
    """Names of the tensors that depend on the number of classes of a head, which the builder takes."""
    one, other = (
        shapes(dataclasses.replace(entry, arguments={**entry.arguments, **resizing.argument(entry, head, number)}))
        for number in (count, count + 1)
    )
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def _lacks_tensors(entry: ModelEntry, weights: WeightsEntry) -> bool:
    """Whether a file does not hold all tensors of the model that its entry describes."""
    _, header = _opened(weights)
    return any(name not in header.tensors and not name.endswith(_COUNTER) for name in shapes(entry))


def _with_channels(entry: ModelEntry, asked: resizing.Wish) -> ModelEntry:
    """The entry of a model that was built with its channels, and has its classes yet to come."""
    return dataclasses.replace(entry, input=resizing.describe(entry, asked, {}, 0).input)


def _retold(taken: _Taken, adapted: Iterable[str], initialised: Iterable[str], left: Iterable[str]) -> _Taken:
    """What came from a file, after some of it was adapted or drawn anew."""
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
    path, _ = _opened(weights)  # says what is wrong with a damaged file
    model = _initialised(entry, seed)
    done = adaptation.inflate(model, weights_files.map_tensors(path, mmap=mmap), name=entry.name, source=str(path))
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
    """The model with a file's tensors; floating-point ones become `dtype` at once, or stay where they are it."""
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
        WeightsError: where they are not those of the network.
        PluginError: where the builder fails.
    """
    model, reason = _meta_build(entry)
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
    left = _left_on_meta(model)
    if left:
        reason = f"computed from parameters while building: {', '.join(left[:3])}"
        model = _initialised(entry, seed=0)
        model.load_state_dict(tensors, strict=True, assign=True)
    return model, _Taken(
        taken=tuple(tensors),
        converted=converted,
        initialised=tuple(key for key in expected if key not in tensors),
        build="ordinary" if reason else "meta",
        build_reason=reason,
    )


def _opened(weights: WeightsEntry) -> tuple[Path, weights_files.Header]:
    """The file of an entry, once it is what the entry says, and its header."""
    path = weights_files.locate(weights.source)
    weights_files.check(path, weights)
    return path, weights_files.read_header(path)


def _checked_kind(tensor: torch.Tensor, expected: torch.Tensor, name: str, source: object) -> torch.Tensor:
    """The tensor; raise WeightsError where only one of the two is of a floating-point type."""
    if tensor.is_floating_point() != expected.is_floating_point():
        raise WeightsError(f"{source}: {name} is {tensor.dtype}, expected {expected.dtype}; nothing was loaded")
    return tensor


def _left_on_meta(model: nn.Module) -> list[str]:
    """Tensors without values after loading: parameters, buffers, and plain attributes of modules."""
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name, value in [*module._parameters.items(), *module._buffers.items(), *vars(module).items()]  # noqa: SLF001
        if isinstance(value, torch.Tensor) and value.is_meta
    ]


def _meta_build(entry: ModelEntry) -> tuple[nn.Module, str]:
    """The model with parameters on meta, or built as usual with the reason why."""
    if not entry.meta:
        return _initialised(entry, seed=0), "no build on meta: the entry says so"
    try:
        with torch.random.fork_rng(devices=[]), parameters_on_meta():
            return build(entry), ""
    except PluginError as error:
        return _initialised(entry, seed=0), f"no build on meta: {error.__cause__ or error}"


def differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """How tensors differ from those of an architecture, both given by name and shape; empty where they do not."""
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
    """Names of the tensors that are missing, unexpected and of another shape."""
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
    """What to do about a file that does not fit, where its names and shapes tell it."""
    missing, unexpected, reshaped = _differing(expected, found)
    if unexpected and (hint := describing.prefix_remedy(expected, found)):
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
    """Names of parameters that hold NaN or infinity, and of buffers that hold NaN or +inf: masks may well hold -inf."""
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
    left = _left_on_meta(model)
    if left:
        raise ModelError(f"{name}: {len(left)} tensors have no values after loading ({', '.join(left[:3])})")


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None) or dtype
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        return dtype
    raise UsageError(f"dtype {dtype!r} is not a floating-point type; expected float32, bfloat16, float16 or float64")
