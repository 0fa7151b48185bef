"""`cermet profile --html`: one page that needs nothing else, looked at by a real browser."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Cermet
from tests.cli.page import LOADING_ATTRIBUTES, check_names_are_text, page_of

MODELS = ("mobilenet_v1_0.25_128_quant", "split_concat", "ad01_int8", "dilated_conv")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What the browser says about the page, as JSON in an element of its own: texts that are cut or leave their drawing.
LOOK = """<script>
const told = {width: document.documentElement.scrollWidth, window: innerWidth, cut: [], outside: [], flat: []};
for (const box of document.querySelectorAll(".tile, .figure, h1, h2, p"))
  if (box.scrollWidth > box.clientWidth + 1) told.cut.push(box.textContent.slice(0, 60));
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  if (frame.width < 300 || frame.height < 40) told.flat.push(svg.getAttribute("aria-label"));
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
        box.bottom > frame.bottom + 1) told.outside.push(text.textContent);
  }
}
const ticks = [...document.querySelectorAll(".ticks span")].filter(span => span.offsetWidth > 0);
told.ticks = ticks.length;
told.overlapping = ticks.filter((span, at) => at > 0 && span.parentNode === ticks[at - 1].parentNode &&
  span.getBoundingClientRect().left < ticks[at - 1].getBoundingClientRect().right).length;
const answer = document.createElement("pre");
answer.id = "told";
answer.textContent = JSON.stringify(told);
document.body.append(answer);
</script>"""


@pytest.fixture
def page(cermet: Cermet, models_dir: Path, tmp_path: Path):
    """The page of a model and the JSON that goes with it."""
    def make(model: str, *arguments: object) -> tuple[Path, dict]:
        path = tmp_path / "profile.html"
        result = cermet("profile", models_dir / f"{model}.tflite", "--json", "--html", path, *arguments)
        assert (result.status, result.err) == (0, "")
        return path, json.loads(result.out)
    return make


@pytest.mark.parametrize("model", MODELS)
def test_page_has_every_layer_and_task(page, model: str) -> None:
    path, profile = page(model, "--cores", 2)
    text = path.read_text(encoding="utf-8")
    parsed = page_of(text)
    identifiers = parsed.values("id")
    assert len(identifiers) == len(set(identifiers))
    assert [name for name in identifiers if name[0] == "l"] == [f"l{x['operations'][0]}" for x in profile["layers"]]
    assert {link.removeprefix("#") for link in parsed.values("href")} <= set(identifiers)
    drawn = parsed.values("aria-label")
    assert ("roofline of the layers" in drawn) == any(x["macs"] and x["tasks"] for x in profile["layers"])
    circles = sum(tag == "circle" for tag in parsed.tags)
    assert circles == sum(1 for layer in profile["layers"] if layer["macs"] and layer["tasks"])
    for part in profile["parts"]:
        for task in part["tasks"]:
            assert text.count(f"<title>{task['layer']}: ") >= 2     # on each core
        for buffer in part["arena"]:
            assert f"<title>{buffer['name']}: {buffer['size_bytes']:,} bytes at" in text


def test_page_needs_no_other_file(page) -> None:
    path, _ = page("split_concat")
    text = path.read_text(encoding="utf-8")
    parsed = page_of(text)
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert not LOADING_ATTRIBUTES & {name for name, _ in parsed.attributes}
    assert not re.search(r"url\(|@import|javascript:|https?://", text)


def test_names_from_the_model_are_text(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    check_names_are_text(cermet, "profile", conv_model, tmp_path)


# In a browser


@pytest.fixture
def browser(tmp_path: Path):
    """Run a page in headless Chromium: (what it printed, its console's messages)."""
    command = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if command is None:
        pytest.skip("no Chromium")

    def show(path: Path, *arguments: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [command, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,2400",
             f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", *arguments, path.as_uri()],
            capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return show


def test_the_browser_tells_of_errors(browser, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<!DOCTYPE html><title>x</title><script>nothing.there()</script>")
    assert len(browser(broken, "--dump-dom")[1]) == 1


@pytest.mark.parametrize("zoom", [1, 16])
def test_page_in_a_browser(page, browser, tmp_path: Path, zoom: int) -> None:
    """No console message, nothing cut, nothing outside of its drawing, times that can be read."""
    path, _ = page("mobilenet_v1_0.25_128_quant", "--cores", 3)
    text = path.read_text(encoding="utf-8")
    text = text.replace(' id="z1" checked/>', ' id="z1"/>').replace(f' id="z{zoom}"/>', f' id="z{zoom}" checked/>')
    looked_at = tmp_path / "looked_at.html"
    looked_at.write_text(text.replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    dom, console = browser(looked_at, "--dump-dom")
    assert console == []
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', dom)[1])
    assert told["width"] <= told["window"]
    assert (told["cut"], told["outside"], told["flat"], told["overlapping"]) == ([], [], [], 0)
    assert told["ticks"] >= 10 * (1 if zoom == 1 else 8)


def test_page_as_a_picture(page, browser, tmp_path: Path) -> None:
    path, _ = page("mobilenet_v1_0.25_128_quant")
    picture = tmp_path / "page.png"
    _, console = browser(path, f"--screenshot={picture}")
    assert console == []
    with Image.open(picture) as image:
        assert image.size == (1280, 2400)
        colours = image.convert("RGB").getcolors(1 << 20)
    assert len(colours) > 200
    blue = sum(count for count, (red, green, blue) in colours if (red, green, blue) == (0x2F, 0x6F, 0xB2))
    assert blue > 2000      # the array's bars
