"""What is pushed comes back equal; nothing goes up that cannot be loaded, unasked in public, or with a token in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

import zoo
from zoo.authors import testing
from zoo.errors import ModelError, UnknownNameError, UsageError, WeightsError
from zoo.models.heads import by_head
from zoo.publishing import pushing
from zoo.registry import catalog
from zoo.weights import digests, files, hub, obtaining

#: huggingface_hub 2.4 uploads to large-file storage in a way that its HTTP library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=.*:DeprecationWarning")


@pytest.fixture
def token(hub_server, monkeypatch):
    (secret,) = hub_server.tokens
    monkeypatch.setenv("HF_TOKEN", secret)
    return secret


@pytest.fixture
def trained(installed, tiny, monkeypatch, tmp_path):
    """The model `tiny` with weights in a file of its name."""
    installed.add("plain", tiny.replace("return [entry()]", "return [entry(outputs=(OutputSpec(name='shape', "
                                        "labels=('round', 'square', 'flat'), argument='classes'),))]"))  # fmt: skip
    installed.use(monkeypatch)
    path = tmp_path / "tiny.mine.safetensors"
    save_file(zoo.load("tiny", weights=None, seed=9).state_dict(), path)
    return path


def outputs(model):
    batch = torch.rand(model.zoo_entry.input.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return by_head(model, model(batch))


def assert_same(model, other):
    one, two = outputs(model), outputs(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


FIRST_PARTY = [name for name in zoo.list_models(pretrained=True) if not zoo.info(name).weights[0].is_foreign]


def test_every_first_party_weights_file_comes_back_equal(hub_server, token, monkeypatch):
    done = pushing.push_first_party("motion", token=token)
    assert [one.model for one in done] == FIRST_PARTY
    for one in done:
        known = zoo.info(one.model)
        loaded = zoo.load(one.name)
        entry, (weights,) = loaded.zoo_entry, loaded.zoo_entry.weights
        assert (entry.arguments, entry.input, entry.outputs) == (known.arguments, known.input, known.outputs)
        assert (weights.sha256, weights.metrics) == (known.weights[0].sha256, known.weights[0].metrics)
        original = zoo.load(one.model).state_dict()
        assert all(torch.equal(value, original[key]) for key, value in loaded.state_dict().items())
        assert hub_server.repositories[one.repo].private
    assert zoo.verify(done[0].name).passed
    asked = len(hub_server.asked)
    assert_same(zoo.load(done[0].model), zoo.load(done[0].name, offline=True))
    pinned = dataclasses.replace(zoo.info(done[1].model).weights[0], source=done[1].source)
    catalog.validate(dataclasses.replace(zoo.info(done[1].model), weights=(pinned,)))
    assert hub.obtain(pinned, offline=True).source.endswith("model.safetensors")
    assert len(hub_server.asked) == asked


def test_a_push_is_one_commit_of_four_files(hub_server, token):
    pushed = zoo.push("conv3d", "org/conv3d", message="first")
    repository = hub_server.repositories["org/conv3d"]
    assert repository.messages[1:] == ["first"]
    revision, content = repository.commits[-1]
    assert (pushed.revision, pushed.name) == (revision, f"hub:org/conv3d@{revision}")
    assert set(content) == {".gitattributes", "model.safetensors", "config.json", "golden.safetensors", "README.md"}
    assert {one.name: one.sha256 for one in pushed.files} == {
        name: hashlib.sha256(data).hexdigest() for name, data in content.items() if name != ".gitattributes"
    }
    config = json.loads(content["config.json"])
    assert config["architecture"] == "conv3d"
    assert config["distribution"] == "motion-zoo-spatiotemporal-mnist"
    assert config["outputs"][0]["labels"] == list("0123456789")
    assert content["README.md"].startswith(b"---\n")
    assert token.encode() not in b"".join(content.values())


def test_a_file_is_pushed_by_its_name_or_for_the_architecture_said(hub_server, token, trained, tmp_path):
    assert_same(zoo.load(zoo.push(str(trained), "me/tiny").name), zoo.load("tiny", weights=trained))
    other = tmp_path / "whatever.safetensors"
    other.write_bytes(trained.read_bytes())
    with pytest.raises(UsageError, match=r"what .*whatever.* is for is not clear: .*--architecture NAME"):
        zoo.push(str(other), "me/other")
    pushed = zoo.push(str(other), "me/other", architecture="tiny")
    assert pushed.model == "tiny.whatever"
    assert zoo.verify(pushed.name).passed


def test_a_file_is_pushed_by_its_path(hub_server, token, trained, tmp_path, monkeypatch):
    assert_same(zoo.load(zoo.push(trained, "me/tiny").name), zoo.load("tiny", weights=trained))
    assert zoo.push("tiny", "me/tiny", weights=trained, dry_run=True).model == zoo.push(trained, "me/tiny").model
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_bytes(trained.read_bytes())
    assert zoo.push(Path("tiny"), "me/tiny", dry_run=True).model == "tiny.tiny"
    with pytest.raises(UnknownNameError, match="absent"):
        zoo.push(Path("absent"), "me/tiny")


@pytest.mark.parametrize("model", [None, 3, b"tiny", {"weight": torch.zeros(1)}])
def test_what_is_no_model_is_not_pushed(hub_server, model):
    with pytest.raises(UsageError, match=re.escape(repr(model)[:8])):
        zoo.push(model, "me/tiny")
    assert not hub_server.asked


def test_a_model_trained_further_with_other_classes_comes_back(hub_server, token, trained):
    model = zoo.load("tiny", weights=trained, num_classes=5)
    with torch.no_grad():
        model[5].weight.add_(1)
    pushed = zoo.push(model, "me/tiny")
    loaded = zoo.load(pushed.name)
    assert_same(model, loaded)
    assert loaded.zoo_entry.arguments == {"classes": 5}
    assert loaded.zoo_entry.parameters == model.zoo_entry.parameters
    header = files.read_header(obtaining.locate(loaded.zoo_weights.source))
    assert json.loads(header.metadata["zoo"])["arguments"] == {"classes": 5}


def test_a_model_that_could_not_be_built_again_is_refused(hub_server, token, trained):
    with pytest.raises(ModelError, match=r"0 of tiny was replaced after building"):
        zoo.push(zoo.load("tiny", weights=trained, in_channels=3), "me/tiny")
    with pytest.raises(UsageError, match=r"only a model that zoo.load gave"):
        zoo.push(torch.nn.Linear(1, 1), "me/tiny")
    with pytest.raises(UsageError, match=r"only a model that zoo.load gave"):
        zoo.push(zoo.load("tiny", weights=trained, features=["0"]), "me/tiny")
    assert not hub_server.asked


def _weight_norm(model):
    torch.nn.utils.parametrizations.weight_norm(model[5])


def _old_weight_norm(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model[5])


def _adapter(model):
    model[5] = torch.nn.Sequential(model[5], torch.nn.Linear(3, 3, bias=False))


def _extra_head(model):
    model.extra = torch.nn.Linear(2, 4)


def _forward(model):
    plain = model.forward
    model.forward = lambda batch: plain(batch) + 1


CHANGES = {
    "another head": lambda model: model.__setitem__(5, torch.nn.Linear(2, 5)),
    "a wrapped head": lambda model: model.__setitem__(5, torch.nn.Sequential(torch.nn.Dropout(), model[5])),
    "no head": lambda model: model.__setitem__(5, torch.nn.Identity()),
    "an extra head": _extra_head,
    "an adapter": _adapter,
    "weight_norm": _weight_norm,
    "the old weight_norm": _old_weight_norm,
    "another activation": lambda model: model.__setitem__(2, torch.nn.GELU()),
    "a clipped activation": lambda model: model.__setitem__(2, torch.nn.Hardtanh(0, 0.1)),
    "another forward": _forward,
    "a hook": lambda model: model[0].register_forward_hook(lambda module, inputs, output: 2 * output),
    "quantized weights": lambda model: model.__setitem__(5, _quantized(model[5])),
    "NaN": lambda model: torch.nn.init.constant_(model[5].bias, float("nan")),
    "infinity in statistics": lambda model: model[1].running_var.fill_(float("inf")),
}


def _quantized(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear})[0]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_after_building_is_not_pushed(hub_server, token, trained, change):
    model = zoo.load("tiny", weights=trained)
    CHANGES[change](model)
    with pytest.raises(ModelError):
        zoo.push(model, "me/tiny")
    assert not hub_server.asked
    assert not hub_server.repositories


@pytest.mark.parametrize("part", ["whole", "layer", "in place"])
def test_a_compiled_model_is_pushed_as_the_model_it_was(hub_server, token, trained, part):
    model = zoo.load("tiny", weights=trained, num_classes=5)
    expected = outputs(model)["shape"]
    if part == "in place":
        model.compile(backend="eager")
    elif part == "layer":
        model[5] = torch.compile(model[5], backend="eager")
    pushed = zoo.push(torch.compile(model, backend="eager") if part == "whole" else model, "me/tiny")
    torch.testing.assert_close(outputs(zoo.load(pushed.name))["shape"], expected, rtol=0, atol=0)
    assert zoo.verify(pushed.name).passed


def test_weights_that_do_not_give_their_golden_tensors_are_not_pushed(hub_server, token, trained, installed, tiny,
                                                                       monkeypatch, tmp_path):  # fmt: skip
    golden = tmp_path / "golden.safetensors"
    batch = torch.rand(1, 1, 4, 8, 8)
    save_file({"input": batch, "shape": zoo.load("tiny", weights=trained)(batch).detach() + 0.1}, golden)
    said = (
        f"WeightsEntry(tag='a', source={str(trained)!r}, bytes={trained.stat().st_size}, "
        f"sha256={digests.sha256_of(trained)!r}, golden={str(golden)!r})"
    )
    installed.add("full", tiny.replace("entry()", f"entry('other', weights=({said},))"))
    installed.use(monkeypatch)
    with pytest.raises(ModelError, match="shape"):
        zoo.push("other", "me/other")
    assert not hub_server.asked


def test_what_would_not_load_is_not_pushed(hub_server, installed, tiny, monkeypatch):
    installed.add("sized", tiny.replace("entry()", "entry(arguments={'classes': 3})"))
    installed.use(monkeypatch)
    monkeypatch.setattr("zoo.publishing.pushing.LONGEST_CONFIG", 2)
    with pytest.raises(UsageError, match=r"tiny would not load from a repository: .*is longer than 2"):
        zoo.push(zoo.load("tiny", weights=None), "me/tiny")
    assert not hub_server.asked


@pytest.mark.parametrize("rate", [96_000, 151_936, 2**40])
def test_builders_take_any_number(hub_server, token, installed, tiny, monkeypatch, rate):
    code = tiny.replace("classes=3", "classes=3, rate=1").replace("entry()", f"entry(arguments={{'rate': {rate}}})")
    installed.add("rated", code)
    installed.use(monkeypatch)
    model = zoo.load("tiny", weights=None)
    assert_same(zoo.load(zoo.push(model, "me/tiny").name), model)


@pytest.mark.parametrize(
    ("written", "called", "name"),
    [
        ("GPL-3.0-or-later", "gpl-3.0", None),
        ("CC BY-NC 4.0", "cc-by-nc-4.0", None),
        ("Apache-2.0", "apache-2.0", None),
        ("ODbL-1.0", "odbl", None),
        ("MIT AND BSD-3-Clause", "other", "mit-and-bsd-3-clause"),
        ("0BSD", "other", "0bsd"),
        ("LicenseRef-mine", "other", "mine"),
    ],
)
def test_a_card_calls_licenses_as_the_hub_does(hub_server, token, installed, tiny, monkeypatch, written, called, name):
    installed.add("plain", tiny.replace("entry()", f"entry(license={written!r})"))
    installed.use(monkeypatch)
    zoo.push(zoo.load("tiny", weights=None), "me/tiny")
    content = hub_server.repositories["me/tiny"].commits[-1][1]
    card = content["README.md"].decode().splitlines()
    assert f"license: {called}" in card
    assert (f"license_name: {name}" in card) == (name is not None)
    assert json.loads(content["config.json"])["weights"]["license"] == written


def test_a_repository_of_version_0_1_says_its_license_by_the_former_name(hub_server, token, trained):
    zoo.push(str(trained), "me/tiny")
    repository = hub_server.repositories["me/tiny"]
    config = json.loads(repository.commits[-1][1]["config.json"])
    del config["weights"]["license"]
    config["weights"]["licence"] = "MIT"
    revision = repository.commit({"config.json": json.dumps(config).encode()})
    with pytest.warns(DeprecationWarning, match="licence"):
        entry = zoo.info(f"hub:me/tiny@{revision or repository.commits[-1][0]}")
    assert entry.weights[0].license == "MIT"


@pytest.mark.parametrize("written", ["my own terms", "MIT, or so", ""])
def test_a_license_that_is_no_identifier_is_refused(hub_server, token, installed, tiny, monkeypatch, written):
    installed.add("plain", tiny.replace("entry()", f"entry(license={written!r})"))
    installed.use(monkeypatch)
    with pytest.raises(UsageError, match="LicenseRef-NAME"):
        zoo.push(zoo.load("tiny", weights=None), "me/tiny")
    assert not hub_server.asked


def test_a_dry_run_says_what_would_go_up_and_asks_nobody(hub_server, trained):
    pushed = zoo.push(str(trained), "me/tiny", dry_run=True)
    assert (pushed.revision, pushed.name, pushed.private) == (None, None, True)
    assert [one.name for one in pushed.files] == ["model.safetensors", "config.json", "golden.safetensors", "README.md"]
    assert not hub_server.asked
    assert not hub_server.repositories


def test_a_repository_is_private_unless_public_is_said(hub_server, token, trained):
    zoo.push(str(trained), "me/hidden")
    zoo.push(str(trained), "me/open", public=True)
    assert hub_server.repositories["me/hidden"].private
    assert not hub_server.repositories["me/open"].private
    with pytest.raises(UsageError, match="me/open is public already: --public"):
        zoo.push(str(trained), "me/open")
    assert len(hub_server.repositories["me/open"].commits) == 2


def test_pushing_again_keeps_what_was_written_by_hand(hub_server, token, trained):
    first = zoo.push(str(trained), "me/tiny")
    repository = hub_server.repositories["me/tiny"]
    text = repository.commits[-1][1]["README.md"].decode()
    repository.commit({"README.md": f"{text}\n## By hand\n\nkept\n".encode(), "notes.txt": b"mine"})
    model = zoo.load("tiny", weights=trained)
    with torch.no_grad():
        model[5].bias.add_(1)
    second = zoo.push(model, "me/tiny")
    after = repository.commits[-1][1]
    assert "## By hand\n\nkept" in after["README.md"].decode()
    assert after["notes.txt"] == b"mine"
    digests = [
        next(one.sha256 for one in pushed.files if one.name == "model.safetensors") for pushed in (first, second)
    ]
    assert digests[1][:12] in after["README.md"].decode()
    assert digests[0][:12] not in after["README.md"].decode()
    assert_same(zoo.load(second.name), model)
    assert not torch.equal(outputs(zoo.load(first.name))["shape"], outputs(model)["shape"])  # a pin stays what it was


def test_golden_tensors_are_what_the_model_gives(hub_server, token, trained):
    zoo.push(str(trained), "me/tiny")
    golden = load(hub_server.repositories["me/tiny"].commits[-1][1]["golden.safetensors"])
    expected = zoo.load("tiny", weights=trained)(golden.pop("input"))
    assert set(golden) == {"shape"}
    torch.testing.assert_close(golden["shape"], expected)


def test_pickles_and_damaged_files_do_not_go_up(hub_server, token, trained, tmp_path):
    for content, said in ((pickle.dumps({}), "is a pickle"), (trained.read_bytes()[:-3], "not a whole safetensors")):
        path = tmp_path / "tiny.bad.safetensors"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=said):
            zoo.push(str(path), "me/tiny")
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="is a pickle"):
        zoo.push(str(tmp_path / "weights.pth"), "me/tiny")
    assert not hub_server.asked


def test_tensors_that_share_memory_go_up(hub_server, token, trained):
    model = zoo.load("tiny", weights=trained)
    model[1].bias = model[1].weight
    assert_same(zoo.load(zoo.push(model, "me/tied").name), model)


def test_weights_of_others_do_not_go_up(hub_server):
    with pytest.raises(UsageError, match="weights that others publish"):
        zoo.push("r3d_18", "me/r3d", dry_run=True)


@pytest.mark.parametrize("repo", ["tiny", "a/b/c", "../b", "me/", "me/x y", "https://huggingface.co/me/x"])
def test_a_repository_has_a_name(hub_server, trained, repo):
    with pytest.raises(UsageError, match="no name of a repository on the Hub; expected ORG/REPO"):
        zoo.push(str(trained), repo)


@pytest.mark.parametrize(
    ("pattern", "fields", "said"),
    [
        ("POST /api/repos/create", {"status": 403}, "is forbidden at .*the token may not do this"),
        ("POST .*commit", {"status": 500}, "answers 500"),
        ("POST .*commit", {"status": 412}, "meanwhile .*do it again"),
        ("PUT /storage", {"status": 500}, "answers 500"),
        ("POST .*preupload", {"status": 429, "headers": {"Retry-After": "3"}}, "try again in 3 seconds"),
        ("POST .*preupload", {"breaks": 0}, "could not be transferred"),
        ("GET /api/models", {"status": 503}, "answers 503"),
    ],
)
def test_faults_on_the_way_up_are_told_and_leave_no_half_commit(
    hub_server, token, trained, fault, pattern, fields, said
):
    hub_server.faults = [fault(pattern, **fields)]
    with pytest.raises(WeightsError, match=said) as caught:
        zoo.push(str(trained), "me/tiny")
    assert token not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(len(repository.commits) == 1 for repository in hub_server.repositories.values())
    hub_server.faults = []
    assert zoo.load(zoo.push(str(trained), "me/tiny").name)


def test_what_others_commit_meanwhile_is_not_overwritten(hub_server, token, trained, fault):
    zoo.push(str(trained), "me/tiny")
    repository = hub_server.repositories["me/tiny"]

    def meanwhile(answer):
        repository.commit({"README.md": b"theirs"})
        return answer

    hub_server.faults = [fault("POST .*preupload", changed=meanwhile)]
    model = zoo.load("tiny", weights=trained)
    with torch.no_grad():
        model[0].bias.add_(1)
    with pytest.raises(WeightsError, match=r"changed at .* meanwhile"):
        zoo.push(model, "me/tiny")
    assert repository.commits[-1][1]["README.md"] == b"theirs"


def test_without_a_token_nothing_goes_up(hub_server, trained):
    with pytest.raises(WeightsError, match=r"give a token \(--token, HF_TOKEN\)"):
        zoo.push(str(trained), "me/tiny")


def test_offline_nothing_goes_up(hub_server, trained, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(UsageError, match="ZOO_OFFLINE or HF_HUB_OFFLINE forbids"):
        zoo.push(str(trained), "me/tiny")
    assert not hub_server.asked


def test_a_pushed_model_can_be_pushed_on(hub_server, token, trained):
    first = zoo.push(str(trained), "me/tiny")
    second = zoo.push(first.name, "you/tiny")
    assert_same(zoo.load(first.name), zoo.load(second.name))


def said(*arguments):
    from click.testing import CliRunner

    from zoo.cli import commands

    done = CliRunner().invoke(commands, [str(one) for one in arguments])
    return done.exit_code, done.stdout, str(done.exception or "")


def test_the_command_pushes_downloads_verifies_and_loads(hub_server, token, trained):
    status, out, _ = said("push", trained, "me/tiny", "--json")
    assert status == 0
    name = json.loads(out)["name"]
    assert json.loads(said("download", name, "--json")[1])[0]["bytes"] == trained.stat().st_size
    assert json.loads(said("load", name, "--offline", "--json")[1])["name"] == "tiny.mine"
    asked = len(hub_server.asked)
    assert said("verify", name)[0] == 0
    assert len(hub_server.asked) == asked  # golden tensors were downloaded with the weights
    assert json.loads(said("info", name, "--json")[1])["weights"][0]["to_download"] is False
    assert "is at me/open (public): zoo load hub:me/open@" in said("push", trained, "me/open", "--public")[1]


@pytest.mark.parametrize("pushed", ["file", "module"])
def test_what_push_prints_for_an_entry_conforms_there(hub_server, token, installed, tiny, trained, monkeypatch, pushed):
    if pushed == "file":
        shown = said("push", trained, "me/tiny")[1]
        source = re.search(r"zoo\.(WeightsEntry\(.*\))", shown)[1]
    else:  # its header says all, also what does not differ from the architecture
        one = pushing.push(zoo.load("tiny", weights=trained), "me/tiny")
        (file,) = (file for file in one.files if file.name == hub.WEIGHTS)
        source = f"WeightsEntry(tag='mine', source={one.source!r}, bytes={file.bytes}, sha256={file.sha256!r})"
    entry = f"entry(weights=({source},), outputs=(OutputSpec(name='shape', labels=('round', 'square', 'flat')),))"
    installed.add("plain", tiny.replace("entry()", entry))
    installed.use(monkeypatch)
    assert "tiny.mine" in zoo.list_models(pretrained=True)
    zoo.load("tiny.mine")
    cases = [case for case in testing.cases("plain") if case.check in testing.WEIGHTS_CHECKS]
    outcomes = [outcome.result for outcome in testing.run(cases)]
    assert outcomes == ["passed", "passed" if pushed == "file" else "skipped", "skipped"]


def test_the_command_shows_what_would_go_up(hub_server, trained):
    status, out, _ = said("push", trained, "me/tiny", "--dry-run")
    assert status == 0
    assert "model.safetensors" in out
    assert "tiny.mine would go to me/tiny (private); nothing was sent" in out
    assert not hub_server.asked


def test_the_release_step_names_an_organisation(hub_server):
    assert isinstance(json.loads(said("push", "--all-first-party", "--org", "motion", "--dry-run", "--json")[1]), list)
    for wrong in (["--all-first-party"], ["conv3d"], ["conv3d", "me/x", "--org", "me"]):
        assert said("push", *wrong)[0] == 1  # raised here; `zoo` ends with 2
    assert not hub_server.asked


def test_a_push_does_not_wait_as_long_as_a_server_likes(hub_server, token, trained, fault):
    hub_server.faults = [fault("POST .*/commit/", status=429, headers={"Retry-After": "100000"})]
    with pytest.raises(WeightsError, match="asks to wait 100,000 seconds"):
        zoo.push(str(trained), "org/mine")
    assert hub_server.count("POST .*/commit/") == 1
    hub_server.faults = []
    assert zoo.push(str(trained), "org/mine").revision
