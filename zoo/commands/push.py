"""`zoo push`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from zoo.commands.shared import options, output
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.publishing.pushing import Pushed


@click.command(
    cls=options.Examples,
    epilog="zoo push conv3d me/conv3d --dry-run\n"
    "zoo push runs/mine/conv3d.mine.safetensors me/conv3d-mine --public\n"
    "zoo push --all-first-party --org motion-zoo",
)
@click.argument("model", metavar="NAME|FILE", required=False)
@click.argument("repo", metavar="ORG/REPO", required=False)
@click.option("--weights", default="default", show_default=True, metavar="TAG|FILE", help="Of a NAME: which weights.")
@click.option("--architecture", metavar="NAME", help="Of a FILE: what it is for. [default: what its name begins with]")
@click.option("--public", is_flag=True, help="Let everybody see it; private otherwise.")
@click.option("--dry-run", is_flag=True, help="Show what would go up, and ask no server.")
@click.option("--message", help="Message of the commit.")
@click.option("--all-first-party", is_flag=True, help="Push every weights file that the first-party plugins bundle.")
@click.option("--org", metavar="ORG", help="With --all-first-party: whose repositories, each ARCHITECTURE.TAG.")
@options.token
@options.as_json
def push(
    model: str | None,
    repo: str | None,
    weights: str,
    architecture: str | None,
    message: str | None,
    org: str | None,
    token: str | None,
    *,
    public: bool,
    dry_run: bool,
    all_first_party: bool,
    as_json: bool,
) -> None:
    """Put a model on the Hugging Face Hub in one commit: weights, configuration, golden tensors and card.

    What is printed at the end loads it again, wherever its plugin is installed, and pins it in a plugin's entry.
    """
    from zoo.publishing import pushing

    if all_first_party:
        if not org or model:
            raise UsageError("--all-first-party takes --org ORG, and no other name")
        done = pushing.push_first_party(
            org,
            report=lambda one: output.note(_line(one)),
            public=public,
            dry_run=dry_run,
            token=token,
            message=message,
        )
    else:
        if not model or not repo or org:
            raise UsageError(
                "expected NAME|FILE and ORG/REPO, or --all-first-party and --org ORG; see `zoo push --help`"
            )
        done = [
            pushing.push(
                model,
                repo,
                weights=weights,
                architecture=architecture,
                public=public,
                dry_run=dry_run,
                token=token,
                message=message,
            )
        ]
    data = [dataclasses.asdict(one) for one in done]
    rows = [[one.repo, file.name, file.bytes, file.sha256[:12]] for one in done for file in one.files]
    text = output.table(["repository", "file", "bytes", "sha256"], rows)
    text += "\n\n" + "\n".join(_line(one) for one in done) + ("" if all_first_party else _pinned(done[0]))
    output.emit(data if all_first_party else data[0], text, as_json=as_json)


def _line(one: Pushed) -> str:
    seen = "private" if one.private else "public"
    if one.name is None:
        return f"{one.model} would go to {one.repo} ({seen}); nothing was sent"
    return f"{one.model} is at {one.repo} ({seen}): zoo load {one.name}"


def _pinned(one: Pushed) -> str:
    """Format a line of the weights' fields for a plugin's entry; empty if nothing was sent."""
    from zoo.weights import hub

    if one.name is None:
        return ""
    (weights,) = (file for file in one.files if file.name == hub.WEIGHTS)
    given = {"tag": one.model.partition(".")[2], "source": one.source, "bytes": weights.bytes}
    given |= {"sha256": weights.sha256, "golden": f"{one.name}:{hub.GOLDEN}"}
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return f"\nin a plugin's entry: zoo.WeightsEntry({arguments})"
