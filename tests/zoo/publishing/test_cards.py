"""Cards: metadata and the marked block come from the entry, the rest is kept as it was written."""

from __future__ import annotations

import json

import pytest
import yaml

import zoo
from zoo import cli
from zoo.errors import OutputError, UnknownNameError
from zoo.publishing import cards
from zoo.registry import catalog
from zoo.registry.plugins import registry

HASH = "0" * 64


@pytest.fixture
def carded(installed, tiny, monkeypatch, tmp_path):
    """A plugin with a trained model, `tiny`, and a place for its card."""
    path = tmp_path / "cards" / "tiny.md"
    path.parent.mkdir()
    weights = ", ".join(
        f"WeightsEntry(tag={tag!r}, source='p:w/tiny.{tag}.safetensors', bytes=1234, sha256='{HASH}', "
        f"license='LicenseRef-mine', metrics=(Metric(dataset='Shapes in Motion, {tag}', split='test', "
        "name='accuracy', value=0.5), Metric(dataset='x', split='test', name='mean absolute error', value=0.25)))"
        for tag in ("first", "second")
    )
    code = tiny.replace("from zoo import", "from zoo import Metric,").replace(
        "[entry()]", f"[entry(card={str(path)!r}, weights=({weights}), paper='A & B <i>')]"
    )
    installed.add("mine", code)
    installed.use(monkeypatch)
    return path


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_metadata_are_what_the_hub_reads(carded):
    data = metadata(cards.render("tiny"))
    assert {key: data[key] for key in ("license", "license_name", "library_name", "pipeline_tag", "tags")} == {
        "license": "other",
        "license_name": "mine",
        "library_name": "motion-zoo",
        "pipeline_tag": "video-classification",
        "tags": ["motion-zoo", "video"],
    }
    assert data["datasets"] == ["shapes-in-motion", "x"]
    (index,) = data["model-index"]
    assert index["name"] == "tiny"
    found = [
        (result["dataset"]["name"], metric["type"], metric["name"], metric["value"])
        for result in index["results"]
        for metric in result["metrics"]
    ]
    assert ("Shapes in Motion, second", "accuracy", "accuracy (second)", 0.5) in found
    assert ("x", "mae", "mean absolute error (first)", 0.25) in found
    assert len(found) == 4


def test_of_one_weights_file_a_card_speaks_alone(carded):
    text = cards.render("tiny.second")
    (index,) = metadata(text)["model-index"]
    assert "(second)" not in str(index)
    assert "Shapes in Motion, first" not in text
    assert text.startswith("---\n")


def test_the_block_gives_every_figure_and_what_strangers_write_stays_text(carded):
    text = cards.render("tiny")
    for shown in (
        "| parameters | 69 |",
        "N x 1 x 4 x 8 x 8 (NCTHW), L",
        "3 classes: round, square, flat",
        HASH,
        "1,234",
    ):
        assert shown in text
    assert "| `second` | Shapes in Motion, second | test | accuracy | 50.0 % |" in text
    assert "A &amp; B &lt;i>" in text


def test_what_is_not_quite_all_is_not_told_as_all():
    assert [cards.percent(share) for share in (1.0, 0.9999, 0.9995, 0.9994, 0.5)] == [
        "100.0 %",
        "99.99 %",
        "99.95 %",
        "99.9 %",
        "50.0 %",
    ]


def test_writing_keeps_what_was_written_by_hand(carded):
    carded.write_text(
        "---\nlanguage: en\ntags: [mine]\nlicense: mit\n---\n# tiny\n\nIntroduction.\n\n## Limits\n\nMany.\n"
    )
    cards.write("tiny")
    text = carded.read_text()
    assert metadata(text)["language"] == "en"
    assert metadata(text)["tags"] == ["motion-zoo", "video", "mine"]
    assert metadata(text)["license"] == "other"
    assert text.index("Introduction.") < text.index(cards.BEGIN) < text.index(cards.END) < text.index("## Limits")
    assert text.endswith("## Limits\n\nMany.\n")
    assert cards.problems("tiny") == []
    moved = text.replace("Many.", "Many.\n\nAnd here.")
    carded.write_text(moved)
    assert cards.write("tiny").read_text() == moved
    assert "parameters" not in cards.by_hand(moved)
    assert "And here." in cards.by_hand(moved)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("| parameters | 69 |", "| parameters | 70 |", "the marked block is not what the entry says"),
        ("value: 0.5", "value: 0.9", "metadata in front are not those of the entry (model-index)"),
        ("library_name: motion-zoo\n", "", "(library_name)"),
        ("# tiny\n", "# huge\n", "does not begin with the heading '# tiny'"),
        (cards.END, "", "has no block made from the entry"),
        ("library_name:", "library_name: [", "metadata cannot be read"),
    ],
)
def test_a_card_that_is_no_longer_true_is_told(carded, old, new, said):
    cards.write("tiny")
    text = carded.read_text()
    assert old in text
    carded.write_text(text.replace(old, new))
    (problem,) = cards.problems("tiny")
    assert said in problem


def test_a_card_that_is_missing_is_told_and_begun(carded):
    assert cards.find("tiny") is None
    assert cards.problems("tiny") == [f"tiny has no card: {carded}"]
    assert cards.write("tiny") == carded == cards.find("tiny")
    assert cards.by_hand(carded.read_text()).startswith("\n# tiny\n\na tiny one.\n")
    carded.unlink()
    carded.parent.rmdir()
    with pytest.raises(OutputError, match="nowhere to write a card"):
        cards.write("tiny")


def test_a_card_in_a_package_is_found(installed, tiny, monkeypatch):
    package = installed.folder / "packaged"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tiny.md").write_text("# tiny\n")
    installed.add("mine", tiny.replace("[entry()]", "[entry(card='packaged:tiny.md')]"))
    installed.use(monkeypatch)
    assert cards.find("tiny") == package / "tiny.md"
    with pytest.raises(UnknownNameError):
        cards.find("tinny")


def test_every_card_of_ours_is_of_a_model():
    own = {one.entry.name for one in catalog.listings() if one.plugin.distribution.startswith("motion-zoo-")}
    folder = cards.find(zoo.list_models()[0]).parent
    assert {path.stem for path in folder.glob("*.md")} == own
    assert registry().plugins


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["zoo", "card", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def test_the_command_checks_writes_and_shows(run, carded):
    assert run("--check")[0] == 1
    assert f"tiny has no card: {carded}" in run("tiny", "--check")[1]
    status, out, _ = run("--write", "--json")
    assert (status, json.loads(out)[0]["written"]) == (0, str(carded))
    assert run("tiny", "--check") == (0, "1 card, 0 to put right\n", "")
    assert run("tiny")[1] == carded.read_text() + "\n"
    assert json.loads(run("tiny", "--json")[1])["card"] == carded.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--check", "--write"), "one of the two"),
        ((), "one card is shown at a time"),
        (("tinny",), "did you mean 'tiny'"),
        (("x*", "--check"), "no model matches 'x*'"),
    ],
)
def test_a_users_mistake_is_one_message(run, carded, arguments, said):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert said in err
