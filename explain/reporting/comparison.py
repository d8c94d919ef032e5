"""Put a comparison together: find each model and what was measured of it, ask all about one clip, write the folder.

Without a clip nothing here imports torch.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explain.attribution.methods import method_names
from explain.attribution.options import takes_former_names
from explain.drawing.numbers import listed
from explain.progress import telling
from explain.reporting import pages, writing
from explain.reporting.context import Context, Options, Subject
from explain.reporting.sections import COMPARED, ON_A_CLIP
from explain.reporting.topics import measurements, provenance
from zoo.errors import NoEvaluationError, UnknownNameError, UsageError, WeightsError
from zoo.registry import catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from explain.drawing.sprites import Sprite
    from explain.progress import Told
    from explain.reporting.pages import Part, Report
    from zoo.clips import Clip
    from zoo.entries import Layout, ModelEntry, WeightsEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """One model as it was asked for, looked up."""

    #: What the page calls it.
    name: str
    entry: ModelEntry | None
    evaluation: dict[str, Any] | None
    #: What `zoo.load` takes: a name, and weights; None where nothing can be loaded, with the reason.
    load: tuple[str, str | None] | None
    reason: str = ""


@takes_former_names
def compare(
    models: Sequence[str | os.PathLike[str] | nn.Module],
    out: str | os.PathLike[str],
    *,
    clip: str | os.PathLike[str] | Clip | Tensor | None = None,
    start: float = 0.0,
    end: float | None = None,
    methods: str | type | Sequence[str | type] | None = None,
    sections: str | Iterable[str] | None = None,
    target: Any = None,
    layout: Layout | None = None,
    device: str = "auto",
    dtype: str | None = None,
    weights: str | None = "default",
    n_steps: int = 32,
    seed: int = 0,
    progress: Told = None,
) -> Report:
    """Write a comparison of two or more models: what was measured of each, and what each sees in one clip.

    The folder gets `comparison.html` (opens from disk, loads nothing), `comparison.json` (every number shown) and, with
    a clip, `tensors.safetensors` (raw maps). It appears whole or not at all.

    Args:
        models: Two or more: names of the zoo; files of evaluations (`zoo evaluate NAME --out FILE.json`, or the record
            that training wrote beside its weights); weights files that have such a record beside them; with a clip,
            modules, too.
        out: Folder to write: a new one, an empty one, or an earlier comparison, which is then replaced.
        clip: What `zoo.read_clip` takes, a `Clip`, or uint8 frames T x H x W x C; each model gets it as its own input
            asks. None compares stored evaluations alone.
        start: Seconds of the clip at which to begin.
        end: Seconds at which to stop; None goes to the end.
        methods: Names of attribution methods, at least one; None takes three usual ones. Needs a clip.
        sections: Names of sections; None takes all, those of plugins too.
        target: What to explain of each model, as in `explain.attribute`; None is the predicted class of its first
            output. Needs a clip.
        layout: Order of the axes of a batch, as in `explain.attribute`, for modules that did not come from the zoo.
        device: "cpu", "cuda", "cuda:N" or "auto", for models given by name.
        dtype: "bfloat16", "float32" ..., for models given by name; None is each model's own. Needs a clip.
        weights: As in `zoo.load`, for names without a tag.
        n_steps: Steps of integrated gradients.
        seed: Seed of everything drawn at random.
        progress: Called as progress(step, done, total); True shows bars with the time left.

    Raises:
        UsageError: for fewer than two models, one given twice, or fewer than two with an evaluation and no clip.
        OutputError: where the folder cannot be written, or holds anything else.
        UnknownNameError: for an unknown model, clip, method, section or target.
        ClipError, WeightsError, DeviceError, ModelError, MemoryLimitError: as `explain.report` raises them.
    """
    began = time.perf_counter()
    if isinstance(models, str | os.PathLike):
        raise UsageError(f"a comparison takes two or more models, got only {os.fspath(models)!r}")
    if len(models) < 2:
        raise UsageError(f"a comparison takes two or more models, got {len(models)}")
    folder = writing.check(out, "comparison")
    _check(models, clip, methods, sections, target, dtype, n_steps)
    named = _unique([_look_up(model, weights) for model in models])
    measured = [one.name for one in named if one.evaluation]
    if clip is None and (start or end is not None):
        raise UsageError("start and end cut a clip: give one (`--clip CLIP`)")
    if clip is None and len(measured) < 2:
        without = listed([one.name for one in named if not one.evaluation]).striptags()
        raise NoEvaluationError(
            f"nothing to compare: no evaluation of {without} is stored; measure it with "
            "`zoo evaluate NAME --out FILE.json` and give FILE.json as a model, or compare on a clip with `--clip`"
        )
    with ExitStack() as kept:
        shared: dict[str, Any] = {
            "seed": seed,
            "options": Options(methods=method_names(methods) or None, steps=n_steps),
            "progress": kept.enter_context(telling(progress)),
            "seconds": {},
            "began": began,
        }
        if clip is None:
            subjects = [Subject(name=one.name, entry=one.entry, evaluation=one.evaluation, **shared) for one in named]
        else:
            subjects = _on_clip(models, named, clip, (start, end), target, layout, device, dtype, kept, shared)
        built_in = [section for section in COMPARED if clip is not None or section.name not in ON_A_CLIP]
        parts, problems = pages.build(
            built_in,
            [sections] if isinstance(sections, str) else sections,
            {picture.name for picture in _pictures(subjects)},
            subjects[0].timed,
            "explain_comparisons",
            contexts=subjects,
        )
        return _write(folder, subjects, parts, problems)


def _check(
    models: Sequence[Any], clip: Any, methods: Any, sections: Any, target: Any, dtype: str | None, n_steps: int
) -> None:
    """What is wrong with a call can be said before anything is looked up."""
    asked = Counter(os.fspath(model) if isinstance(model, str | os.PathLike) else id(model) for model in models)
    twice = [name for name, times in asked.items() if times > 1]
    if twice:
        raise UsageError(
            f"{twice[0] if isinstance(twice[0], str) else 'a module'} is named twice; name each model once"
        )
    if n_steps < 1:
        raise UsageError(f"n_steps must be at least 1, got {n_steps}")
    if isinstance(target, str) and target == "all":
        raise UsageError("every output is explained by `explain report`; a comparison explains one: name it as target")
    modules = [type(model).__name__ for model in models if not isinstance(model, str | os.PathLike)]
    if dtype is not None and len(modules) == len(models):
        raise UsageError("dtype is for models given by name; modules are used as they are")
    if clip is None:
        if modules:
            raise UsageError(f"a module ({modules[0]}) can be compared on a clip alone: give clip")
        for name, given in (("methods are", methods), ("target is", target), ("dtype is", dtype)):
            if given is not None:
                raise UsageError(f"{name} about a clip: give one (`--clip CLIP`)")
        wanted = [sections] if isinstance(sections, str) else list(sections or ())
        for name in wanted:
            if name in ON_A_CLIP:
                raise UsageError(f"the section {name} is about a clip: give one (`--clip CLIP`)")
        return
    if method_names(methods) == ():
        raise UsageError("methods names no attribution method; name one, or give None for three usual ones")


def _look_up(model: Any, weights: str | None) -> _Named:
    """What a name, a file or a module stands for, and what was measured of it."""
    from zoo.training.evaluation import stored

    if not isinstance(model, str | os.PathLike):
        return _module(model)
    asked = os.fspath(model)
    if asked.endswith((".json", ".safetensors")):
        return _file(asked, {**stored(asked), "file": asked})
    listing, chosen, tagged = catalog.find(asked)
    entry = listing.entry
    if not tagged and weights != "default":
        chosen = None if weights is None else catalog.weights_of(entry, weights)
    name = f"{entry.name}.{chosen.tag}" if chosen else entry.name
    if chosen is None and weights is not None:
        reason = f"{name} has no trained weights; `--weights none` gives random ones (weights=None in Python)"
        return _Named(name=name, entry=entry.resolve(None), evaluation=None, load=None, reason=reason)
    return _Named(
        name=name,
        entry=entry.resolve(chosen),
        evaluation=_evaluation(listing.full_name, chosen),
        load=(listing.full_name, chosen.tag if chosen else None),
    )


def _evaluation(full_name: str, weights: WeightsEntry | None) -> dict[str, Any] | None:
    """The stored evaluation of registered weights, or else the metrics that their entry gives."""
    from dataclasses import asdict

    from zoo.training.evaluation import stored

    if weights is None:
        return None
    try:
        return stored(f"{full_name}.{weights.tag}")
    except NoEvaluationError:
        if not weights.metrics:
            return None
    metrics = [asdict(metric) for metric in weights.metrics]
    return {"sha256": weights.sha256, "clips_measured": None, "metrics": metrics, "breakdown": {}}


def _module(model: nn.Module) -> _Named:
    from zoo.models.provenance import entry_of

    entry = entry_of(model)
    loaded = getattr(model, "zoo_load_report", None)
    evaluation = None
    if entry is not None and entry.weights and loaded is not None and loaded.tag is not None:
        try:
            listing, chosen, _ = catalog.find(loaded.name)
        except UnknownNameError:  # loaded from a file
            chosen = None
        if chosen is not None and chosen.sha256 == loaded.sha256:
            evaluation = _evaluation(listing.full_name, chosen)
    name = loaded.name if loaded else entry.name if entry else type(model).__name__
    return _Named(name=name, entry=entry, evaluation=evaluation, load=None)


def _file(asked: str, evaluation: dict[str, Any]) -> _Named:
    """The model that a stored evaluation is of: weights beside the file, or registered ones of the same checksum."""
    told = str(evaluation["model"])
    name = Path(told).stem if told.endswith(".safetensors") else told
    architecture = told.rpartition("/")[2].partition(".")[0]
    try:
        listing, _, _ = catalog.find(architecture)
    except UsageError:
        reason = f"{asked} is an evaluation of {told}, and no installed plugin gives this model"
        return _Named(name=name, entry=None, evaluation=evaluation, load=None, reason=reason)
    beside = _weights_beside(Path(asked).expanduser(), evaluation)
    if beside is not None:
        weights: WeightsEntry | None = beside
        load: tuple[str, str | None] | None = (listing.full_name, beside.source)
    else:
        checksum = evaluation.get("sha256")
        same = [weights for weights in listing.entry.weights if checksum and weights.sha256 == checksum]
        weights = same[0] if same else None
        load = (listing.full_name, same[0].tag) if same else None
    return _Named(
        name=name,
        entry=listing.entry.resolve(weights),
        evaluation=evaluation,
        load=load,
        reason=f"the weights that {asked} is an evaluation of are neither beside it nor registered",
    )


def _weights_beside(path: Path, evaluation: dict[str, Any]) -> WeightsEntry | None:
    """The weights file of the same name, unless the evaluation is of other weights, or of random ones."""
    from zoo.weights.describing import describe_file

    path = path.with_suffix(".safetensors")
    if not path.is_file():
        return None
    weights, checksum = describe_file(str(path)), evaluation.get("sha256")
    # Only what training wrote lies beside its weights by design; older records name no checksum.
    return weights if checksum == weights.sha256 or (checksum is None and "recipe" in evaluation) else None


def _unique(named: list[_Named]) -> list[_Named]:
    """The same under names of their own: the second of a name gets a number."""
    seen: Counter[str] = Counter()
    unique = []
    for one in named:
        seen[one.name] += 1
        unique.append(replace(one, name=f"{one.name} ({seen[one.name]})") if seen[one.name] > 1 else one)
    return unique


def _on_clip(
    models: Sequence[Any],
    named: Sequence[_Named],
    clip: Any,
    part: tuple[float, float | None],
    target: Any,
    layout: Layout | None,
    device: str,
    dtype: str | None,
    kept: ExitStack,
    shared: dict[str, Any],
) -> list[Subject]:
    """Load what has to be loaded, and ask every model about the clip."""
    for one, model in zip(named, models, strict=True):
        if one.load is None and isinstance(model, str | os.PathLike):
            raise WeightsError(one.reason) if one.evaluation else UsageError(one.reason)
    import zoo
    from zoo import clips

    if isinstance(clip, str | os.PathLike):
        clips.check_exists(os.fspath(clip))  # before models are loaded, which takes its time
    from explain.model.preservation import preserved
    from explain.reporting import driver, reading

    subjects: list[Subject] = []
    pictures: list[Context] = []
    seed = shared["seed"]
    for module in sorted((model for model in models if model is not None and not isinstance(model, str)), key=id):
        kept.enter_context(preserved(module))  # in one order: two threads that compare the same models wait only once
    for place, (one, model) in enumerate(zip(named, models, strict=True)):
        shared["progress"](f"asking {one.name}", 0, 1)
        module = model
        if one.load:
            module = zoo.load(one.load[0], weights=one.load[1], device=device, dtype=dtype, seed=seed)
        kept.enter_context(preserved(module))
        kept.enter_context(driver.laid_out(module, clip, layout if one.entry is None else None))
        module.eval()
        context = reading.read(
            module, clip, target, part=part, picture=f"clip-{place}", name=one.name, evaluation=one.evaluation, **shared
        )
        if one.load and dtype is not None:
            told = reading.changed(module, context.clip, one.load[0], weights=one.load[1], seed=seed)
            context = reading.warned(context, told)
        # Models that see the same pixels share one picture.
        same = [other for other in pictures if _same(other.frames, context.frames)]
        context = replace(context, picture=same[0].picture) if same else context
        pictures += [] if same else [context]
        subjects.append(context)
    return subjects


def _same(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and (one == other).all())


def _pictures(subjects: Iterable[Subject]) -> list[Sprite]:
    """Each clip as a model sees it, once."""
    found = {subject.picture.name: subject.picture for subject in subjects if isinstance(subject, Context)}
    return list(found.values())


def _write(folder: Path, subjects: list[Subject], parts: list[Part], problems: list[dict[str, str]]) -> Report:
    built = {part.name: part.content for part in parts if part.content}
    last = built.get("provenance")
    run = dict(last.data) if last else provenance.facts_of_models(subjects)
    clip = subjects[0].clip
    warnings = measurements.warnings(subjects) + _of_clips(subjects)
    said = measurements.sentence(subjects)
    names = [subject.name for subject in subjects]
    data: dict[str, Any] = {
        "models": names,
        "clip": clip.source if clip else None,
        "summary": said,
        "warnings": warnings,
        "run": run,
        "problems": problems,
    }
    pictures = _pictures(subjects)
    clip_name = None
    if clip is not None:
        from explain.reporting.reading import clip_name as name_of

        clip_name = name_of(clip)
    return pages.write(
        folder,
        "comparison",
        parts,
        data,
        {f"batch/{subject.name}": subject.batch for subject in subjects if subject.batch is not None},
        {"models": names, "clip": data["clip"], "seed": subjects[0].seed},
        pictures,
        names=names,
        clip_name=clip_name,
        sentence=said,
        notices=[f"Note: {warning}" for warning in warnings] + _untrained(subjects) + pages.broken(problems),
        frames=max((picture.frames for picture in pictures), default=0),
    )


def _of_clips(subjects: Sequence[Subject]) -> list[str]:
    """What there is to know of the clip, and, by their names, of what some of the models make of it alone."""
    told: dict[str, list[str]] = {}
    for subject in subjects:
        for warning in subject.clip.warnings if subject.clip else ():
            told.setdefault(warning, []).append(subject.name)
    return [
        warning if len(names) == len(subjects) else f"{listed(names).striptags()}: {warning}"
        for warning, names in told.items()
    ]


def _untrained(subjects: Sequence[Subject]) -> list[str]:
    if all(subject.model is None for subject in subjects):
        return []  # stored evaluations alone need no torch
    from explain.reporting import reading
    from zoo.models.provenance import origin_of

    said, random = [], []
    for subject in subjects:
        origin = None if subject.model is None else origin_of(subject.model)
        if subject.model is None or origin is None:
            continue
        if origin.status == "random" and isinstance(subject, Context):
            random.append(subject.name)
        said += reading.unproven(origin, subject.name) or reading.adapted(subject.model, subject.name)
    if not random:
        return said
    names = listed(random).striptags()
    return [*said, f"The weights of {names} are random: nothing was learned, and the maps mean nothing yet."]
