"""Names, wildcards, tags and what they stand for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import zoo
from zoo.errors import FormerNameWarning, PluginWarning, UnknownNameError, UsageError
from zoo.registry import catalog

HASH = "0" * 64


@pytest.fixture
def several(installed, tiny, monkeypatch):
    installed.add(
        "family",
        tiny
        + f"""
    def weights(tag, **fields):
        return WeightsEntry(tag=tag, source="nowhere.safetensors", bytes=1, sha256="{HASH}", **fields)

    @hookimpl
    def zoo_models():
        other = INPUT.__class__(frames=9, size=(8, 8))
        return [entry("net18", weights=(weights("first"), weights("second", input=other, arguments={{"classes": 5}}))),
                entry("net9"), entry("3t_net")]
    """,
    )
    return installed.use(monkeypatch)


def test_lists_are_in_natural_order_and_take_wildcards(several):
    assert zoo.list_models() == ["3t_net", "net9", "net18"]
    assert zoo.list_models("net*") == ["net9", "net18"]
    assert zoo.list_models(pretrained=True) == ["net18.first", "net18.second"]
    assert zoo.list_models("*second", pretrained=True) == ["net18.second"]
    assert zoo.list_models("net18", pretrained=True) == ["net18.first", "net18.second"]
    assert zoo.list_models(plugin="family") == zoo.list_models(plugin="dist-family") == zoo.list_models()
    assert zoo.list_models(plugin="other") == []


def test_a_bare_name_stands_for_the_default_weights_and_lists_all(several):
    entry = zoo.info("net18")
    assert [weights.tag for weights in entry.weights] == ["first", "second"]
    assert entry.input.frames == 4


def test_a_tag_applies_what_differs_for_that_file(several):
    entry = zoo.info("net18.second")
    assert [weights.tag for weights in entry.weights] == ["second"]
    assert entry.input.frames == 9
    assert entry.arguments == {"classes": 5}
    assert zoo.info("dist-family:net18.second") == entry


@pytest.mark.parametrize(
    ("name", "near"), [("net_18", ["net18", "net9"]), ("NET18", ["net18"]), ("net18.secund", ["second"])]
)
def test_an_unknown_name_offers_near_ones(several, name, near):
    with pytest.raises(UnknownNameError) as caught:
        zoo.info(name)
    assert [found for found in caught.value.near if found in near]
    assert len(caught.value.near) <= 3
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("ask", [zoo.info, zoo.load, zoo.verify])
@pytest.mark.parametrize("given", [Path("mine.safetensors"), b"tiny", 3, None])
def test_what_is_no_name_is_refused_with_what_was_given(several, ask, given):
    with pytest.raises(UsageError, match=r"mine\.safetensors.*weights=" if isinstance(given, Path) else repr(given)):
        ask(given)


def test_one_name_from_two_plugins_must_be_told_apart(installed, tiny, monkeypatch):
    installed.add("one", tiny)
    installed.add("two", tiny)
    installed.use(monkeypatch)
    assert zoo.list_models() == ["tiny"]
    with pytest.raises(UsageError, match="dist-one:tiny or dist-two:tiny"):
        zoo.info("tiny")
    assert catalog.find("dist-two:tiny")[0].plugin.name == "two"
    assert catalog.find("Dist_Two:tiny")[0].plugin.name == "two"
    assert [one.plugin.name for one in catalog.select(plugin="DIST.two")] == ["two"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("name='Not Snake'", "snake_case"),
        ("outputs=()", "output"),
        ("weights=(WeightsEntry(tag='a', source='s', bytes=1, sha256='abc'),)", "sha256"),
        (f"weights=(WeightsEntry(tag='a', source='s', bytes=1, sha256='{HASH}'),) * 2", "unique"),
        ("weights=(WeightsEntry(tag='a', source='s', bytes=1, sha256=None),)", "'a': sha256 is a text"),
        ("name=5", "name is a text"),
        ("outputs=None", "output"),
        ("builder='build'", "package.module:function"),
        ("parameters='69'", "parameters is a whole number"),
        ("input={}", "input is InputSpec"),
        ("outputs=[OutputSpec()]", "tuple of OutputSpec"),
        ("outputs=(OutputSpec(), OutputSpec())", "outputs are not unique"),
        ("samples=('a',)", "tuple of Sample"),
        ("formerly=('Old',)", "snake_case"),
        (f"weights=(WeightsEntry(tag='A b', source='s', bytes=1, sha256='{HASH}'),)", "snake_case"),
        ("name='all'", "model 'all'"),
        ("formerly=('all',)", "model 'all'"),
        (f"weights=(WeightsEntry(tag='default', source='s', bytes=1, sha256='{HASH}'),)", "tag 'default'"),
        (f"weights=(WeightsEntry(tag='none', source='s', bytes=1, sha256='{HASH}'),)", "tag 'none'"),
        (f"weights=(WeightsEntry(tag='a', formerly=('none',), source='s', bytes=1, sha256='{HASH}'),)", "tag 'none'"),
        (f"weights=(WeightsEntry(tag='{'a' * 101}', source='s', bytes=1, sha256='{HASH}'),)", "at most 100"),
        ("name='a' * 5000", "at most 100 characters, not 5,000"),
        ("name=type('Odd', (), {'__repr__': lambda self: 1 / 0})()", "cannot be shown"),
    ],
)
def test_an_entry_against_the_contract_is_left_out_and_its_plugin_named(installed, tiny, monkeypatch, fields, reason):
    installed.add("good", tiny)
    installed.add("bad", tiny + f"\n    @hookimpl\n    def zoo_models():\n        return [entry(**dict({fields}))]\n")
    registry = installed.use(monkeypatch)
    with pytest.warns(PluginWarning, match=reason):
        assert zoo.list_models() == ["tiny"]
    assert [plugin.status for plugin in registry.plugins] == ["ready", "failed"]


@pytest.fixture
def renamed(installed, tiny, monkeypatch):
    weights = f"WeightsEntry(tag='new', formerly=('old',), source='nowhere', bytes=1, sha256='{HASH}')"
    installed.add("family", tiny.replace("[entry()]", f"[entry(formerly=('small',), weights=({weights},))]"))
    catalog._warn_of_former.cache_clear()
    return installed.use(monkeypatch)


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("small", "model 'small' is now called 'tiny'"),
        ("dist-family:small", "model 'small' is now called 'tiny'"),
        ("tiny.old", "weights 'tiny.old' is now called 'tiny.new'"),
    ],
)
def test_a_former_name_works_with_one_warning_and_is_not_listed(renamed, name, warning):
    with pytest.warns(FormerNameWarning, match=warning) as caught:
        assert zoo.info(name).name == "tiny"
        assert zoo.load(name, weights=None).zoo_entry.name == "tiny"
    assert len(caught) == 1
    assert zoo.list_models() == ["tiny"]
    assert zoo.list_models("*old*", pretrained=True) == []


def test_a_name_in_use_wins_over_a_former_one(renamed, installed, tiny, monkeypatch):
    installed.add("other", tiny.replace("[entry()]", "[entry('small')]"))
    installed.use(monkeypatch)
    assert zoo.info("small").name == "small"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (zoo.WeightsEntry, {"tag": "a", "source": "a.safetensors", "bytes": 1, "sha256": HASH}),
        (zoo.Sample, {"name": "s", "resource": "a:s", "labels": ("a",), "source": "here"}),
        (
            zoo.ModelEntry,
            {
                "name": "a",
                "builder": "a:b",
                "summary": "",
                "parameters": 1,
                "input": zoo.InputSpec(frames=1, size=(1, 1)),
                "outputs": (zoo.OutputSpec(),),
            },
        ),
    ],
)
def test_a_license_may_still_be_given_and_read_by_its_former_name(kind, fields):
    with pytest.warns(DeprecationWarning, match=f"{kind.__name__}.*licence.*license"):
        made = kind(**fields, licence="MIT")
    assert made == kind(**fields, license="MIT")
    with pytest.warns(DeprecationWarning, match="licence"):
        assert made.licence == "MIT"
    with pytest.warns(DeprecationWarning, match="licence"):
        assert dataclasses.replace(made, licence="ISC").license == "ISC"
