"""Store what pages and commands print, and compare with it later: `python tests/golden store|compare [NAME ...]`.

For changes that must not change results. Numbers are compared within a relative 1e-4 (of `report.json`) and 1e-2 (as
pages round them), with one thread; times, dates and versions are left out, and images are compared by their size.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

STORED = Path(__file__).parent / "stored"
DATA = Path(os.environ.get("ZOO_DATA", "../shared/data"))
BIN = Path(sys.executable).parent
FEW = ("--n-steps", "8", "--unit-steps", "16", "--units", "1")

#: Each page's words of `explain`.
PAGES: dict[str, tuple[str, ...]] = {
    "conv3d": ("report", "conv3d", "sample:blinking_mnist/3", *FEW),
    "3t_resnet18_w16": ("report", "3t_resnet18_w16", "sample:motion_mnist/0", *FEW),
    "squeezenet1_1": (
        *("report", "squeezenet1_1", str(DATA / "photos/chelsea.png"), *FEW),
        *("--weights", str(DATA / "weights/squeezenet1_1.imagenet.safetensors")),
    ),
    "comparison": ("compare", "conv2d", "conv3d", "--clip", "sample:blinking_mnist/3", "--n-steps", "8"),
    "folder": (
        *("report", "conv3d", "sample:blinking_mnist/*", "--n-steps", "8"),
        *("--method", "saliency", "--method", "grad_cam"),
    ),
}
CLIP = ("conv3d", "sample:blinking_mnist/3")
#: What `--json` of commands is asked for.
PRINTED: tuple[tuple[str, ...], ...] = (
    ("zoo", "list"),
    ("zoo", "info", "conv3d"),
    ("zoo", "plugins"),
    ("zoo", "load", "conv3d"),
    ("zoo", "predict", *CLIP),
    ("zoo", "verify", "conv3d"),
    ("zoo", "check", "spatiotemporal_mnist"),
    ("zoo", "evaluate", "conv3d", "--clips", "8"),
    ("explain", "methods", "conv3d"),
    ("explain", "fields", "conv3d"),
    ("explain", "temporal", "3t_resnet18_w16"),
    ("explain", "attribute", *CLIP, "--method", "saliency", "--method", "grad_cam"),
    ("explain", "faithfulness", *CLIP, "--method", "saliency"),
    ("explain", "robustness", *CLIP, "--perturbation", "gaussian_noise=0.1"),
    ("explain", "maximize", "conv3d", "--layer", "body.res4_4", "--unit", "0", "--steps", "4"),
)
VOLATILE = re.compile(r"second|created|versions|plugins|size|page|bytes_per|path|duration|commit|memory|_ms$")
NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment with one thread."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "ZOO_DATA": str(DATA), "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run([BIN / words[0], *words[1:]], env=variables, capture_output=True, text=True, check=False)


def plain(value: Any, *, folder: str) -> Any:
    """Leave out what no two runs have in common."""
    if isinstance(value, dict):
        return {key: plain(one, folder=folder) for key, one in value.items() if not VOLATILE.search(key)}
    if isinstance(value, list):
        return [plain(one, folder=folder) for one in value]
    if isinstance(value, str):
        return re.sub(r"\d+ ms\b", "TIME", value.replace(folder, "FOLDER").replace(str(Path.cwd()), "."))
    return value


def image(found: re.Match[str]) -> str:
    """Write the size of an embedded image in its place."""
    kind, data = found.groups()
    try:
        with Image.open(BytesIO(b64decode(data))) as opened:
            return f"{kind} {opened.width}x{opened.height}"
    except OSError:
        return kind


def page(html: str) -> list[str]:
    """Split a page into lines, without what no two runs have in common."""
    html = re.sub(r"data:([\w/+.-]+);base64,([A-Za-z0-9+/=]+)", image, html)
    html = re.sub(r"sha256-[A-Za-z0-9+/=]+", "sha256", html)
    html = re.sub(r"<dt>Time</dt>.*?<dt>", "<dt>", html, flags=re.DOTALL)
    html = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", html)
    html = re.sub(r'(?:<data value="[\d.]+">)?[\d.,]+(?:</data>)? ?(?:s|seconds|min|minutes|ms)\b', "TIME", html)
    return [line for line in re.sub(r">\s*<", ">\n<", html).splitlines() if line.strip()]


def written(*words: str) -> dict[str, Any]:
    """Write a page and read it again."""
    with tempfile.TemporaryDirectory() as folder:
        done = run("explain", *words, "--out", f"{folder}/page")
        if done.returncode:
            sys.exit(f"explain {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        (html,) = Path(folder, "page").glob("*.html")
        data = html.with_suffix(".json").read_text()
        return {"data": plain(json.loads(data), folder=folder), "page": page(html.read_text())}


def helps() -> dict[str, str]:
    """Collect the help of every command."""
    texts = {}
    for program in ("zoo", "explain"):
        texts[program] = run(program, "--help").stdout
        listed = texts[program].split("Commands:")[1]
        for name in re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE):
            texts[f"{program} {name}"] = run(program, name, "--help").stdout
    return texts


def printed() -> dict[str, Any]:
    """Collect what commands print with `--json`."""
    texts = {}
    with tempfile.TemporaryDirectory() as folder:
        for words in PRINTED:
            out = ("--out", f"{folder}/{words[1]}") if words[1] == "maximize" else ()
            done = run(*words, *out, "--json")
            found = json.loads(done.stdout) if done.stdout else done.stderr
            texts[" ".join(words)] = plain({"code": done.returncode, "json": found}, folder=folder)
    return texts


def made(name: str) -> Any:
    """Make what is compared under a name."""
    return {"help": helps, "json": printed}[name]() if name in {"help", "json"} else written(*PAGES[name])


def are_close(old: str, new: str) -> bool:
    """Whether two texts differ in nothing but numbers, and in these by little."""
    if NUMBER.sub("N", old) != NUMBER.sub("N", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(math.isclose(*(float(re.sub("[,\u2212]", "", one)) for one in pair), rel_tol=1e-2) for pair in pairs)


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """List where two documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        nothing = object()
        return [
            text for key in keys for text in differences(old.get(key, nothing), new.get(key, nothing), f"{place}/{key}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [text for index, pair in pairs for text in differences(*pair, f"{place}/{index}")]
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):
        same = math.isclose(old, new, rel_tol=1e-4, abs_tol=1e-9) or (old != old and new != new)
    elif isinstance(old, str) and isinstance(new, str):
        same = old == new or are_close(old, new)
    else:
        same = type(old) is type(new) and old == new
    return [] if same else [f"{place}: {str(old)[:200]!r} is {str(new)[:200]!r}"]


def note(*lines: str) -> None:
    """Print what was found."""
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def main(task: str, *names: str) -> None:
    """Store or compare what has these names, or everything."""
    different = False
    for name in names or (*PAGES, "help", "json"):
        path = STORED / f"{name}.json.gz"
        document = json.loads(json.dumps(made(name)))
        if task == "store":
            STORED.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(json.dumps(document, indent=1).encode(), mtime=0))
            note(f"{name}: stored")
            continue
        found = differences(json.loads(gzip.decompress(path.read_bytes())), document)
        different |= bool(found)
        note(f"{name}: {f'{len(found)} differences' if found else 'unchanged'}", *found[:40])
    sys.exit(different)


if __name__ == "__main__":
    main(*sys.argv[1:])
