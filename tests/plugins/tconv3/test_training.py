import pytest
import torch

from zoo.entries.recipes import Stage
from zoo.registry import catalog
from zoo_tconv3 import training
from zoo_tconv3.recipes import RECIPES

ARGUMENTS = {"design": "resnet18", "narrowed": 16, "in_channels": 1, "classes": 2}


def stage(**arguments):
    return Stage(name="clips", steps=1, batch_size=6, learning_rate=1e-3, data="", loss="", arguments=arguments)


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


@pytest.mark.parametrize("design", ["resnet18", "googlenet"])
def test_the_loss_is_cross_entropy_with_the_published_share_of_auxiliary_heads(design):
    torch.manual_seed(0)
    network = training.build(design=design, kernel="3d", narrowed=4, in_channels=1, classes=2).eval()
    batch = {"clips": torch.randint(0, 255, (2, 1, 16, 64, 64), dtype=torch.uint8), "label": torch.tensor([0, 1])}
    x = batch["clips"].float() / 255
    with torch.no_grad():
        loss, terms = training.loss(network, batch, stage())
        main, *auxiliary = network.forward_auxiliary(x) if design == "googlenet" else (network(x),)
        expected = sum(
            weight * -guess.log_softmax(1)[[0, 1], batch["label"]].mean()
            for weight, guess in [(1.0, main), *((0.3, guess) for guess in auxiliary)]
        )
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert terms["accuracy"] == (main.argmax(1) == batch["label"]).float().mean()


def test_the_pull_draws_every_temporal_parameter_to_the_identity():
    network = training.build(kernel="3t", **ARGUMENTS)
    assert training.deviation(network) == 0
    with torch.no_grad():
        network.conv1.scale.add_(0.5)
        network.layer1[0].conv2.rotation.sub_(0.25)
    found = training.deviation(network)
    assert found.item() == pytest.approx(
        0.5 * network.conv1.scale.numel() + 0.25 * network.layer1[0].conv2.rotation.numel()
    )
    found.backward()
    assert (network.conv1.scale.grad == 1).all()
    assert (network.layer1[0].conv2.rotation.grad == -1).all()


def test_a_transfer_begins_with_the_convolutions_of_the_2d_network():
    import zoo

    network = training.build(
        design="resnet18",
        kernel="3t",
        narrowed=4,
        in_channels=1,
        classes=9,
        inflated_from="2d_resnet18_w16.still_digits",
    )
    flat = zoo.load("2d_resnet18_w16.still_digits")
    assert torch.equal(network.layer3[0].conv1.base, flat.layer3[0].conv1.weight)
    assert torch.equal(network.layer2[0].downsample[0].weight[:, :, 0], flat.layer2[0].downsample[0].weight)
    assert not torch.equal(network.bn1.running_mean, flat.bn1.running_mean)
    assert network.zoo_start == {"2d_resnet18_w16.still_digits": flat.zoo_weights.sha256}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_step_of_each_recipe_learns(recipe, mnist):
    from dataclasses import replace

    network = training.build(**recipe.arguments).train()
    one = replace(recipe.stages[0], batch_size=2)
    loss, terms = training.loss(network, training.clips(network, one, 1, torch.device("cpu"))(0), one)
    loss.backward()
    assert loss.isfinite()
    assert terms.keys() == {"accuracy"}
    assert catalog.recipe(recipe.name) is not None
    first = next(iter(network.parameters()))
    assert first.grad.abs().max() > 0
