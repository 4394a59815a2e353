"""The report in a real browser: it works, complains of nothing, and a hostile name stays text."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install --no-install-recommends chromium"
)

# Runs in a page that frames the report, drives it as a person would, and writes down what it saw.
DRIVER = """<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><body style="margin:0">
<iframe id="f" src="{page}" style="border:0;width:{width}px;height:3000px"></iframe>
<pre id="out"></pre>
<script>
document.getElementById("f").addEventListener("load", function () {{
  var seen = {{}};
  try {{
    var d = this.contentDocument, w = this.contentWindow;
    var rows = function () {{ return [].filter.call(d.querySelectorAll("#costs tbody tr"), function (r) {{
      return !r.hidden; }}); }};
    var order = function () {{ return rows().map(function (r) {{ return Number(r.dataset.i); }}); }};
    seen.title = d.title;
    seen.verdict = d.querySelector("h1").textContent;
    seen.wide = d.documentElement.scrollWidth;
    seen.bars = d.querySelectorAll(".costs .bar i").length;
    seen.tall = [].map.call(d.querySelectorAll(".plot svg"), function (s) {{
      return Math.round(s.getBoundingClientRect().height); }});
    seen.cut = [].filter.call(d.querySelectorAll(".flag, .epc-label, .tick-x"), function (label) {{
      var box = label.getBoundingClientRect();
      return box.left < 0 || box.right > w.innerWidth; }}).map(function (label) {{ return label.textContent; }});
    seen.first = order();
    d.querySelector("[data-sort=order]").click();
    seen.sorted = order();
    d.getElementById("show-all").click();
    seen.all = rows().length;
    var area = d.querySelector("[data-scrub=layers]");
    area.dispatchEvent(new w.KeyboardEvent("keydown", {{ key: "ArrowRight", cancelable: true }}));
    seen.tip = d.getElementById("tip").hidden ? "" : d.getElementById("tip").textContent;
    seen.cursors = d.querySelectorAll(".cursor:not([hidden])").length;
    area.dispatchEvent(new w.KeyboardEvent("keydown", {{ key: "Escape" }}));
    seen.tipgone = d.getElementById("tip").hidden;
    seen.paper = w.getComputedStyle(d.body).backgroundColor;
    seen.ink = w.getComputedStyle(d.body).color;
    seen.images = d.images.length;
    seen.resources = w.performance.getEntriesByType("resource").length;
  }} catch (error) {{ seen.error = String(error); }}
  document.getElementById("out").textContent = "SEEN" + JSON.stringify(seen) + "END";
}});
</script>"""


def chromium(folder: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run headless Chromium over a page, with a profile of its own."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=4000",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=True)


def complaints(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """What pages wrote to the console; Chromium's own log lines are left out."""
    return [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


def report(folder: Path, model: str, *options: str) -> Path:
    """Make a report with the command, as a person does."""
    page = folder / "report.html"
    command = [sys.executable, "-m", "sectum.cli", "report", model, "-o", str(page), *options]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return page


def brightness(colour: str) -> float:
    """Mean of the samples of a computed colour, 0 to 255."""
    samples = [float(sample) for sample in re.findall(r"[\d.]+", colour)[:3]]
    return sum(samples) / 3


def drive(folder: Path, page: Path, width: int, *options: str) -> tuple[dict[str, Any], list[str]]:
    """Show the page at a width, use it, and return what was seen and what the console says."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(DRIVER.format(page=page.name, width=width), encoding="utf-8")
    ended = chromium(folder, frame, "--dump-dom", "--window-size=1700,3200", *options)
    found = re.search(r"SEEN(.*?)END", ended.stdout, re.DOTALL)
    assert found, ended.stderr[-2000:]
    return json.loads(html.unescape(found[1])), complaints(ended)


@pytest.fixture(scope="module")
def paging(tmp_path_factory) -> Path:
    """The report of a network that does not fit."""
    folder = tmp_path_factory.mktemp("report")
    return report(folder, "zoo:squeezenet1_1", "--epc", "3MiB")


@pytest.mark.parametrize("width", [360, 1600])
def test_page_works_at_this_width_and_complains_of_nothing(paging, width):
    """On a phone and on a wide screen the page shows its verdict and charts, logs nothing and loads nothing."""
    seen, console = drive(paging.parent, paging, width)
    assert "error" not in seen, seen
    assert console == []
    assert "squeezenet1_1" in seen["verdict"]
    assert "does not fit" in seen["verdict"]
    assert seen["wide"] <= width, "the page must not be wider than the screen"
    assert seen["bars"] >= 12
    assert seen["cut"] == [], "no label of a chart may leave the page"
    assert all(height >= 80 for height in seen["tall"])
    assert len(seen["tall"]) == 3
    assert seen["images"] == 0
    assert seen["resources"] == 0, "the page must load nothing"


@pytest.mark.parametrize(("network", "epc"), [("mobilenet_v2", "500GiB"), ("vgg16", "93MiB"), ("vgg16", "1MiB")])
def test_labels_stay_on_a_narrow_page(tmp_path, network, epc):
    """Wherever the EPC lies against the working set, every label of the charts can be read on a phone."""
    seen, console = drive(tmp_path, report(tmp_path, f"zoo:{network}", "--epc", epc), 360)
    assert console == []
    assert seen["cut"] == []
    assert seen["wide"] <= 360


def test_layers_can_be_sorted_and_all_be_shown(paging):
    """A click sorts the layers by execution order, another shows those that are hidden at first."""
    seen, _ = drive(paging.parent, paging, 1200)
    assert len(seen["first"]) == 12
    assert seen["first"] != sorted(seen["first"])
    assert seen["sorted"] == list(range(12))
    assert seen["all"] > 12


def test_arrow_keys_walk_over_the_layers(paging):
    """An arrow key shows the next layer's time in both charts, and Escape hides it."""
    seen, _ = drive(paging.parent, paging, 1200)
    assert "ms" in seen["tip"]
    assert seen["cursors"] == 2
    assert seen["tipgone"] is True


def test_without_its_script_the_page_still_says_everything(paging, tmp_path):
    """Where the policy blocks the script, the verdict and the bars are still there."""
    blocked = tmp_path / "report.html"
    content = paging.read_text(encoding="utf-8")
    blocked.write_text(content.replace("script-src 'sha256-", "script-src 'sha256-not"), encoding="utf-8")
    seen, console = drive(tmp_path, blocked, 1200)
    assert "does not fit" in seen["verdict"]
    assert seen["bars"] >= 12
    assert seen["tip"] == ""
    assert console, "a script that the policy does not name must not run"


def test_page_follows_the_readers_colour_scheme(paging):
    """Paper is bright and ink dark in the light scheme, and the other way round in the dark one."""
    light, _ = drive(paging.parent, paging, 1200)
    dark, _ = drive(paging.parent, paging, 1200, "--blink-settings=preferredColorScheme=0")
    assert brightness(light["paper"]) > 200 > 100 > brightness(light["ink"])
    assert brightness(dark["paper"]) < 60 < 150 < brightness(dark["ink"])


def test_hostile_names_do_not_run(tmp_path):
    """A script in an operator's name does not run in a browser; the name is shown as text."""
    name = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    node = helper.make_node("Relu", ["x"], ["y"], name=name)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 64, 64]) for n in ("x", "y")]
    graph = helper.make_graph([node], name, value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "evil.onnx"
    path.write_bytes(model.SerializeToString())
    page = report(tmp_path, str(path))
    seen, console = drive(tmp_path, page, 1200)
    assert "owned" not in seen["title"]
    assert seen["images"] == 0
    assert console == []
    assert "document.title" in seen["tip"], "the name is shown, as text"
