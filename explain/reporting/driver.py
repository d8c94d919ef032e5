"""Report and comparison drivers: pages on one clip, on many clips, or on several models.

Neither importing this module nor comparing stored evaluations without a clip imports torch.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explain.attribution.options import takes_former_names
from explain.drawing.numbers import listed
from explain.progress import telling
from explain.reporting import pages, writing
from explain.reporting.context import Context, Options, Subject
from explain.reporting.sections import Section, of_page, select
from explain.reporting.topics import measurements, provenance
from zoo.errors import NoEvaluationError, UsageError, WeightsError
from zoo.names import short_name
from zoo.training.evaluated import Evaluated, find_evaluated

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explain.drawing.sprites import Sprite
    from explain.progress import Told
    from explain.reporting.pages import Part, Report
    from explain.sources import Source
    from zoo.clips import Clip
    from zoo.entries import Layout


@takes_former_names
def report(
    model: nn.Module | str,
    clip: str | os.PathLike[str] | Clip | Tensor,
    out: str | os.PathLike[str],
    *,
    methods: str | type | Sequence[str | type] | None = None,
    sections: str | Iterable[str] | None = None,
    target: Any = None,
    layout: Layout | None = None,
    device: str | None = None,
    dtype: str | None = None,
    weights: str | None = "default",
    layer: str | None = None,
    n_steps: int = 32,
    unit_layers: int | str | Sequence[str] = 3,
    units: int = 2,
    unit_steps: int = 64,
    thorough: bool = False,
    each: bool = False,
    start: float = 0.0,
    end: float | None = None,
    num_classes: int | Mapping[str, int] | None = None,
    in_channels: int | None = None,
    seed: int = 0,
    progress: Told = None,
) -> Report:
    """Write a report on a model's explanations of one clip or of many.

    The folder gets `report.html` (opens from disk, loads nothing), `report.json` (every number shown) and
    `tensors.safetensors` (raw maps). The folder is written atomically.

    A report on many clips aggregates over all of them, with 95% intervals, and shows the best and the worst. Clips that
    cannot be read are listed and skipped. Results are cached clip by clip in a hidden folder beside `out`: repeating an
    interrupted call resumes from there.

    Args:
        model: A name of the zoo, or a module; its parameters, flags, hooks and the random state are restored.
        clip: For many clips: a folder of videos or sub-folders (whose names are labels), a list of `path` or
            `path,label` per line (FILE.txt, FILE.csv), or "sample:NAME/*" (`explain.sources.find`). For one: an
            argument of `zoo.read_clip`, a `Clip`, or uint8 frames T x H x W x C. For a module from outside the zoo: its
            batch, one sample of floating-point numbers.
        out: Output folder: new, empty, or an earlier report, which is then replaced.
        methods: Names of attribution methods, at least one; None uses six default ones, four for many clips.
        sections: Names of sections; None uses all, including those of plugins (which are about one clip). Only what
            sections need is computed.
        target: What to explain, as in `explain.attribute`; None is the first output's predicted class, its value, or
            the part of a clip with the largest error. "all" explains each output, one after the other (for one clip).
        layout: Order of the axes of a batch, as in `explain.attribute`, for a module from outside the zoo.
        device: "cpu", "cuda", "cuda:N" or "auto", for a name; a module is used where it is. None is "auto".
        dtype: "bfloat16", "float32" ..., for a name; a module is used as it is. None is the model's own.
        weights: As in `zoo.load`, for a name.
        layer: Layer for methods that use one; None leaves the choice to each method.
        n_steps: Steps of integrated gradients.
        unit_layers: Layers whose units are maximized: how many, or their names.
        units: Number of units in each of them: the most active on the clip.
        unit_steps: Steps of activation maximization.
        thorough: Run the faithfulness tests in full (`explain.check_faithfulness`), which takes many times as long.
        each: Treat every image file of a folder as a clip. Otherwise a folder of images alone is one clip, frame by
            frame.
        start: Seconds of the clip, or of each of many, at which to begin.
        end: Seconds at which to stop; None goes to the end.
        num_classes: As in `zoo.load`, for a name: changed numbers of classes.
        in_channels: As in `zoo.load`, for a name: changed number of input channels.
        seed: Random seed.
        progress: Called as progress(step, done, total); True shows bars with the remaining time.

    Raises:
        OutputError: if the folder cannot be written, or contains other files.
        UnknownNameError: for an unknown model, clip, method, section, layer or target.
        ClipError, WeightsError, DeviceError, ModelError, MemoryLimitError: as `zoo.load`, `zoo.preprocess` and
            `explain.attribute` raise them.
    """
    began = time.perf_counter()
    folder = writing.check(out, "report")
    methods, sections = _checked(methods, sections, n_steps=n_steps, units=units, unit_steps=unit_steps)
    wanted = unit_layers if isinstance(unit_layers, int) else _names(unit_layers) or ()
    loading: dict[str, Any] = {"weights": weights, "num_classes": num_classes, "in_channels": in_channels}
    nothing = {"weights": "default", "num_classes": None, "in_channels": None}
    if not isinstance(model, str) and (device is not None or dtype is not None or loading != nothing):
        raise UsageError(
            "device, dtype, weights, num_classes and in_channels are for a model given by name; a module is used "
            "where and as it is"
        )
    import zoo
    from explain.model.layers import find_layer
    from explain.model.preservation import preserved
    from explain.reporting import reading
    from explain.sources import find as find_sources

    place = os.fspath(clip) if isinstance(clip, str | os.PathLike) else ""
    many = find_sources(place, each=each) if place else None
    if many is not None:
        if (wanted, units, unit_steps) != (3, 2, 64):
            raise UsageError(f"units are maximised for one clip, not for the {len(many)} of {place}")
        if reading.is_all(target):
            raise UsageError(
                f"every output is explained of one clip; of the {len(many)} of {place}, name one as target"
            )
    options = Options(
        methods=methods,
        layer=layer,
        steps=n_steps,
        unit_layers=wanted,
        units=units,
        unit_steps=unit_steps,
        thorough=thorough,
    )
    with telling(progress) as tell, ExitStack() as kept:
        name = model if isinstance(model, str) else None
        if isinstance(model, str):
            model = zoo.load(model, device=device or "auto", dtype=dtype, seed=seed, **loading)
        for one in [*([layer] if layer else []), *(() if isinstance(wanted, int) else wanted)]:
            find_layer(model, one)
        shared: dict[str, Any] = {"seed": seed, "options": options, "progress": tell, "began": began}
        kept.enter_context(preserved(model))
        if many is not None:
            model.eval()
            return _on_many(model, many, place, folder, sections, target, (start, end), shared)
        kept.enter_context(reading.laid_out(model, clip, layout))
        model.eval()
        context = reading.read(model, clip, target, part=(start, end), **shared)
        if name is not None and dtype is not None:
            context = reading.warned(context, reading.changed(model, context.clip, name, seed=seed, **loading))
        random = _is_random(context)
        without = ["training"] if random and sections is None else []
        parts, problems = pages.build(
            "one",
            context,
            sections,
            {context.picture.name},
            context.timed,
            of_page("one", without),
            pages.of_plugins("one", "explain_sections", without, context=context),
        )
        built = {part.name: part.content for part in parts if part.content}
        shown = [context.picture, *(built["prediction"].sprites if "prediction" in built else ())]
        left_out = list(reading.LEFT_OUT) if random else []
        return _write(
            folder,
            "report",
            parts,
            problems,
            provenance.facts(context),
            {
                "model": context.name,
                "clip": context.clip.source,
                "warnings": [*context.clip.warnings, *left_out],
                "target": context.target.description,
            },
            seed,
            tensors={"batch": context.batch},
            pictures=[context.picture],
            model_name=context.name,
            clip_name=short_name(context.clip.source),
            summary=context.entry.summary if context.entry else "",
            sentence=_sentence(context),
            notices=[
                *(f"Note: {warning}" for warning in context.clip.warnings),
                *(left_out or reading.untrained(model, reading.MAPS)),
            ],
            frames=max(sprite.frames for sprite in shown),  # a model may turn an image into a clip
        )


def _sentence(context: Context) -> str:
    from explain.reporting.topics.prediction import sentence

    return sentence(context.prediction)


def _is_random(subject: Subject) -> bool:
    from explain.model.layouts import has_random_weights

    return subject.model is not None and has_random_weights(subject.model)


def _on_many(
    model: nn.Module,
    sources: Sequence[Source],
    place: str,
    folder: Path,
    sections: tuple[str, ...] | None,
    target: Any,
    part: tuple[float, float | None],
    shared: Mapping[str, Any],
) -> Report:
    """Write one page on many clips; results are cached beside the report until it is written."""
    from explain.reporting import reading
    from explain.reporting.many import collecting
    from explain.reporting.many.aggregation import Collection
    from explain.reporting.many.resumption import Work
    from zoo import devices
    from zoo.models.provenance import entry_of

    collection = Collection(
        model=model,
        entry=entry_of(model),
        name=reading.named(model),
        device=str(devices.like(model).device),
        place=place,
        asked=target,
        part=part,
        **shared,
    )
    random = _is_random(collection)
    built_in = of_page("clips", ["training"] if random and sections is None else [])
    offered = built_in
    if set(sections or ()) - {section.name for section in built_in}:  # only possible with plugins
        offered = [*built_in, *(one for _, one in collecting.sections_of_plugins(collection, sources))]
    needs = {need for section in select(offered, sections) for need in section.needs}
    collection = replace(collection, maps="maps" in needs, tests="tests" in needs and not random)
    work = Work(folder, collecting.settings(collection))
    collecting.collect(collection, sources, work)
    entries = collection.entries
    added = {row["name"]: (key, Section(**row)) for one in entries for key, row in one.record["added"]}
    parts, problems = pages.build(
        "clips", collection, sections, set(), collection.timed, built_in, list(added.values())
    )
    warnings = collecting.notices(collection)
    written = _write(
        folder,
        "report",
        parts,
        problems,
        provenance.facts(collection),
        {
            "model": collection.name,
            "clip": place,
            "clips": len(entries),
            "failed": collection.failed,
            "warnings": warnings,
            "target": " or ".join(list(dict.fromkeys(one.record["target"] for one in entries))[:3]),
        },
        collection.seed,
        template="collected.html",
        model_name=collection.name,
        place=short_name(place),
        count=len(entries),
        image=max(one.record["frames"] for one in entries) == 1,
        summary=collection.entry.summary if collection.entry else "",
        sentence=collecting.sentence(collection),
        notices=warnings + reading.untrained(model, reading.MAPS),
        frames=max(one.record["frames"] for one in entries)
        if collection.views or any(one.time for one in entries)
        else 0,
    )
    work.clear()
    return written


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
    """Write a comparison of two or more models: their measurements, and their explanations of one clip.

    The folder gets `comparison.html` (opens from disk, loads nothing), `comparison.json` (every number shown) and, with
    a clip, `tensors.safetensors` (raw maps). The folder is written atomically.

    Args:
        models: Two or more: names of the zoo; files of evaluations (`zoo evaluate NAME --out FILE.json`, or the record
            that training wrote beside its weights); weights files with such a record beside them; with a clip, also
            modules.
        out: Output folder: new, empty, or an earlier comparison, which is then replaced.
        clip: An argument of `zoo.read_clip`, a `Clip`, or uint8 frames T x H x W x C; it is preprocessed for each
            model. None compares stored evaluations alone.
        start: Seconds of the clip at which to begin.
        end: Seconds at which to stop; None goes to the end.
        methods: Names of attribution methods, at least one; None uses three default ones. Needs a clip.
        sections: Names of sections; None uses all, including those of plugins.
        target: The target for each model, as in `explain.attribute`; None is the predicted class of its first output.
            Needs a clip.
        layout: Order of the axes of a batch, as in `explain.attribute`, for modules from outside the zoo.
        device: "cpu", "cuda", "cuda:N" or "auto", for models given by name.
        dtype: "bfloat16", "float32" ..., for models given by name; None is each model's own. Needs a clip.
        weights: As in `zoo.load`, for names without a tag.
        n_steps: Steps of integrated gradients.
        seed: Random seed.
        progress: Called as progress(step, done, total); True shows bars with the remaining time.

    Raises:
        UsageError: for fewer than two models, a duplicate, or fewer than two with an evaluation and no clip.
        OutputError: if the folder cannot be written, or contains other files.
        UnknownNameError: for an unknown model, clip, method, section or target.
        ClipError, WeightsError, DeviceError, ModelError, MemoryLimitError: as raised by `explain.report`.
    """
    began = time.perf_counter()
    if isinstance(models, str | os.PathLike):
        raise UsageError(f"a comparison takes two or more models, got only {os.fspath(models)!r}")
    if len(models) < 2:
        raise UsageError(f"a comparison takes two or more models, got {len(models)}")
    folder = writing.check(out, "comparison")
    methods, sections = _checked(methods, sections, n_steps=n_steps)
    _check_models(models, clip, methods, sections, target, dtype, (start, end))
    named = _unique([find_evaluated(model, weights) for model in models])
    if clip is None and sum(one.evaluation is not None for one in named) < 2:
        without = listed([one.name for one in named if not one.evaluation]).striptags()
        raise NoEvaluationError(
            f"nothing to compare: no evaluation of {without} is stored; measure it with "
            "`zoo evaluate NAME --out FILE.json` and give FILE.json as a model, or compare on a clip with `--clip`"
        )
    with ExitStack() as kept:
        shared: dict[str, Any] = {
            "seed": seed,
            "options": Options(methods=methods, steps=n_steps),
            "progress": kept.enter_context(telling(progress)),
            "seconds": {},
            "began": began,
        }
        subjects: Sequence[Subject]
        contexts: list[Context] = []
        if clip is None:
            subjects = [Subject(name=one.name, entry=one.entry, evaluation=one.evaluation, **shared) for one in named]
        else:
            subjects = contexts = _on_clip(
                models, named, clip, (start, end), target, layout, device, dtype, kept, shared
            )
        pictures = list({context.picture.name: context.picture for context in contexts}.values())
        lacking = [] if contexts else ["clip"]
        added = pages.of_plugins("models", "explain_comparisons", lacking, contexts=subjects)
        for context in contexts:
            found = pages.of_plugins("models", "explain_sections", context=context)
            added += [(key, one) for key, one in found if one.models and one not in [other for _, other in added]]
        parts, problems = pages.build(
            "models",
            subjects,
            sections,
            {picture.name for picture in pictures},
            subjects[0].timed,
            of_page("models", lacking),
            added,
        )
        warnings = measurements.warnings(subjects) + _of_clips(subjects)
        names = [subject.name for subject in subjects]
        source = contexts[0].clip.source if contexts else None
        return _write(
            folder,
            "comparison",
            parts,
            problems,
            provenance.facts_of_models(subjects),
            {"models": names, "clip": source, "warnings": warnings},
            seed,
            tensors={f"batch/{context.name}": context.batch for context in contexts},
            pictures=pictures,
            names=names,
            clip_name=source and short_name(source),
            sentence=measurements.sentence(subjects),
            notices=[*(f"Note: {warning}" for warning in warnings), *_untrained(subjects)],
            frames=max((picture.frames for picture in pictures), default=0),
        )


def _names(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return names without duplicates; a single name may be passed as a string."""
    return None if given is None else tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def _checked(
    methods: str | type | Iterable[str | type] | None, sections: str | Iterable[str] | None, **counts: int
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Validate the arguments of every page; return the names of methods and sections."""
    from explain.attribution.methods import method_names

    names = method_names(methods)
    if names == ():
        raise UsageError("methods names no attribution method; name one, or give None for the usual ones")
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}")
    return names, _names(sections)


def _check_models(
    models: Sequence[Any],
    clip: Any,
    methods: tuple[str, ...] | None,
    sections: tuple[str, ...] | None,
    target: Any,
    dtype: str | None,
    part: tuple[float, float | None],
) -> None:
    """Validate the models of a comparison before anything is looked up."""
    asked = Counter(os.fspath(model) if isinstance(model, str | os.PathLike) else id(model) for model in models)
    twice = [name for name, times in asked.items() if times > 1]
    if twice:
        raise UsageError(
            f"{twice[0] if isinstance(twice[0], str) else 'a module'} is named twice; name each model once"
        )
    if isinstance(target, str) and target == "all":
        raise UsageError("every output is explained by `explain report`; a comparison explains one: name it as target")
    modules = [type(model).__name__ for model in models if not isinstance(model, str | os.PathLike)]
    if dtype is not None and len(modules) == len(models):
        raise UsageError("dtype is for models given by name; modules are used as they are")
    if clip is not None:
        return
    if modules:
        raise UsageError(f"a module ({modules[0]}) can be compared on a clip alone: give clip")
    for name, given in (("methods are", methods), ("target is", target), ("dtype is", dtype)):
        if given is not None:
            raise UsageError(f"{name} about a clip: give one (`--clip CLIP`)")
    if part != (0.0, None):
        raise UsageError("start and end cut a clip: give one (`--clip CLIP`)")
    without = {section.name for section in of_page("models", ["clip"])}
    for section in of_page("models"):
        if section.name in (sections or ()) and section.name not in without:
            raise UsageError(f"the section {section.name} is about a clip: give one (`--clip CLIP`)")


def _unique(named: list[Evaluated]) -> list[Evaluated]:
    """Make names unique: repeated names get a number."""
    seen: Counter[str] = Counter()
    unique = []
    for one in named:
        seen[one.name] += 1
        unique.append(replace(one, name=f"{one.name} ({seen[one.name]})") if seen[one.name] > 1 else one)
    return unique


def _on_clip(
    models: Sequence[Any],
    named: Sequence[Evaluated],
    clip: Any,
    part: tuple[float, float | None],
    target: Any,
    layout: Layout | None,
    device: str,
    dtype: str | None,
    kept: ExitStack,
    shared: dict[str, Any],
) -> list[Context]:
    """Load the models, and predict the clip with each."""
    for one, model in zip(named, models, strict=True):
        if one.load is None and isinstance(model, str | os.PathLike):
            raise WeightsError(one.reason) if one.evaluation else UsageError(one.reason)
    import zoo
    from explain.model.preservation import preserved
    from explain.reporting import reading
    from zoo import clips

    if isinstance(clip, str | os.PathLike):
        clips.check_exists(os.fspath(clip))  # before models are loaded, which takes time
    contexts: list[Context] = []
    pictures: list[Context] = []
    seed = shared["seed"]
    for module in sorted((model for model in models if model is not None and not isinstance(model, str)), key=id):
        kept.enter_context(preserved(module))  # in a fixed order: two threads with the same models wait only once
    for place, (one, model) in enumerate(zip(named, models, strict=True)):
        shared["progress"](f"asking {one.name}", 0, 1)
        module = model
        if one.load:
            module = zoo.load(one.load[0], weights=one.load[1], device=device, dtype=dtype, seed=seed)
        kept.enter_context(preserved(module))
        kept.enter_context(reading.laid_out(module, clip, layout if one.entry is None else None))
        module.eval()
        context = reading.read(
            module, clip, target, part=part, picture=f"clip-{place}", name=one.name, evaluation=one.evaluation, **shared
        )
        if one.load and dtype is not None:
            told = reading.changed(module, context.clip, one.load[0], weights=one.load[1], seed=seed)
            context = reading.warned(context, told)
        # Models with the same input pixels share one sprite.
        same = [other for other in pictures if _same(other.frames, context.frames)]
        context = replace(context, picture=same[0].picture) if same else context
        pictures += [] if same else [context]
        contexts.append(context)
    return contexts


def _same(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and (one == other).all())


def _write(
    folder: Path,
    kind: str,
    parts: list[Part],
    problems: list[dict[str, str]],
    facts: Mapping[str, Any],
    data: dict[str, Any],
    seed: int,
    *,
    sentence: str,
    notices: Sequence[str],
    tensors: Mapping[str, Tensor] | None = None,
    pictures: Sequence[Sprite] = (),
    template: str = "",
    **page: Any,
) -> Report:
    """Write a page: `facts` of the run go into its JSON file unless the section on provenance has more."""
    last = next((part.content for part in parts if part.name == "provenance" and part.content), None)
    about = {key: value for key, value in data.items() if key in {"model", "models", "clip"}}
    return pages.write(
        folder,
        kind,
        parts,
        {**data, "summary": sentence, "run": dict(last.data if last else facts), "problems": problems},
        tensors or {},
        {**about, "seed": seed},
        pictures,
        template=template,
        sentence=sentence,
        notices=[*notices, *pages.broken(problems)],
        **page,
    )


def _of_clips(subjects: Sequence[Subject]) -> list[str]:
    """Return the notices on the clip for all models and, by name, those for some models only."""
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
        return []  # stored evaluations alone do not need torch
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
