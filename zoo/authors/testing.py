"""Conformance checks of plugins: `zoo check PLUGIN` runs them, and so does an author's own pytest.

```python
import pytest
from zoo import testing

@pytest.mark.parametrize("case", testing.cases("my_plugin"), ids=str)
def test_conforms(case):
    case.run()
```

A check is a function: it returns its findings, raises `ConformanceError` if the contract is violated, and
`unittest.SkipTest` if it is not applicable, or not now. Everything runs on the CPU in float32.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import time
import unittest
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from zoo.entries import InputSpec, ModelEntry, OutputSpec, WeightsEntry
from zoo.entries.recipes import Recipe
from zoo.errors import ConformanceError, PluginError, UnknownNameError, ZooError, describe
from zoo.models import flops, loading, meta, verification
from zoo.models.heads import by_head
from zoo.names import is_pattern
from zoo.publishing import cards
from zoo.registry import catalog, plugins
from zoo.weights import describing, obtaining, torch_files
from zoo.weights import files as weights_files

#: A forward pass of so many operations (a multiplication and an addition are two) is left out of a fast run.
FAST_OPERATIONS = 2e9

#: Number of parameters assumed instead if operations cannot be counted.
FAST_PARAMETERS = 5e6


@dataclass(frozen=True)
class Subject:
    """Subject of a check: a plugin, one of its models, or one weights file of a model."""

    plugin: plugins.Plugin
    listing: catalog.Listing | None = None
    tag: str = ""
    #: Whether to skip slow checks.
    fast: bool = False

    def __str__(self) -> str:
        if self.listing is None:
            return self.plugin.name
        return f"{self.listing.entry.name}.{self.tag}" if self.tag else self.listing.entry.name

    @property
    def name(self) -> str:
        """Return the name in the catalog, with the distribution, and the tag if there is one."""
        assert self.listing is not None  # noqa: S101 - checks of models are given models
        return f"{self.listing.full_name}.{self.tag}" if self.tag else self.listing.full_name

    @property
    def entry(self) -> ModelEntry:
        """Return the entry resolved for the weights, or for none."""
        assert self.listing is not None  # noqa: S101 - as above
        entry = self.listing.entry
        return entry.resolve(self.weights if self.tag else None)

    @property
    def weights(self) -> WeightsEntry:
        """Return the entry of the weights file."""
        assert self.listing is not None  # noqa: S101 - as above
        return catalog.weights_of(self.listing.entry, self.tag)


Check = Callable[[Subject], str]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one check."""

    subject: str
    check: str
    result: Literal["passed", "failed", "skipped"]
    #: Findings, the failure, or the reason why it was skipped.
    detail: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """One check of one subject."""

    subject: Subject
    check: Check

    def __str__(self) -> str:
        return f"{self.subject}-{self.check.__name__}"

    def run(self) -> str:
        """Run the check and return its findings; its errors propagate.

        Raises:
            ConformanceError: if the contract is violated.
            unittest.SkipTest: if it is not applicable; pytest shows it as skipped.
        """
        with torch.random.fork_rng(devices=[]):  # a model that draws random numbers leaves the global state unchanged
            return self.check(self.subject)

    def outcome(self) -> Outcome:
        """Run the check and return its outcome, whatever it raises."""
        began = time.perf_counter()
        result: Literal["passed", "failed", "skipped"] = "passed"
        try:
            detail = self.run()
        except unittest.SkipTest as reason:
            result, detail = "skipped", str(reason)
        except Exception as error:  # noqa: BLE001 - an untrusted model may raise anything
            result, detail = "failed", describe(error, 1000)
        seconds = time.perf_counter() - began
        return Outcome(
            subject=str(self.subject),
            check=self.check.__name__.replace("_", " "),
            result=result,
            detail=detail,
            seconds=seconds,
        )


