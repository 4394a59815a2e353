"""The service as a user sees it: two terminals and an unmodified client program."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hetee_rack import Rack, free_port, until
from places import SUPPORT

SOFTWARE = "no hardware protects this"


def command(*words: object) -> list[str]:
    """``sectum hetee`` with these words."""
    return [sys.executable, "-P", "-m", "sectum.cli", "hetee", *map(str, words)]


def sectum(*words: object, code: int = 0) -> str:
    """Run ``sectum hetee`` to its end; what it printed."""
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@contextmanager
def running(*words: object) -> Iterator[subprocess.Popen[str]]:
    """``sectum hetee`` in a terminal of its own; Ctrl-C at the end."""
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.stdout is not None
        process.stdout.close()


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """What a process prints up to a line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines))


def test_one_command_starts_it_and_one_classifies(tmp_path: Path, classifier: Path, photographs: list[Path]) -> None:
    """`up` in one terminal, `infer` in another: classes, a signed receipt, and that no hardware protects it."""
    port, metrics, state = free_port(), free_port(), tmp_path / "rack"
    where = ("--state", state, "--url", f"hetee://127.0.0.1:{port}")
    arguments = ("--listen", f"127.0.0.1:{port}", "--metrics", f"127.0.0.1:{metrics}", "--drain", "2")
    with running("up", "--state", state, "--accelerators", "cpu=1", *arguments) as up:
        greeting = "".join(lines_until(up, "for operators"))
        assert SOFTWARE in greeting
        assert greeting.index("starting a rack with cpu=1") < greeting.index("ready at")
        assert f"infer zoo:squeezenet1_1 PICTURE.jpg --state {state} --url hetee://127.0.0.1:{port}" in greeting
        assert f"top --metrics 127.0.0.1:{metrics}" in greeting
        text = sectum("infer", classifier, *photographs, *where)
        assert SOFTWARE in text
        receipts, outputs = tmp_path / "receipts", tmp_path / "verified.npz"
        sectum("infer", classifier, *photographs, *where, "--receipts", receipts, "--output", outputs)
        given = [word for path in photographs for word in ("--input", path)]
        found = sectum("verify", receipts / "batch-0.json", "--state", state, *given, "--output", outputs)
        assert "the receipt is genuine" in found
        assert found.count("those that you gave") == 2
        assert "does not prove" in found
        assert "the enclave's process has ended (killed by SIGKILL), and was collected" in text
        found = json.loads(sectum("infer", classifier, *photographs, *where, "--json", "--top", 2))
        assert found["evidence"]["hardware"] is False
        assert [Path(row["image"]).name for row in found["images"]] == ["china.jpg", "flower.jpg"]
        assert all(len(row["classes"]) == 2 for row in found["images"])
        assert found["batches"][0]["paced"] is False
        arrays = tmp_path / "out.npz"
        sectum("infer", classifier, *photographs, *where, "--batch", 1, "--output", arrays)
        with np.load(arrays) as stored:
            assert [array.shape for array in stored.values()] == [(2, 1000)]
        policy = tmp_path / "policy.json"
        assert SOFTWARE in sectum("policy", "--state", state, "-o", policy)
        assert json.loads(policy.read_text())["formats"] == ["software"]
        sectum("infer", classifier, photographs[0], "--policy", policy, "--url", where[3])
        assert "sessions" in sectum("top", "--metrics", f"127.0.0.1:{metrics}")
        assert json.loads(sectum("top", "--metrics", f"127.0.0.1:{metrics}", "--json"))["host"]["connections"] >= 4
        changed = json.loads(policy.read_text()) | {"roots": ["ab" * 32]}
        policy.write_text(json.dumps(changed))
        assert "NOT_GENUINE" in sectum("infer", classifier, photographs[0], "--policy", policy, *where[2:], code=48)
    assert up.returncode == 0
    assert "wiped" in (state / "log.jsonl").read_text()
    error = sectum("infer", classifier, photographs[0], *where, code=46)
    assert "no service answers" in error


def triton_python() -> str | None:
    """An interpreter that has ``tritonclient``: this one, or the one that SECTUM_TRITON_PYTHON names."""
    for python in (sys.executable, os.environ.get("SECTUM_TRITON_PYTHON", "")):
        if python and subprocess.run([python, "-c", "import tritonclient.grpc"], capture_output=True).returncode == 0:
            return python
    return None


