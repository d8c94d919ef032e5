"""`zoo verify`."""

from __future__ import annotations

import dataclasses

import click

from zoo.commands.shared import options, output
from zoo.names import is_pattern


@click.command(cls=options.Examples, epilog="zoo verify conv3d.blinking_mnist")
@click.argument("pattern", default="*")
@options.offline
@options.token
@options.as_json
@click.pass_context
def verify(context: click.Context, pattern: str, token: str | None, *, offline: bool, as_json: bool) -> None:
    """Hash weights again and recompute their golden outputs: one model, or all that match PATTERN."""
    from zoo.models import verification

    check = verification.verify_all if is_pattern(pattern) else verification.verify
    found = check(pattern, offline=offline, token=token)
    done = found if isinstance(found, list) else [found]
    rows = [
        [result.model, check.name, "ok" if check.passed else "FAILED", check.detail]
        for result in done
        for check in result.checks
    ]
    data = [{**dataclasses.asdict(result), "passed": result.passed} for result in done]
    output.emit(data, output.table(["weights", "check", "result", "detail"], rows), as_json=as_json)
    context.exit(0 if all(result.passed for result in done) else 1)
