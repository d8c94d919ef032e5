"""Where a model's tensors come from is found by comparing them, not by what the model is called."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.models import provenance
from zoo.models.features import Features
from zoo.models.provenance import origin_of

NAME = "3t_resnet18_w16"


def loaded(**options):
    return zoo.load(NAME, **options)


def test_a_model_of_a_file_is_that_file_in_every_type_and_wrapping():
    model = loaded()
    sha256 = model.zoo_load_report.sha256
    with torch.inference_mode():
        inference = loaded()
    for one in (
        model,
        copy.deepcopy(model),
        loaded().half(),
        loaded(dtype="bfloat16").float(),
        loaded().train(),
        inference,
        Features(loaded(), ["fc"]),
        torch.compile(loaded(), backend="eager"),
    ):
        assert (origin_of(one).status, origin_of(one).sha256) == ("file", sha256)
    assert provenance.entry_of(model) is model.zoo_entry


def _in_place(model):
    with torch.no_grad():
        model.fc.weight[0, 0] += 1e-3


def _unseen_by_autograd(model):
    model.fc.weight.data.mul_(1.5)


def _exchanged(model):
    model.fc.bias = nn.Parameter(model.fc.bias.detach() + 1)


def _statistics(model):
    model.train()
    model(torch.rand(model.zoo_entry.input.shape))


def _another_head(model):
    model.fc = nn.Linear(128, 3)


def _filled(model):
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


CHANGES = [_in_place, _unseen_by_autograd, _exchanged, _statistics, _another_head, _filled]


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_changed_after_loading_is_modified(change):
    model = loaded()
    assert origin_of(model).status == "file"  # what is kept from here must not be believed
    change(model)
    origin = origin_of(model)
    assert (origin.status, origin.sha256, origin.tag) == ("modified", None, model.zoo_load_report.tag)
    assert "modified since loading" in origin.text
    assert provenance.entry_of(model).weights == ()


@pytest.mark.parametrize("change", CHANGES)
def test_a_random_model_that_was_filled_or_trained_is_of_unknown_origin(change):
    model = loaded(weights=None)
    origin = origin_of(model)
    assert origin.status == "random"
    assert "learned nothing" in origin.text
    change(model)
    origin = origin_of(model)
    assert origin.status == "unknown"
    assert "unknown origin" in origin.text
    assert "learned nothing" not in origin.text


def test_a_model_with_a_new_head_is_adapted_until_it_is_trained():
    model = loaded(num_classes=5)
    origin = origin_of(model)
    assert (origin.status, origin.sha256) == ("adapted", None)
    assert provenance.entry_of(model).weights == ()
    model.fc.weight.data.add_(1.0)  # the head alone: the backbone is still the file's
    assert origin_of(model).status == "modified"


def test_a_file_that_is_gone_or_replaced_is_not_vouched_for(tmp_path):
    file = tmp_path / "mine.safetensors"
    tensors = loaded().state_dict()
    save_file(tensors, file)
    model = loaded(weights=str(file))
    assert origin_of(model).status == "file"
    save_file({name: value * 2 for name, value in tensors.items()}, file)
    assert origin_of(copy.deepcopy(model)).status == "unverified"
    file.unlink()
    assert origin_of(copy.deepcopy(model)).sha256 is None


def test_modules_that_zoo_did_not_load():
    plain = nn.Linear(2, 2)
    assert origin_of(plain) is None
    assert provenance.entry_of(plain) is None
    plain.zoo_entry = zoo.info(NAME)
    assert origin_of(plain).status == "unknown"
    assert provenance.entry_of(plain).weights == ()


def test_comparing_is_done_once_for_the_same_tensors(monkeypatch):
    model = loaded()
    calls = []
    compared = provenance._compared
    monkeypatch.setattr(provenance, "_compared", lambda *given: calls.append(1) or compared(*given))
    for _ in range(3):
        assert origin_of(model).status == "file"
    _in_place(model)
    assert [origin_of(model).status for _ in range(2)] == ["modified"] * 2
    assert len(calls) == 2
