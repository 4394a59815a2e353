"""The child process: its environment, its answers, and that it never outlives its session."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from sectum.enclave.runners.launch import child_command, child_environment, program
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import Job
from sectum.errors import EnclaveDeadline, EnclaveFailed, RuntimeRefused, UsageError
from sectum.testing.tiny_models import convolutions, endless_loop

pytestmark = pytest.mark.slow


def test_the_environment_is_cleared_of_what_changes_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Preloads, the pager's settings and thread settings of the caller do not reach the child."""
    for name in ("LD_PRELOAD", "SOFTEPC_BUDGET_BYTES", "OMP_WAIT_POLICY", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    found = child_environment()
    assert not {"LD_PRELOAD", "SOFTEPC_BUDGET_BYTES", "OMP_WAIT_POLICY", "MALLOC_ARENA_MAX"} & set(found)
    assert found["SOMETHING_ELSE"] == "kept"
    assert found["OPENBLAS_NUM_THREADS"] == found["OMP_NUM_THREADS"] == "1"


def test_relative_module_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's relative module paths still work, although the child starts in a folder of its own."""
    monkeypatch.setenv("PYTHONPATH", f"lib{os.pathsep}/opt/lib")
    folders = child_environment()["PYTHONPATH"].split(os.pathsep)
    assert folders[-2:] == [str(Path("lib").absolute()), "/opt/lib"]


def test_a_file_beside_the_caller_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file called numpy.py in the current folder does not become part of the child."""
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with NativeRunner().start(Job(model=convolutions())) as session:
        assert len(session.sample(1)) == 1


def test_a_launcher_may_speak_first() -> None:
    """Lines that a launcher prints before the child answers are ignored."""
    command = ["/bin/sh", "-c", 'echo "starting"; exec "$0" "$@"', *child_command()]
    job = Job(model=convolutions())
    with ChildSession(job, program(command, child_environment()), runner="native", has_epc=False) as session:
        assert len(session.sample(2)) == 2


def test_a_missing_pager_is_noticed() -> None:
    """A process that should have an EPC and has none is refused, because its numbers would be native ones."""
    job = Job(model=convolutions())
    with pytest.raises(EnclaveFailed, match="without the pager"):
        ChildSession(job, program(child_command(), child_environment()), runner="softepc", has_epc=True)


def test_a_session_that_ran_over_its_deadline_is_over() -> None:
    """After its deadline every request to a session says that it has ended."""
    with NativeRunner().start(Job(model=endless_loop(), deadline_s=3.0)) as session:
        with pytest.raises(EnclaveDeadline):
            session.sample(1)
        with pytest.raises(UsageError, match="ended"):
            session.sample(1)


def test_another_thread_can_stop_a_process() -> None:
    """A process ends when the event of its job is set, also in the middle of an inference, and before it has loaded."""
    stop = threading.Event()
    with NativeRunner().start(Job(model=endless_loop(), stop=stop)) as session:
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(EnclaveFailed, match="stopped before it answered"):
            session.sample(1)
    with pytest.raises(EnclaveFailed, match="stopped before it answered"):
        NativeRunner().start(Job(model=convolutions(), stop=stop))


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's folder is removed, whether the session ends well or not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with NativeRunner().start(Job(model=convolutions(), profile=True)) as session:
        session.operator_times(1)
        assert list(tmp_path.iterdir())
    with pytest.raises(RuntimeRefused, match="the runtime cannot run this model"):
        NativeRunner().start(Job(model=b"not a model"))
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_missing_is_reported() -> None:
    """A command that cannot be started gives EnclaveFailed with the reason."""
    job = Job(model=convolutions())
    with pytest.raises(EnclaveFailed, match="could not be started"):
        ChildSession(job, program(["/nonexistent/python"], {}), runner="native", has_epc=False)


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    """A path without a model gives EnclaveFailed that names the path."""
    with pytest.raises(EnclaveFailed, match=r"missing\.onnx"):
        NativeRunner().start(Job(model=tmp_path / "missing.onnx"))


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in an inference"])
def test_the_child_does_not_outlive_its_parent(tmp_path: Path, busy: bool) -> None:
    """If the parent is killed, the child ends, also in the middle of an inference, and no file is left."""
    model, folder = tmp_path / "model.onnx", tmp_path / "temporary"
    model.write_bytes(endless_loop() if busy else convolutions())
    folder.mkdir()
    script = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from sectum.enclave.runners.native import NativeRunner\n"
        "from sectum.enclave.runners.runner import Job\n"
        "session = NativeRunner().start(Job(model=Path(sys.argv[1]).read_bytes()))\n"
        "print(session._process.pid, flush=True)\n"
        "if sys.argv[2] == 'True':\n"
        "    threading.Thread(target=session.sample, args=(1,), daemon=True).start()\n"
        "    time.sleep(1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(model), str(busy)],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    child = Path(f"/proc/{int(ended.stdout)}/stat")
    end = time.monotonic() + 20
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the child was still running 20 s after its parent had been killed"
        time.sleep(0.1)
    assert [path for path in folder.iterdir() if path.name != ".ses"] == []  # which ONNX Runtime writes


def test_outputs_that_are_no_numbers_are_refused() -> None:
    """An output of texts ends the request with an error that names it."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["texts"], to=TensorProto.STRING)],
        "texts",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("texts", TensorProto.STRING, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with (
        NativeRunner().start(Job(model=model.SerializeToString())) as session,
        pytest.raises(RuntimeRefused, match="output 'texts' is not a tensor of numbers"),
    ):
        session.outputs()


def test_the_child_can_be_pinned() -> None:
    """A job that names CPUs runs on those only."""
    cpu = min(os.sched_getaffinity(0))
    with NativeRunner().start(Job(model=convolutions(), cpus=(cpu,))) as session:
        assert session._process is not None
        assert os.sched_getaffinity(session._process.pid) == {cpu}
