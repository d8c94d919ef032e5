"""Texts of strangers do nothing on any page: labels, units, names of layers and files, papers, warnings, reasons."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import explain
from explain.drawing import figures, numbers, templates
from explain.reporting.topics import maximization, robustness
from zoo.clips import preprocess
from zoo.entries import OutputSpec
from zoo.plain import visible

#: Each would do something if it were taken for anything but a text.
TEXTS = (
    "<img src=x onerror=\"document.title='harmed'\">",
    "</title></style></script><script>document.title='harmed'</script>",
    "\"' onmouseover=document.title='harmed' x='",
    "javascript:document.title='harmed'",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "$\\frac{1}{$ & $x^2$",
    "\u202egnp.\u2066exe\x1b[2J\x07\x9b",
    "--></svg>]]><!-- &lt;b&gt;&#60;i>",
    "../../../etc/passwd\\..\\x",
    "http://127.0.0.1:9/x.png); background:url(http://127.0.0.1:9/y.png",
)
ALL = " ".join(TEXTS)
#: For names of files and modules, which hold neither slashes nor dots.
NAME = ALL.replace("/", "|").replace(".", ",")


class Page(HTMLParser):
    """Checks that a page does nothing by itself, and keeps what it says."""

    def __init__(self, html):
        super().__init__()
        self.said, self.scripts, self.within = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.within = [tag] if tag in ("script", "style") else []
        assert tag not in {"iframe", "object", "embed", "base", "form", "b"}
        assert attributes or tag not in {"i", "img"}
        for name, value in attributes:
            assert not name.startswith("on"), f"<{tag} {name}={value}>"
            assert name != "style" or "url(" not in value, f"<{tag} {name}={value}>"
            if name in ("href", "src", "xlink:href", "action", "poster", "srcset"):
                assert value.startswith(("#", "data:")), f"<{tag} {name}={value}>"

    def handle_endtag(self, tag):
        self.within = []

    def handle_data(self, data):
        (self.scripts if self.within == ["script"] else self.said if not self.within else []).append(data)

    @property
    def text(self):
        return squeezed("".join(self.said))


def squeezed(text):
    """A text, to be found however lines are broken."""
    return "".join(text.split())


def check(html):
    """A page or a part of one says the texts, and does nothing by them."""
    assert html == visible(html)
    page = Page(html)
    assert page.scripts in ([], [str(templates.asset("report.js"))])
    if page.scripts:
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
        assert templates.source_hash(page.scripts[0]) in policy.replace("&#39;", "'").replace("&#43;", "+")
        assert "default-src 'none'" in policy.replace("&#39;", "'")
    return page.text


@pytest.fixture(scope="module")
def strange(request):
    """The watcher of squares, all of whose texts are strange, and its clip."""
    model, clip = request.getfixturevalue("module_watcher")
    model.add_module(NAME, model.late)  # of one layer two names, the strange one the last
    labels = tuple(f"{at} {text}" for at, text in enumerate((ALL, *TEXTS[:3])))
    outputs = (
        OutputSpec(name="shape", labels=labels),
        OutputSpec(name="speed", kind="value", unit=f"pixels {ALL}"),
    )
    model.zoo_entry = dataclasses.replace(model.zoo_entry, summary=ALL, paper=ALL, license=ALL, outputs=outputs)
    return model, dataclasses.replace(clip, source=ALL, label=ALL, warnings=(ALL,))


@pytest.fixture(scope="module")
def module_watcher(fresh_watcher):
    return fresh_watcher()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_file):
    """Clips whose names, and those of their folders, are strange; one is no clip, and one is not written in UTF-8."""
    root = tmp_path_factory.mktemp("clips")
    for at in range(4):
        make_file(root / f"{at % 2} {NAME}"[:70] / f"{at} {NAME[-60:]}.safetensors")
    torn = root / f"0 {NAME}"[:70] / f"{NAME[:60]}.mp4"
    torn.write_bytes(b"no video")
    torn.with_name(f"{NAME[:50]}.safetensors").write_bytes(b"no tensors")
    shutil.copy(next(root.rglob("*.safetensors")), torn.with_name(os.fsdecode(b"\xff<i>.safetensors")))
    return root


@pytest.fixture(scope="module")
def pages(strange, folder, tmp_path_factory):
    """One page of every kind."""
    model, clip = strange
    out = tmp_path_factory.mktemp("pages")
    batch = preprocess(clip, model)
    spoiled = explain.check_robustness(model, batch, perturbations="gaussian_noise", levels=1, draws=1)
    wishes = explain.maximize(model, "shape", [0], steps=2)
    other = copy.deepcopy(model)
    other.zoo_entry = dataclasses.replace(model.zoo_entry, name=f"other {ALL}")
    about = {"model": ALL, "clips": ALL, "sha256": None, "left_out": [{"clip": ALL, "reason": ALL}]}
    return {
        "report": explain.report(model, clip, out / "report", methods=["saliency"], n_steps=2, unit_steps=2).page,
        "collected": explain.report(model, folder, out / "collected", methods=["saliency"], n_steps=2).page,
        "compared": explain.compare([model, other], out / "compared", clip=clip, methods=["saliency"], n_steps=2).page,
        "robustness": robustness.write_page(out / "robustness", model, spoiled, None, about, ALL),
        "maximization": maximization.write(out / "maximization", model, wishes, name=ALL).page,
    }


KINDS = ("report", "collected", "compared", "robustness", "maximization")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_stand_on_a_page_as_they_are(pages, kind):
    said = check(pages[kind].read_text(encoding="utf-8"))
    assert "This section could not be made" not in said
    whole = visible(ALL if kind != "collected" else NAME[2:30])
    assert squeezed(whole) in said


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_them_runs_or_is_asked_for(chromium, pages, kind):
    page = chromium.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(pages[kind].as_uri())
    page.evaluate("document.querySelectorAll('*').forEach(one => one.dispatchEvent(new MouseEvent('mouseover')))")
    assert [one for one in said if not one.startswith("data:")] == [pages[kind].as_uri()]
    assert page.title() != "harmed"
    assert page.locator("img, b, iframe, i:not([style], [class])").count() == 0
    page.close()


@pytest.mark.parametrize("kind", ["attribution", "maximization", "robustness", "faithfulness", "temporal"])
def test_texts_stand_in_a_notebook_as_they_are(strange, kind):
    model, clip = strange
    batch = preprocess(clip, model)
    result = {
        "attribution": lambda: explain.attribute(model, batch, method="saliency", target="shape"),
        "maximization": lambda: explain.maximize(model, "shape", [0], steps=2),
        "robustness": lambda: explain.check_robustness(model, batch, perturbations="blur", levels=1, draws=1),
        "faithfulness": lambda: explain.check_faithfulness(
            model, batch, explain.attribute(model, batch, method="saliency"), steps=4
        ),
        "temporal": lambda: explain.temporal_parameters(model),
    }[kind]()
    check(result._repr_html_())


@given(st.text(max_size=30) | st.sampled_from(TEXTS))
@settings(max_examples=settings.default.max_examples // 5)
def test_a_figure_draws_any_text_as_it_is(text):
    with figures.style():
        drawn = figures.figure(200, 100)
        axes = drawn.subplots()
        axes.plot([0, 1], label=f"the {text}")
        axes.set_title(text)
        figures.legend(drawn, axes)
        made = figures.svg(drawn, "one", text)
    tree = ET.fromstring(figures.standalone(made))
    said = ["".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert squeezed(visible(text)) in squeezed("".join(said))
    assert squeezed(tree.get("aria-label")) == squeezed(visible(text))
    check(f"<body>{made}</body>")


@given(st.text(max_size=30) | st.sampled_from(TEXTS))
def test_a_name_may_hold_anything(text):
    for made in (numbers.breakable(text), numbers.listed([text, text])):
        assert squeezed(visible(text)) in check(str(made))