def cases(plugin: str, *, models: str = "*", fast: bool = False) -> list[Case]:
    """Return every check of a plugin, model by model.

    Args:
        plugin: Name of the plugin, of its distribution, or `distribution:plugin`.
        models: Only models of this name; wildcards allowed.
        fast: Skip passes of more than two billion operations, and counting them; each check reports it.

    Raises:
        UnknownNameError: for a plugin that is not installed, or `models` that none of its models matches.
    """
    listings = catalog.listings()  # a broken entry shows only when its hook is called
    asked = [known for known in plugins.registry().plugins if known.is_called(plugin)]
    if not asked:
        known = [known.name for known in plugins.registry().plugins]
        hint = "`zoo plugins` shows all; install yours with `pip install -e .`"
        givers = [listing.plugin.name for listing in listings if listing.entry.name == plugin]
        if givers:
            hint = f"it is a model: `zoo check {givers[0]} --models {plugin}`"
        raise UnknownNameError("plugin", plugin, known, hint)
    names = [listing.entry.name for listing in listings if listing.plugin in asked]
    if models != "*" and not any(fnmatchcase(name, models) for name in names):
        raise UnknownNameError(f"model of {plugin}", models, names, pattern=is_pattern(models))
    found: list[Case] = []
    for one in asked:
        found += [Case(Subject(one, fast=fast), check) for check in PLUGIN_CHECKS]
        for listing in listings:
            if listing.plugin is one and fnmatchcase(listing.entry.name, models):
                found += [Case(Subject(one, listing, fast=fast), check) for check in MODEL_CHECKS]
                for weights in listing.entry.weights:
                    found += [Case(Subject(one, listing, weights.tag, fast), check) for check in WEIGHTS_CHECKS]
    return found


def run(found: list[Case]) -> Iterator[Outcome]:
    """Yield each outcome as soon as it is known."""
    for case in found:
        yield case.outcome()
    _latest.forget()


# --- a plugin


def loads(subject: Subject) -> str:
    """Check that the plugin imports, registers, and its hooks return valid values."""
    for hook in ("zoo_recipes", "explain_methods", "explain_measures", "explain_perturbations"):
        plugins.collect(hook, object)
    if subject.plugin.status != "ready":
        raise ConformanceError(f"{subject.plugin.status}: {subject.plugin.reason or 'it is switched off'}")
    return f"hooks: {', '.join(subject.plugin.hooks) or 'none'}"


