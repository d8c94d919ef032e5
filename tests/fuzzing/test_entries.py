"""Whatever a plugin or a repository says of a model, it is taken or refused with one message, and can be shown."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import zoo
from zoo.commands.info import _describe
from zoo.entries import spec, typechecks
from zoo.errors import UnknownNameError, ZooError
from zoo.plain import plain, visible
from zoo.registry import catalog
from zoo.weights import caches, places

TEXTS = st.sampled_from(
    (
        "",
        "a",
        "../../x",
        "/etc/passwd",
        "a\nb",
        "a\u2028b",
        "\x1b[2J",
        "\u202eevil",
        "\ud800",
        "\0",
        "NaN",
        "<b>",
        "x" * 5000,
    )
) | st.text(max_size=9)
NUMBERS = st.sampled_from(
    (-(2**70), -1, 0, 1, 3, 2**14 + 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e30, float("nan"), float("inf"), True)
)
#: What JSON holds, numbers that are none included, as Python reads them.
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.sampled_from((b"bytes", 1j, {1}, object(), int, len, torch.float32, spec.InputSpec(frames=1, size=(1, 1))))
JUNK = JSON | OBJECTS | st.lists(JSON | OBJECTS, max_size=3).map(tuple)

INPUT = spec.InputSpec(frames=4, size=(8, 8))
WEIGHTS = spec.WeightsEntry(tag="some", source="nowhere.safetensors", bytes=1, sha256="0" * 64)
SAMPLE = spec.Sample(name="s", resource="nowhere:s", labels=("a",), license="", source="")
ENTRY = spec.ModelEntry(
    name="tiny",
    builder="nowhere:build",
    summary="",
    parameters=1,
    input=INPUT,
    outputs=(spec.OutputSpec(labels=("a", "b")),),
    weights=(WEIGHTS,),
    samples=(SAMPLE,),
)
METRIC = spec.Metric(dataset="d", split="s", name="n", value=1.0)
FIELDS = [
    (one, field.name)
    for one in (INPUT, ENTRY.outputs[0], METRIC, WEIGHTS, SAMPLE, ENTRY)
    for field in dataclasses.fields(one)
]


def shown(data):
    """A document of JSON that any encoding writes, and no character of it steers a terminal."""
    text = visible(json.dumps(plain(data), ensure_ascii=False, allow_nan=False))
    assert json.loads(text.encode())
    assert all(character.isprintable() or character in "\n\t" or ord(character) > 127 for character in text)


@pytest.mark.parametrize(
    ("whole", "field"), FIELDS, ids=lambda one: one if isinstance(one, str) else type(one).__name__
)
@given(value=JUNK)
def test_any_value_of_any_field_is_taken_or_refused(whole, field, value):
    try:
        changed = dataclasses.replace(whole, **{field: value})
        parts = {
            spec.WeightsEntry: {"weights": (changed,)},
            spec.Sample: {"samples": (changed,)},
            spec.OutputSpec: {"outputs": (changed,)},
            spec.InputSpec: {"input": changed},
            spec.Metric: {"weights": (dataclasses.replace(WEIGHTS, metrics=(changed,)),)},
        }
        entry = changed if whole is ENTRY else dataclasses.replace(ENTRY, **parts[type(whole)])
        catalog.validate(entry)
    except ValueError:
        return
    for weights in (None, *entry.weights):
        shown(_describe(entry.resolve(weights)))


def test_every_annotation_is_one_that_is_checked():
    for whole, field in FIELDS:
        kind = next(str(one.type) for one in dataclasses.fields(whole) if one.name == field)
        assert typechecks._check(kind, spec.__name__)(getattr(whole, field))
        assert not typechecks._check(kind, spec.__name__)(object()), f"{type(whole).__name__}.{field} takes anything"


NAME = f"hub:org/repo@{'a' * 40}"
TENSORS = save({"a": torch.ones(1)})
CONFIG = {
    "format": 1,
    "architecture": "3d_resnet18_w16",
    "distribution": "motion-zoo-tconv3",
    "arguments": {"design": "resnet18", "kernel": "3d", "classes": 9, "narrowed": 4, "in_channels": 1},
    "input": {"frames": 4, "size": [8, 8]},
    "outputs": [{"name": "a", "kind": "classes", "labels": ["b"]}],
    "parameters": 5,
    "weights": {
        "tag": "a",
        "bytes": len(TENSORS),
        "sha256": hashlib.sha256(TENSORS).hexdigest(),
        "license": "MIT",
        "metrics": [{"dataset": "d", "split": "s", "name": "n", "value": 0.5}],
    },
}


@st.composite
def configurations(draw):
    """A configuration as it should be but for a few places, or any document, or any bytes."""
    if not draw(st.integers(0, 5)):
        return draw(JSON.map(lambda said: json.dumps(said).encode()) | st.binary(max_size=40))
    said = json.loads(json.dumps(CONFIG))
    for _ in range(draw(st.integers(1, 3))):
        place = said
        while True:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and not draw(st.integers(0, 3)):
                key = draw(TEXTS)
            place[key] = draw(JSON)
            break
        if not isinstance(said, dict) or not said:
            break
    return json.dumps(said).encode()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """The folder of the cache in which the repository lies; nothing is asked of the network."""
    cache = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(cache))
        patch.setenv("ZOO_OFFLINE", "1")
        folder = caches.pointer_of(places.parse(f"{NAME}:x")).parent
        folder.mkdir(parents=True)
        yield folder


def told(error):
    assert str(error)
    assert len(str(error).splitlines()) == 1


@given(configurations())
@settings(max_examples=3 * settings.default.max_examples)
def test_any_configuration_of_a_repository_is_taken_or_refused(snapshot, content):
    (snapshot / "config.json").write_bytes(content)
    (snapshot / "model.safetensors").write_bytes(TENSORS)
    try:
        entry = zoo.info(NAME)
    except ZooError as error:
        told(error)
    else:
        shown(_describe(entry))
        with pytest.raises(ZooError) as caught:  # the weights fit no architecture, whatever the arguments are
            zoo.load(NAME)
        told(caught.value)


def test_the_configuration_that_is_changed_was_whole(snapshot):
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    assert zoo.info(NAME).weights[0].tag == "a"
    (snapshot / "config.json").write_text(json.dumps({**CONFIG, "distribution": "nothing"}))
    with pytest.raises(UnknownNameError, match="pip install nothing"):
        zoo.info(NAME)
