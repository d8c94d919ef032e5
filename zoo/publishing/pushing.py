"""Models put on the Hugging Face Hub: weights, what they are for, golden tensors and the card, in one commit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo import devices
from zoo.entries import ModelEntry, WeightsEntry, licenses
from zoo.entries.overrides import overrides_of
from zoo.errors import ModelError, UnknownNameError, UsageError, one_line, shown
from zoo.limits import LONGEST_CONFIG
from zoo.models import loading, provenance, verification
from zoo.models.features import Features
from zoo.models.heads import by_head
from zoo.plain import plain
from zoo.publishing import cards
from zoo.registry import catalog, repositories, resolving
from zoo.weights import describing, files, hub, identification, obtaining, places, transfer

CARD: Final = "README.md"

#: Prefix of the distributions whose weights are published together.
_FIRST_PARTY = "motion-zoo-"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file that goes up."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Result of a push, or of a dry run."""

    model: str
    repo: str
    #: Whether only users with a token can see it.
    private: bool
    files: tuple[Upload, ...]
    #: The commit; None if nothing was sent.
    revision: str | None
    #: Name for `zoo.load`, and source for a WeightsEntry; None if nothing was sent.
    name: str | None
    source: str | None


def push(
    model: str | os.PathLike[str] | nn.Module,
    repo: str,
    *,
    weights: str | os.PathLike[str] = "default",
    architecture: str | None = None,
    public: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Push a model to the Hub in one commit: `model.safetensors`, `config.json`, `golden.safetensors` and the card.

    The repository is created if it does not exist, private unless `public`. `zoo.load` takes the returned `name`.

    Args:
        model: A name of the catalog, the path of a safetensors file, or a model loaded by `zoo.load` that may
            have been trained since.
        repo: ORG/NAME.
        weights: Weights of a name; as in `zoo.load`.
        architecture: Architecture of a file; by default the beginning of its name.
        public: Make it public; a repository that is public already is not written to without this.
        dry_run: Report what would be uploaded; the network is not used.
        token: Hub token; by default that of the environment.
        message: Commit message.

    Raises:
        UnknownNameError: for an unknown model, or a missing file.
        UsageError: if the repository's name is invalid or it is public already, the weights are third-party, or their
            license is not an identifier.
        ModelError: for a model that could not be loaded again, since something in it was changed after it was built,
            or that holds NaN or infinity. Nothing is sent before it was built anew, loaded strictly and compared.
        WeightsError: if a file is damaged or a pickle, or the Hub refuses or cannot be reached.
    """
    if not places.is_repository(repo):
        raise UsageError(f"{repo!r} is no name of a repository on the Hub; expected ORG/REPO, such as me/my_model")
    bundle = _bundle(_named(model), _named(weights), architecture, token)
    card = (bundle.card or _begun(bundle, repo)).encode()
    uploads = tuple(
        Upload(name=file, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for file, data in {**bundle.content, CARD: card}.items()
    )
    revision = None if dry_run else _commit(repo, bundle, public, token, message or f"{bundle.name} of motion-zoo")
    place = None if revision is None else f"hub:{repo}@{revision}"
    return Pushed(
        model=bundle.name,
        repo=repo,
        private=not public,
        files=uploads,
        revision=revision,
        name=place,
        source=place and f"{place}:{hub.WEIGHTS}",
    )


def push_first_party(
    organisation: str, *, report: Callable[[Pushed], None] = lambda _: None, **options: Any
) -> list[Pushed]:
    """Push every weights file that the first-party plugins bundle, each to ORG/ARCHITECTURE.TAG.

    Args:
        organisation: ORG.
        report: Called after each.
        options: As of `push`.

    Raises:
        UsageError: if none is installed; the other errors of `push`.
    """
    done = []
    for listing in catalog.listings():
        if listing.plugin.distribution.startswith(_FIRST_PARTY):
            for weights in listing.entry.weights:
                if not weights.is_foreign:
                    name = f"{listing.entry.name}.{weights.tag}"
                    done.append(push(f"{listing.full_name}.{weights.tag}", f"{organisation}/{name}", **options))
                    report(done[-1])
    if not done:
        raise UsageError("no first-party plugin with weights is installed; `zoo plugins` shows what is")
    return done


@dataclass(frozen=True, kw_only=True)
class _Bundle:
    """Files to upload, except the card."""

    entry: ModelEntry
    weights: WeightsEntry
    content: dict[str, bytes]
    #: Text of the card as its author keeps it; None if the repository's own is kept, or one is begun.
    card: str | None

    @property
    def name(self) -> str:
        return f"{self.entry.name}.{self.weights.tag}"


def _named(given: Any) -> Any:
    """Return the argument, with a path as text that can only name a file."""
    return str(Path(given).absolute()) if isinstance(given, os.PathLike) else given


def _bundle(model: str | nn.Module, weights: str, architecture: str | None, token: str | None) -> _Bundle:
    """Write the files of a model."""
    if isinstance(model, nn.Module):
        return _of_module(model)
    if not isinstance(model, str):
        raise UsageError(f"expected the name of a model, the path of a file or a module, not {shown(model)}")
    named = identification.is_file_name(model) or Path(model).is_file()
    from_file = named and not model.startswith("hub:")
    if from_file:
        path = obtaining.locate(model)
        files.read_header(path)  # a pickle is reported before anything else
        name = architecture or path.name.partition(".")[0]
        try:
            catalog.find(name)
        except UnknownNameError as error:
            hint = "say --architecture NAME (architecture= in Python)"
            raise UsageError(f"what {path} is for is not clear: {error}; {hint}") from error
        model, weights = name, str(path)
    entry, chosen = resolving.resolve(model, weights, token=token)
    if chosen is None:
        raise UsageError(f"{model} without weights is not pushed")
    if chosen.is_foreign:
        raise UsageError(f"{entry.name}.{chosen.tag} are weights that others publish ({chosen.source}); push your own")
    loaded = loading.load(model, weights=weights, token=token)  # whatever goes up can be loaded
    chosen = obtaining.obtain(chosen, token=token)
    chosen = dataclasses.replace(chosen, tag=chosen.tag.removeprefix(f"{entry.name}."))  # files are named so
    path = obtaining.locate(chosen.source)
    if path.name.endswith(files.INDEX):
        raise UsageError(f"{path} are several files: push the model that zoo.load gives, which becomes one")
    if chosen.golden is None:
        golden = _golden(loaded)
    else:
        if chosen.golden.startswith("hub:"):
            hub.fetch(places.parse(chosen.golden), token=token)
        golden = obtaining.locate(chosen.golden).read_bytes()
    listed = not from_file and not model.startswith("hub:") and weights == "default"
    _check_finite(loaded)
    return _bundled(entry.resolve(chosen), chosen, path.read_bytes(), golden, cards.render(model) if listed else None)


def _of_module(model: nn.Module) -> _Bundle:
    from safetensors.torch import save

    model = getattr(model, "_orig_mod", model)  # torch.compile wraps what it is given
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    report: Any = getattr(model, "zoo_load_report", None)
    if entry is None or report is None or isinstance(model, Features):
        hint = "; of DataParallel and its like push `model.module`" if hasattr(model, "module") else ""
        raise UsageError(f"only a model that zoo.load gave, its name, or a safetensors file can be pushed{hint}")
    if report.replaced:
        raise ModelError(
            f"{', '.join(report.replaced)} of {entry.name} was replaced after building, and no argument of its builder "
            "says so, so that the model could not be built again; add the arguments to the builder"
        )
    _check_finite(model)
    said = {"arguments": entry.arguments, "input": entry.input, "outputs": entry.outputs}
    header = json.dumps(plain(said))
    data = save(_state(model), metadata={describing.METADATA_KEY: header})
    known: WeightsEntry | None = getattr(model, "zoo_weights", None)
    origin = provenance.origin_of(model)
    # A name that a catalog gives to other tensors would be believed: what was changed is the pusher's own.
    unchanged = origin is not None and origin.status in {"file", "adapted", "random", "unverified"}
    tag = "random" if known is None else known.tag.partition(" ")[0]
    weights = WeightsEntry(
        tag=tag if unchanged else "trained",
        source="",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        license=entry.license if known is None else known.license,
    )
    batch = 4 * torch.randn(entry.input.shape, generator=torch.Generator().manual_seed(1))  # far from zero, too
    return _bundled(entry, weights, data, _golden(model), None, further=[(batch, _outputs(model, batch))])


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's tensors by the names of its builder's modules, each with memory of its own.

    Raises:
        ModelError: if some of its state is not plain tensors.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.is_quantized:
            what = type(value).__name__ if not isinstance(value, Tensor) else "a quantized tensor"
            raise ModelError(
                f"{name} of the model is {what}, which a weights file does not hold: quantized models are not pushed; "
                "push the model as it was before"
            )
        copied = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        tensors[name.replace("_orig_mod.", "")] = copied  # of parts that were compiled
    return tensors


def _check_finite(model: nn.Module) -> None:
    if odd := loading.not_finite(model):
        raise ModelError(
            f"{len(odd)} tensors of the model hold NaN or infinity ({', '.join(odd[:3])}), and nothing was sent; push "
            "a checkpoint from before its training diverged"
        )


def _bundled(
    entry: ModelEntry,
    weights: WeightsEntry,
    data: bytes,
    golden: bytes,
    card: str | None,
    further: Sequence[tuple[Tensor, Mapping[str, Tensor]]] = (),
) -> _Bundle:
    """Return the upload, once a model rebuilt from it reproduces the golden outputs, and those of `further`."""
    from safetensors.torch import load

    licenses.check(weights.license)
    same = (entry.name, entry.builder)
    listing = next((one for one in catalog.listings() if (one.entry.name, one.entry.builder) == same), None)
    if listing is None:
        raise UsageError(f"{entry.name} is of no installed plugin, so that nobody could load it by name")
    config = {
        "format": repositories.FORMAT,
        "library": f"motion-zoo {version('motion-zoo')}",
        "architecture": entry.name,
        "distribution": listing.plugin.distribution,
        "distribution_version": listing.plugin.version,
        "arguments": entry.arguments,
        "input": entry.input,
        "outputs": entry.outputs,
        "parameters": entry.parameters,
        "weights": {
            "tag": weights.tag,
            "bytes": weights.bytes,
            "sha256": weights.sha256,
            "license": weights.license,
            "metrics": weights.metrics,
        },
    }
    said = (json.dumps(plain(config), indent=1) + "\n").encode()
    try:
        overrides = overrides_of(json.loads(said))
        if len(said) > LONGEST_CONFIG:
            raise ValueError(f"its configuration is longer than {LONGEST_CONFIG:,} bytes")
    except ValueError as error:
        raise UsageError(f"{entry.name} would not load from a repository: {error}") from error
    expected = load(golden)
    described = listing.entry.resolve(dataclasses.replace(weights, **overrides))
    cases = [(expected.pop("input"), expected), *further]
    verification.check_rebuilt(described, load(data), cases)
    content = {
        hub.WEIGHTS: data,
        hub.CONFIG: said,
        hub.GOLDEN: golden,
    }
    return _Bundle(entry=dataclasses.replace(entry, weights=(weights,)), weights=weights, content=content, card=card)


def _golden(model: nn.Module) -> bytes:
    """Return one input, drawn from seed 0, and the model's outputs for it on the CPU in float32."""
    from safetensors.torch import save

    entry: Any = model.zoo_entry
    batch = torch.rand(entry.input.shape, generator=torch.Generator().manual_seed(0))
    return save({"input": batch, **_outputs(model, batch)})


@torch.no_grad()
def _outputs(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a copy of a model on the CPU in float32, by head.

    Raises:
        ModelError: if it does not run there.
    """
    import copy

    try:
        plain = copy.deepcopy(model).float().cpu().eval()
        given = plain(batch)
    except Exception as error:  # whatever was changed in it may raise anything
        if devices.is_out_of_memory(error):
            raise
        raise ModelError(
            f"the model does not run in float32 on the CPU on its own input {list(batch.shape)}, and nothing was "
            f"sent: {type(error).__name__}: {one_line(error)}"
        ) from error
    return {name: head.contiguous() for name, head in by_head(plain, given).items()}


def _begun(bundle: _Bundle, repo: str) -> str:
    """Return a card for a repository that has none, and whose model has none."""
    title = f"# {bundle.entry.name}\n\n{bundle.entry.summary}.\n"
    code = f'import zoo\n\nmodel = zoo.load("hub:{repo}@COMMIT")  # a commit of this repository, 40 hexadecimal digits'
    return cards.compose(bundle.entry, f"{title}\n```python\n{code}\n```\n")


def _commit(repo: str, bundle: _Bundle, public: bool, token: str | None, message: str) -> str:  # noqa: FBT001
    """Send everything as one commit; its 40 digits."""
    if transfer.is_hub_offline():
        raise UsageError(f"{repo} cannot be pushed to: {' or '.join(transfer.HUB_OFFLINE)} forbids the network")
    address = transfer.endpoint()
    content = dict(bundle.content)
    with transfer.told(repo, token):
        transfer.reach(address)
        from huggingface_hub import CommitOperationAdd, HfApi, errors

        api = HfApi(endpoint=address, token=token, library_name="motion-zoo")
        parent, card = None, bundle.card
        try:
            known = api.model_info(repo)
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError:
            api.create_repo(repo, private=not public, repo_type="model")
        else:
            if not known.private and not public:
                raise UsageError(f"{repo} is public already: --public (public=True in Python) says that this is meant")
            parent = known.sha
            if card is None and parent and CARD in {one.rfilename for one in known.siblings or ()}:
                kept = hub.fetch(places.Place(repo, parent, CARD), token=token).read_text(encoding="utf-8")
                card = cards.compose(bundle.entry, kept)
        content[CARD] = (card or _begun(bundle, repo)).encode()
        done = api.create_commit(
            repo,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in content.items()],
            commit_message=message,
            parent_commit=parent,
        )
    return str(done.oid)