def imports_no_torch(subject: Subject) -> str:
    """Importing its module and calling `zoo_models` and `zoo_recipes` imports no torch, seen in a fresh process."""
    module = subject.plugin.entry_point.module
    code = (
        "import sys, time; from zoo.registry.entry_points import Watch; began = time.process_time()\n"
        f"with Watch('torch', {module.partition('.')[0]!r}) as watch:\n"
        f" import {module} as module; took = time.process_time() - began\n"
        " for hook in ('zoo_models', 'zoo_recipes'): getattr(module, hook, list)()\n"
        "print(f'{1000 * took:.0f} {watch.importer}')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603 - imports an installed plugin, as this process did
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise ConformanceError(f"{module} does not import in a fresh process: {said.splitlines()[-1]}")
    milliseconds, _, importer = done.stdout.strip().splitlines()[-1].partition(" ")
    if importer:
        raise ConformanceError(
            f"torch is imported at {importer}: every command would wait for it; import it in the function that needs it"
        )
    return f"imported in {milliseconds} ms of CPU time"


def recipes_and_methods_resolve(subject: Subject) -> str:
    """Check that references of recipes, methods and measures exist, and that a search varies existing settings."""
    from zoo.entries.recipes import Recipe

    recipes = [one for giver, one in plugins.collect("zoo_recipes", Recipe) if giver is subject.plugin]
    rows = [*plugins.collect("explain_methods", object), *plugins.collect("explain_measures", object)]
    methods = [one for giver, one in rows if giver is subject.plugin]
    for recipe in recipes:
        try:
            _check_recipe(recipe)
        except (PluginError, UnknownNameError) as error:
            raise ConformanceError(f"recipe {recipe.name}: {error}") from error
    for method in methods:
        for reference in filter(None, (getattr(method, field, "") for field in ("run", "check"))):
            plugins.resolve(reference)
    return f"{len(recipes)} recipe{'s' * (len(recipes) != 1)}, {len(methods)} method{'s' * (len(methods) != 1)}"


def _check_recipe(recipe: Recipe) -> None:
    """Raise ConformanceError, PluginError or UnknownNameError for missing references; nothing is built or read."""
    from zoo.entries.recipes import OPTIMIZERS
    from zoo.training import finalizing, search

    architectures = [listing.entry.name for listing in catalog.listings()]
    if recipe.name.partition(".")[0] not in architectures:
        raise UnknownNameError("model", recipe.name.partition(".")[0], architectures, "a recipe is named MODEL.TAG")
    try:
        catalog.check_name("tag", recipe.name.partition(".")[2])
    except ValueError as error:
        raise ConformanceError(f"recipe {recipe.name}: {error}; a recipe is named MODEL.TAG") from error
    for reference in filter(None, (recipe.build, recipe.export, recipe.evaluate, recipe.example)):
        plugins.resolve(reference)
    _check_bound(recipe)
    _check_takes(recipe, recipe.evaluate, recipe.evaluate_arguments, "network", "device", None)
    if recipe.example:
        _check_takes(recipe, recipe.example, recipe.example_arguments)
    else:
        finalizing.example_of(recipe)
    for stage in recipe.stages:
        plugins.resolve(stage.data)
        plugins.resolve(stage.loss)
        if stage.optimizer not in OPTIMIZERS:
            raise UnknownNameError(f"optimizer of stage {stage.name!r}", stage.optimizer, OPTIMIZERS)
    if recipe.search is None:
        return
    for place, span in recipe.search.space.items():
        _check_bound(search.applied(recipe, {place: span.choices[0] if span.choices else span.low}))


def _check_bound(recipe: Recipe) -> None:
    """Raise ConformanceError where what builds the module does not take the recipe's arguments."""
    _check_takes(recipe, recipe.build, recipe.arguments)


def _check_takes(recipe: Recipe, reference: str, arguments: Mapping[str, Any], *first: object) -> None:
    """Raise ConformanceError where a function does not take these keywords behind its `first` arguments."""
    try:
        inspect.signature(plugins.resolve(reference)).bind(*first, **arguments)
    except TypeError as error:
        raise ConformanceError(f"recipe {recipe.name}: {reference} does not take {dict(arguments)}: {error}") from error


# --- a model


def entry_is_complete(subject: Subject) -> str:
    """Check that the entry is complete, and that its references exist."""
    entry = subject.entry
    catalog.validate(entry)
    for field in ("summary", "license"):
        text = getattr(entry, field)
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise ConformanceError(f"{field} is one line of text, not {text!r}")
    for output in entry.outputs:
        if output.follows and (output.kind != "clip" or entry.input.sampling != "consecutive"):
            raise ConformanceError(
                f"{output.name} follows the input's frames: its kind is clip, and the input's sampling consecutive, "
                f"not {output.kind} and {entry.input.sampling}; nothing follows frames that are spread over a clip"
            )
    for sample in entry.samples:
        _check_sample(sample.resource, len(sample.labels))
    outputs, samples = len(entry.outputs), len(entry.samples)
    return f"{outputs} output{'s' * (outputs != 1)}, {samples} set{'s' * (samples != 1)} of samples"


def _check_sample(resource: str, labels: int) -> None:
    clips = weights_files.read_header(obtaining.locate(resource)).tensors.get("clips")
    if clips is None or clips[0] != "U8" or len(clips[1]) != 5 or clips[1][-1] not in {1, 3}:
        raise ConformanceError(f"{resource} holds no uint8 tensor `clips` of K x T x H x W x 1 or 3 (it has {clips})")
    if clips[1][0] != labels:
        raise ConformanceError(f"{resource} holds {clips[1][0]} clips, and there are {labels} labels")


def builder_resolves(subject: Subject) -> str:
    """Check that the builder exists and takes the entry's arguments."""
    entry = subject.entry
    builder = plugins.resolve(entry.builder)
    other_classes = {output.argument: 2 for output in entry.outputs if output.argument}
    for given in (dict(entry.arguments), {**entry.arguments, **other_classes}):
        try:
            inspect.signature(builder).bind(**given)
        except TypeError as error:
            raise ConformanceError(f"{entry.builder} does not take {given}: {error}") from error
    return entry.builder


def parameters_are_as_declared(subject: Subject) -> str:
    """Check the model's numbers of parameters and, if the entry states it, of operations."""
    found = sum(parameter.numel() for parameter in _light(subject.entry).parameters())
    if found != subject.entry.parameters:
        raise ConformanceError(f"built, it has {found:,} parameters; its entry says {subject.entry.parameters:,}")
    if subject.entry.flops is None:
        return f"{found:,}; operations are not given"
    if subject.fast:
        return f"{found:,}; operations were not counted again"
    counted = flops.flops(subject.entry)
    if counted != subject.entry.flops:
        raise ConformanceError(f"a pass takes {counted:,} operations; its entry says {subject.entry.flops:,}")
    return f"{found:,}, and {counted:,} operations"


def builds_on_meta(subject: Subject) -> str:
    """Check that a model built on meta and then loaded has the same outputs as one built as usual."""
    if not subject.entry.meta:
        raise unittest.SkipTest("the entry says meta=False: loading builds as usual, and takes longer")
    try:
        with meta.parameters_on_meta():
            light = meta.build(subject.entry)
    except ZooError as error:
        raise ConformanceError(
            f"{error.__cause__ or error}; say meta=False in the entry, or let the builder not compute with parameters"
        ) from error
    _skip_if_heavy(subject)
    built = _built(subject)
    light.load_state_dict(built.model.state_dict(), assign=True)
    left = [name for name, tensor in light.state_dict(keep_vars=True).items() if tensor.is_meta]
    if left:
        raise ConformanceError(f"without values after loading: {', '.join(left[:3])}; say meta=False in the entry")
    _check_same(_forward(light.eval(), built.batch, subject.entry), built.outputs, "than built as usual")
    return "the outputs are those of an ordinary build"


def outputs_are_as_declared(subject: Subject) -> str:
    """Check that a batch gives the entry's outputs, in the shapes of their kinds, and finite."""
    entry = subject.entry
    if subject.fast and _is_heavy(entry):
        with torch.device("meta"):
            model = meta.build(entry).eval()
        try:
            outputs = _forward(model, torch.empty(entry.input.shape, device="meta"), entry)
        except (RuntimeError, NotImplementedError) as error:
            raise unittest.SkipTest(f"takes too long, and without values: {error}; `zoo check` computes it") from error
    else:
        outputs = _built(subject).outputs
        for name, tensor in outputs.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ConformanceError(f"{name} is not finite on a random batch")
    for output in entry.outputs:
        _check_shape(output, outputs[output.name], entry.input)
    return ", ".join(f"{name} {' x '.join(map(str, tensor.shape))}" for name, tensor in outputs.items())


def _check_shape(output: OutputSpec, tensor: Tensor, taken: InputSpec) -> None:
    """Raise ConformanceError where a head's shape, for a batch of one, is not that of its kind."""
    shape = tuple(tensor.shape)
    classes = len(output.labels) or (shape[-1] if shape else 0)
    frame = (taken.channel_count, *taken.size) if output.follows else ("C", "H", "W")
    expected = {
        "classes": f"1 x {classes}",
        "value": "1 x 1; give each number of a vector a head of its own",
        "clip": "1 x {} x T x {} x {}, or 1 x {} x {} x {} of one frame".format(*frame, *frame),
    }[output.kind]
    fits = {
        "classes": shape == (1, classes),
        "value": shape == (1, 1),
        "clip": len(shape) in {4, 5} and shape[0] == 1,
    }[output.kind]
    if not fits or (output.follows and (shape[1], *shape[-2:]) != frame):
        what = "clip that follows the input's frames" if output.follows else output.kind
        raise ConformanceError(f"{output.name} has shape {list(shape)}; a head of {what} gives {expected}")


def evaluates_deterministically(subject: Subject) -> str:
    """Check that the same batch gives the same outputs twice in eval mode."""
    _skip_if_heavy(subject)
    built = _built(subject)
    first, second = (_forward(built.model, built.batch, subject.entry) for _ in range(2))
    _check_same(second, first, "the second time")
    return "equal twice"


def gradients_are_finite(subject: Subject) -> str:
    """Check that every output has a finite gradient with respect to the batch and the parameters."""
    _skip_if_heavy(subject)
    built = _built(subject)
    batch = built.batch.clone().requires_grad_()
    heads = by_head(built.model, built.model(batch))
    torch.stack([head.float().sum() for head in heads.values()]).sum().backward()  # type: ignore[no-untyped-call]
    given = {name: parameter.grad for name, parameter in built.model.named_parameters() if parameter.grad is not None}
    built.model.zero_grad()
    if batch.grad is None or not (given or not list(built.model.parameters())):
        raise ConformanceError("no gradient reaches the batch and the parameters; `explain` needs it")
    for name, gradient in {"the batch": batch.grad, **given}.items():
        if not bool(torch.isfinite(gradient).all()):
            raise ConformanceError(f"the gradient with respect to {name} is not finite")
    return f"of the batch and {len(given)} parameters"


def survives_safetensors(subject: Subject) -> str:
    """Check that the state, saved as safetensors and loaded into another model, gives the same outputs."""
    _skip_if_heavy(subject)
    built = _built(subject)
    state = {name: tensor.contiguous() for name, tensor in built.model.state_dict().items()}
    try:
        content = safetensors.torch.save(state)
    except RuntimeError as error:
        raise ConformanceError(f"safetensors does not take its state: {error}") from error
    torch.manual_seed(1)  # other values than those that are to come from the file
    other = meta.build(subject.entry)
    other.load_state_dict(safetensors.torch.load(content), strict=True)
    _check_same(_forward(other.eval(), built.batch, subject.entry), built.outputs, "read from safetensors")
    return f"{len(state)} tensors, {len(content):,} bytes"


def card_is_true(subject: Subject) -> str:
    """Check that the model has a card with metadata for the Hub that agrees with the entry."""
    problems = cards.problems(subject.name)
    if problems:
        raise ConformanceError(f"{'; '.join(problems)}; `zoo card {subject} --write` puts it right")
    return str(cards.find(subject.name))


# --- a weights file


def weights_are_as_declared(subject: Subject) -> str:
    """Check that the file has the bytes, hash and parameters of its entry, and an equal header."""
    weights = subject.weights
    if not weights.license.strip():
        raise ConformanceError("license is an SPDX identifier, or LicenseRef- and a name")
    _check_verified(subject, lambda name: not name.startswith("golden"))
    if not weights.is_foreign:
        assert subject.listing is not None  # noqa: S101 - checks of weights are given a model's
        said = subject.listing.entry.resolve(describing.describe_file(obtaining.obtain(weights).source))
        for field, there, here in (
            ("arguments", said.arguments, subject.entry.arguments),
            ("input", said.input, subject.entry.input),
            ("outputs", _told(said.outputs), _told(subject.entry.outputs)),
        ):
            if there != here:
                raise ConformanceError(
                    f"the file's header gives {field} {there}, the entry {here}: loaded by its path it would be read "
                    "otherwise"
                )
    return f"{weights.bytes:,} bytes, {weights.sha256[:12]}"


def _told(outputs: tuple[OutputSpec, ...]) -> tuple[OutputSpec, ...]:
    """Return a file's fields of outputs; the builder's arguments are the architecture's own."""
    return tuple(dataclasses.replace(output, argument="") for output in outputs)


def golden_outputs_are_recomputed(subject: Subject) -> str:
    """Check that the model reproduces the golden output of each head from the golden input."""
    if subject.weights.golden is None:
        raise unittest.SkipTest("no golden tensors are given; published files may do without")
    checked = _check_verified(subject, lambda name: name.startswith("golden"))
    missing = [one.name for one in subject.entry.outputs if f"golden {one.name}" not in checked]
    if missing:
        raise ConformanceError(f"the golden file holds no output for {', '.join(missing)}")
    return "; ".join(f"{name.removeprefix('golden ')}: {detail}" for name, detail in checked.items())


def record_and_recipe_agree(subject: Subject) -> str:
    """Check that the training record has the entry's metrics, and was made by the recipe that the entry names."""
    weights = subject.weights
    if weights.recipe is None and weights.record is None:
        raise unittest.SkipTest("neither recipe nor record are given; published files may do without")
    recipe = catalog.recipe(weights.recipe) if weights.recipe else None
    if weights.record is None:
        return f"recipe {weights.recipe}; no record is given"
    record = json.loads(obtaining.locate(weights.record).read_bytes())
    given = [
        {"dataset": one.dataset, "split": one.split, "name": one.name, "value": one.value} for one in weights.metrics
    ]
    if [one for one in record.get("metrics", []) if one.get("value") is not None] != given:
        raise ConformanceError(f"the record gives the metrics {record.get('metrics')}, the entry {given}")
    if recipe is not None and record.get("recipe") != json.loads(json.dumps(recipe.to_dict())):
        raise ConformanceError(f"the record was made by another recipe than {weights.recipe} is now")
    return f"{len(given)} metrics, recipe {weights.recipe}"


PLUGIN_CHECKS: tuple[Check, ...] = (loads, imports_no_torch, recipes_and_methods_resolve)

MODEL_CHECKS: tuple[Check, ...] = (
    entry_is_complete,
    builder_resolves,
    parameters_are_as_declared,
    builds_on_meta,
    outputs_are_as_declared,
    evaluates_deterministically,
    gradients_are_finite,
    survives_safetensors,
    card_is_true,
)

WEIGHTS_CHECKS: tuple[Check, ...] = (
    weights_are_as_declared,
    golden_outputs_are_recomputed,
    record_and_recipe_agree,
)

# --- what checks share


@dataclass(frozen=True)
class _Built:
    """A model built from a seed, in eval mode, a batch, and its outputs for it."""

    model: nn.Module
    batch: Tensor
    outputs: dict[str, Tensor]


class _Latest:
    """Return the objects cached for the last subject: its checks follow each other."""

    def __init__(self) -> None:
        self._made: list[tuple[Subject, Any]] = []

    def __call__(self, subject: Subject, make: Callable[[Subject], Any]) -> Any:
        known = self._made and self._made[0][0].listing is subject.listing and self._made[0][0].tag == subject.tag
        if not known:
            self.forget()  # two big models need not be held at once
            self._made = [(subject, make(subject))]
        return self._made[0][1]

    def forget(self) -> None:
        self._made = []


_latest = _Latest()


def _built(subject: Subject) -> _Built:
    made: _Built = _latest(subject, _build)
    return made


def _build(subject: Subject) -> _Built:
    model = loading.load(subject.name, weights=None)
    batch = torch.rand(subject.entry.input.shape, generator=torch.Generator().manual_seed(0))
    return _Built(model, batch, _forward(model, batch, subject.entry))


def _forward(model: nn.Module, batch: Tensor, entry: ModelEntry) -> dict[str, Tensor]:
    """Return the outputs by head."""
    model.zoo_entry = entry  # type: ignore[assignment]  # by_head asks for it
    with torch.no_grad():
        return by_head(model, model(batch))


def _check_same(found: dict[str, Tensor], expected: dict[str, Tensor], when: str) -> None:
    for name, tensor in expected.items():
        if not torch.equal(found[name], tensor):
            difference = float((found[name] - tensor).abs().max())
            raise ConformanceError(f"{name} is another one {when}: the largest difference is {difference:.1e}")


def _light(entry: ModelEntry) -> nn.Module:
    """Build the model with parameters on meta, if possible."""
    try:
        with meta.parameters_on_meta():
            return meta.build(entry)
    except ZooError:
        return meta.build(entry)


def _skip_if_heavy(subject: Subject) -> None:
    if subject.fast and _is_heavy(subject.entry):
        raise unittest.SkipTest(
            f"a pass takes more than {FAST_OPERATIONS / 1e9:g} billion operations; `zoo check` computes it"
        )


def _is_heavy(entry: ModelEntry) -> bool:
    operations = entry.flops
    if operations is None:
        key = (entry.builder, json.dumps(dict(entry.arguments)), entry.input.shape)
        if key not in _operations:
            _operations[key] = _count(entry)
        operations = _operations[key]
    return entry.parameters > FAST_PARAMETERS if operations is None else operations > FAST_OPERATIONS


#: Operations of what was counted before.
_operations: dict[tuple[str, str, tuple[int, ...]], int | None] = {}


def _count(entry: ModelEntry) -> int | None:
    """Count the operations of a pass over a batch of one sample; None if they cannot be counted."""
    try:
        return flops.flops(entry)
    except ZooError:
        return None


def _check_verified(subject: Subject, concerns: Callable[[str], bool]) -> dict[str, str]:
    """Return the details of this entry's `zoo verify` checks by name; raise ConformanceError if one failed."""
    if torch_files.is_missing(subject.weights):
        raise unittest.SkipTest("the file is not on this machine; `zoo download` fetches it")
    verified = _latest(subject, lambda one: verification.verify(one.name))
    done = [check for check in verified.checks if concerns(check.name) or check.name == "load"]
    for check in done:
        if not check.passed:
            raise ConformanceError(f"{check.name}: {check.detail}")
    return {check.name: check.detail for check in done}
