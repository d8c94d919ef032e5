import pytest

from zoo.errors import UnknownNameError, UsageError
from zoo.training.evaluation import evaluate

PLUGIN = """
    from zoo import InputSpec, ModelEntry, OutputSpec, Recipe, hookimpl

    def build():
        from torch import nn
        return nn.Linear(2, 3)

    def measure(network, device):
        return {"metrics": [], "breakdown": {"parameters": len(list(network.parameters())), "device": str(device)}}

    @hookimpl
    def zoo_models():
        return [ModelEntry(name="flat", builder=f"{__name__}:build", summary="flat", parameters=9,
                           input=InputSpec(frames=1, size=(1, 2)), outputs=(OutputSpec(),))]

    @hookimpl
    def zoo_recipes():
        return [Recipe(name="flat.tag", build="b:b", export="e:e", example="x:x", stages=(),
                       evaluate=f"{__name__}:measure")]
"""


@pytest.fixture
def flat(installed, monkeypatch):
    installed.add("flat", PLUGIN)
    installed.use(monkeypatch)


def test_a_model_is_measured_as_its_recipe_says(flat):
    found = evaluate("flat", weights=None, recipe="flat.tag")
    assert found == {"metrics": [], "breakdown": {"parameters": 2, "device": "cpu"}}


def test_weights_without_a_recipe_need_one_named(flat):
    with pytest.raises(UsageError, match="say which recipe"):
        evaluate("flat", weights=None)
    with pytest.raises(UnknownNameError, match=r"flat\.tag"):
        evaluate("flat", weights=None, recipe="flat.tak")