def ask_triton(address: str, pictures: list[Path]) -> dict[str, Any]:
    """Run the unmodified program."""
    python = triton_python()
    if python is None:
        pytest.skip("tritonclient is not installed; SECTUM_TRITON_PYTHON may name an interpreter that has it")
    program = SUPPORT / "triton_program.py"
    done = subprocess.run(
        [python, str(program), address, "classifier", *map(str, pictures)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_unmodified_tritonclient_uses_the_service(rack: Rack, classifier: Path, photographs: list[Path]) -> None:
    """A tritonclient program gets ONNX Runtime's results through the gateway, even after a worker was killed."""
    pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")
    where = ("--state", rack.paths.directory, "--url", rack.url, "--port", free_port())
    with running("connect", classifier, *where) as gateway:
        said = "".join(lines_until(gateway, "SOFTWARE"))
        address = re.findall(r"127\.0\.0\.1:\d+", said)[0]
        found = ask_triton(address, photographs)
        session = onnxruntime.InferenceSession(str(classifier), providers=["CPUExecutionProvider"])
        images = np.random.default_rng(1).random((3, 3, 64, 64), np.float32)
        (expected,) = session.run(None, {session.get_inputs()[0].name: images})
        np.testing.assert_allclose(found["scores"], expected, rtol=1e-3, atol=1e-4)
        assert (found["live"], found["ready"], found["same"]) == (True, True, True)
        assert (found["id"], found["server"], found["missing"]) == ("seven", "sectum", "StatusCode.NOT_FOUND")
        assert len(found["jpegs"]) == 2
        os.kill(rack.serving_pid(), signal.SIGKILL)
        assert ask_triton(address, photographs)["scores"] == found["scores"]


def events_until(process: subprocess.Popen[str], name: str) -> list[dict[str, Any]]:
    """The events that a process prints, a line of JSON for each, up to one of this name."""
    assert process.stdout is not None
    found: list[dict[str, Any]] = []
    while not found or found[-1]["event"] != name:
        found.append(json.loads(process.stdout.readline()))
    return found


def test_programs_read_a_line_for_each_event(tmp_path: Path, classifier: Path, photographs: list[Path]) -> None:
    """`up --json` and `connect --json` print a line of JSON for each event; "ready" has address and protection."""
    pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")
    state, listen = tmp_path / "rack", f"127.0.0.1:{free_port()}"
    where = ("--listen", listen, "--metrics", f"127.0.0.1:{free_port()}", "--drain", 2)
    with running("up", "--state", state, "--accelerators", "cpu=1,paced=3", *where, "--json") as up:
        provisioned, signed, ready = events_until(up, "ready")
        assert (provisioned["event"], signed["event"]) == ("provisioned", "signed")
        assert (ready["address"], ready["url"]) == (listen, f"hetee://{listen}")
        assert (ready["evidence"], ready["hardware"]) == ("software", False)
        assert ready["accelerators"] == {"cpu": 1, "paced": 3}
        trusting = ("--policy", ready["policy"], "--url", ready["url"])
        assert len(json.loads(sectum("infer", classifier, photographs[0], *trusting, "--json"))["images"]) == 1
        with running("connect", f"mine={classifier}", *trusting, "--port", free_port(), "--json") as gateway:
            loaded, opened = events_until(gateway, "ready")
            assert (loaded["event"], loaded["model"]) == ("loaded", "mine")
            assert (opened["evidence"], opened["hardware"]) == ("software", False)
            assert (opened["policy"], opened["accelerators"]) == (ready["policy"], {"cpu": 1})
            assert reaches(opened["address"])
            gateway.send_signal(signal.SIGINT)
            assert events_until(gateway, "stopped") == [{"event": "stopped"}]
            gateway.wait(60)
        children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        (restarted,) = events_until(up, "restarted")
        assert "killed by SIGKILL" in restarted["text"]
        up.send_signal(signal.SIGINT)
        assert [event["event"] for event in events_until(up, "stopped")] == ["stopping", "stopped"]
        assert up.wait(60) == 0


def reaches(address: str) -> bool:
    """Whether somebody listens there."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), 10):
        return True


@pytest.mark.parametrize("role", ["host", "controller"])
def test_a_role_by_itself_explains_its_options(role: str) -> None:
    """Each role starts by itself and shows its own options."""
    assert "--with-parent" in sectum(role, "--help")


def test_what_is_wrong_is_said(tmp_path: Path, classifier: Path) -> None:
    """A missing rack, file or root gives a sentence that says what to do, and a documented exit code."""
    assert "sectum hetee up" in sectum("policy", "--state", tmp_path, code=2)
    assert "no file" in sectum("infer", classifier, tmp_path / "cat.jpg", code=2)
    assert "zoo:resnet50" in sectum("infer", "resnet50", tmp_path / "cat.jpg", code=10)
    assert "64 hexadecimal" in sectum("policy", "--root", "abc", code=2)
    assert "no host answers" in sectum("top", "--metrics", f"127.0.0.1:{free_port()}", code=46)
    taken = until(free_port)
    assert "cannot be used" in sectum("up", "--state", "/proc/nowhere", "--listen", f"127.0.0.1:{taken}", code=2)
