"""The page for operators in a real browser: it shows both worlds live, loads nothing, and takes all text as text."""

from __future__ import annotations

import html
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sectum.hetee.host.counts import Counts
from sectum.hetee.host.metrics import MetricsServer
from sectum.hetee.host.page import read_page
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import encode
from sectum.hetee.wire.state import AcceleratorStatus, JobStatus, State, WorkerStatus

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install --no-install-recommends chromium"
)
HOSTILE = "<img src=x onerror=alert(1)>"


def state(asked: int) -> State:
    """What the controller says when it was asked so often: an enclave computes 32 images each time."""
    counts = {"open_streams": 1, "batches": asked, "images": 32 * asked, "bytes": asked << 20}
    return State(
        workers=(
            WorkerStatus(index=1, state="spare", accelerators=(), open_streams=0, batches=0, images=0, bytes=0),
            WorkerStatus(index=2, state="serving", accelerators=("cpu:0", "cpu:1"), **counts),
        ),
        waiting=1,
        sessions=2,
        draining=False,
        problems=(HOSTILE,),
        warnings=("it expires",),
        accelerators=(
            AcceleratorStatus(name="cpu:0", world="secure", owner=2),
            AcceleratorStatus(name="cpu:1", world="secure", owner=2),
            AcceleratorStatus(name="cpu:2", world="insecure", owner=9),
            AcceleratorStatus(name="cpu:3", world="resetting"),
            AcceleratorStatus(name="cuda:0", world="withheld"),
            AcceleratorStatus(name="paced:0", world="free"),
        ),
        jobs=(
            JobStatus(index=9, state="running", accelerator="cpu", count=1, priority=-1),
            JobStatus(index=12, state="waiting", accelerator="cpu", count=3, priority=2),
        ),
        preemptions=6,
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a host for operators, with a controller that says something new each time."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen(32)

    def answer() -> None:
        asked = 0
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(1024)
                asked += 1
                peer.sendall(plain_frame(Kind.STATE, encode(state(asked))))

    threading.Thread(target=answer, daemon=True).start()
    server = MetricsServer(
        socket.create_server(("127.0.0.1", 0)), Counts(), tmp_path / "socket", lambda: False, read_page()
    )
    running = threading.Thread(target=server.serve_forever)
    running.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    running.join()
    server.server_close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def chromium(folder: Path, address: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Show a page in headless Chromium for five seconds of the page's clock."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"),
        *("--virtual-time-budget=5000", *options, address),
    ]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=True)


def cells(page: str, name: str) -> list[list[str]]:
    """The rows of a table."""
    (table,) = re.findall(rf'<table id="{name}">(.*?)</table>', page, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("</tr>") if "<t" in row]


def test_the_page_shows_worlds_queues_and_rates_live(served: str, tmp_path: Path) -> None:
    """Each accelerator has its world and owner, jobs and enclaves have rows, and rates follow what is asked again."""
    ended = chromium(tmp_path, served, "--dump-dom", "--window-size=1200,1000")
    assert [line for line in ended.stderr.splitlines() if "CONSOLE" in line] == []
    page = ended.stdout
    tiles = re.findall(r'<div class="(\w+)">([\w:]+)<small>(.*?)</small></div>', page)
    assert tiles == [
        ("secure", "cpu:0", "secure: enclave 2"),
        ("secure", "cpu:1", "secure: enclave 2"),
        ("insecure", "cpu:2", "insecure: job 9"),
        ("resetting", "cpu:3", "resetting"),
        ("withheld", "cuda:0", "withheld"),
        ("free", "paced:0", "free"),
    ]
    assert cells(page, "jobs")[1:] == [["9", "running", "1 of cpu", "-1"], ["12", "waiting", "3 of cpu", "2"]]
    (enclave,) = cells(page, "enclaves")[1:]
    assert enclave[:4] == ["2", "serving", "cpu:0, cpu:1", "1"]
    batches, images, rate = (float(text.replace(",", "")) for text in enclave[4:7])
    assert images == 32 * batches
    assert batches >= 3, "it asks again and again"
    assert rate > 0
    (points,) = re.findall(r'<svg id="rates"[^>]*><polyline points="(.*?)">', page)
    assert len(points.split()) == batches
    assert "<b>6</b>preemptions" in page
    assert "it expires" in page


def test_what_the_service_says_stays_text(served: str, tmp_path: Path) -> None:
    """A name with HTML in it makes no element, and the page loads no picture."""
    page = chromium(tmp_path, served, "--dump-dom").stdout
    assert f"new clients are not served: {html.escape(HOSTILE, quote=False)}" in page
    assert "<img" not in page
