import dataclasses
import json
import subprocess
import sys

import pytest

from zoo.training import Recipe, Stage


def stage(**changes):
    return Stage(
        **{"name": "a", "steps": 3, "batch_size": 4, "learning_rate": 0.1, "data": "d:d", "loss": "l:l", **changes}
    )


def test_a_recipe_counts_its_steps_and_clips_and_is_json():
    stages = (stage(), stage(name="b", steps=5, batch_size=2))
    recipe = Recipe(name="m.t", build="b:b", export="e:e", evaluate="v:v", example="x:x", stages=stages)
    assert recipe.steps == 8
    assert recipe.clips == 22
    assert json.loads(json.dumps(recipe.to_dict()))["stages"][1]["name"] == "b"


def test_fields_that_older_records_do_not_have_are_written_where_they_hold_something():
    plain = Recipe(name="m.t", build="b:b", evaluate="v:v", stages=())
    assert set(plain.to_dict()) == {"name", "build", "evaluate", "stages", "seed", "arguments", "header", "summary"}
    given = {"evaluate_arguments": {"kind": "zoom"}, "example": "x:x", "example_arguments": {"frames": 8}}
    assert dataclasses.replace(plain, **given).to_dict() == {**plain.to_dict(), **given}
    old = dataclasses.replace(plain, export="e:e", example="x:x")
    assert old.to_dict() == {**plain.to_dict(), "export": "e:e", "example": "x:x"}


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage().steps = 9


def test_recipes_do_not_import_torch():
    code = "import sys, zoo.training; from zoo import Recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
