"""Moments are named by time and index, and every command that takes a clip takes a part of one."""

from __future__ import annotations

import inspect

import click
import pytest

import explain
from explain.cli import commands as explain_commands
from zoo.cli import commands as zoo_commands
from zoo.clips import moment


def test_a_moment_is_named_by_its_time_if_that_is_known():
    times = [frame / 30 for frame in range(48)]
    assert moment(46, 48, times) == "at 1.53 s, frame 46 of 0-47"
    assert moment(46, 48, None) == "in frame 46 of 0-47"
    assert moment(3, 8, times) == "in frame 3 of 0-7"  # of a map with other frames than the clip


@pytest.mark.parametrize("program", [zoo_commands, explain_commands], ids=["zoo", "explain"])
def test_every_command_that_takes_a_clip_takes_a_part_of_it(program):
    found = {}
    for name, command in program.commands.items():
        names = {parameter.name for parameter in command.params}
        takes_clip = any(
            parameter.name in {"clip", "clips"} and not isinstance(parameter.type, click.types.IntParamType)
            for parameter in command.params
        )
        if takes_clip:
            found[name] = {"start", "end"} <= names
    assert found
    assert all(found.values()), found


@pytest.mark.parametrize("function", [explain.report, explain.compare, explain.top_clips])
def test_functions_take_a_part_of_a_clip(function):
    parameters = inspect.signature(function).parameters
    assert (parameters["start"].default, parameters["end"].default) == (0.0, None)
