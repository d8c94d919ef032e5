"""`zoo check`."""

from __future__ import annotations

import dataclasses
import sys

import click

from zoo.commands.shared import options, output


@click.command(cls=options.Examples, epilog="zoo check my_plugin\nzoo check torchvision_models --models 'r*_18' --fast")
@click.argument("plugin")
@click.option("--models", default="*", show_default=True, metavar="PATTERN", help="Only models of this name.")
@click.option("--fast", is_flag=True, help="Leave out passes of more than two billion operations.")
@options.as_json
@click.pass_context
def check(context: click.Context, plugin: str, models: str, *, fast: bool, as_json: bool) -> None:
    """Run the conformance checks on an installed PLUGIN.

    Its module imports no torch; entries are complete; models build, have the declared parameters and outputs,
    evaluate deterministically, have finite gradients and can be saved as safetensors; weights, golden tensors, records
    and cards agree. `zoo.testing` has the same checks for pytest.
    """
    from tqdm import tqdm

    from zoo.authors import testing

    found = testing.cases(plugin, models=models, fast=fast)
    bar = tqdm(testing.run(found), desc="checks", total=len(found), disable=None, file=sys.stderr, leave=False)
    outcomes = list(bar)
    shown = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
    rows = [[outcome.subject, outcome.check, shown[outcome.result], outcome.detail] for outcome in outcomes]
    output.emit(
        [dataclasses.asdict(outcome) for outcome in outcomes],
        output.table(["of", "check", "result", "detail"], rows),
        as_json=as_json,
    )
    counts = [sum(outcome.result == result for outcome in outcomes) for result in shown]
    output.note(f"{counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    context.exit(1 if counts[1] else 0)
