"""Each wrong use of a command gives a sentence that says what to do, before anything is started or sent."""

from __future__ import annotations

import importlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from click.testing import Result

from sectum.cli.hetee.infer import _classes, _shown, archive
from sectum.cli.hetee.options import check_listenable
from sectum.errors import UsageError
from sectum.hetee.launcher import RackPaths, provision
from sectum.hetee.wire.state import State

Run = Callable[..., Result]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of a rack that does not run."""
    folder = tmp_path / "rack"
    provision(RackPaths(folder))
    return folder


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    """What begins as a JPEG does."""
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    return path


def refused(result: Result, code: int = 2) -> str:
    """The sentence that a command line ended with."""
    assert result.exit_code == code, result.output
    return result.output


def test_a_picture_that_is_no_jpeg_is_named(run: Run, tiny: Path, jpeg: Path, tmp_path: Path, state: Path) -> None:
    """One wrong file among the pictures is named before a connection is opened."""
    text, missing = tmp_path / "notes.jpg", tmp_path / "dog.jpg"
    text.write_text("no picture")
    assert "notes.jpg' is not a JPEG" in refused(run("hetee", "infer", tiny, jpeg, text, "--state", state))
    assert "dog.jpg" in refused(run("hetee", "infer", tiny, jpeg, missing, "--state", state))
    assert str(tmp_path) in refused(run("hetee", "infer", tiny, tmp_path, "--state", state))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "http://127.0.0.1:7625"), "hetee://127.0.0.1:7625"),
        (("--policy", "nowhere.json"), "sectum hetee policy -o nowhere.json"),
        (("--identity", "/proc/version"), "other users can read the identity key"),
        (("--state", "/nowhere"), "sectum hetee up"),
    ],
)
def test_what_does_not_name_a_service_is_refused(
    run: Run, tiny: Path, jpeg: Path, state: Path, options: tuple[str, str], words: str
) -> None:
    """A wrong address, policy, identity or folder is said to be that, for pictures and for the gateway."""
    for command in (("infer", tiny, jpeg), ("connect", tiny)):
        if command[0] == "connect":
            pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")
        assert words in refused(run("hetee", *command, "--state", state, *options))


def test_where_nobody_answers_the_advice_is_to_start_a_service(
    run: Run, tiny: Path, jpeg: Path, state: Path, taken: str
) -> None:
    """If no service answers, or it hangs up, the advice names 'sectum hetee up' and --url."""
    host, _, port = taken.partition(":")
    with socket.create_server((host, 0)) as gone:
        nobody = gone.getsockname()[1]
    error = refused(run("hetee", "infer", tiny, jpeg, "--state", state, "--url", f"{host}:{nobody}"), 46)
    assert "no service answers" in error
    assert "sectum hetee up" in error
    assert "--url" in error
    assert port not in error
    assert "--metrics" in refused(run("hetee", "top", "--metrics", f"{host}:{nobody}"), 46)


def test_an_address_that_is_taken_is_named_with_its_option(run: Run, tiny: Path, state: Path, taken: str) -> None:
    """A port in use is an error of the option that names it, before a rack is started or a model loaded."""
    for option in ("--listen", "--metrics"):
        others = {"--listen": "127.0.0.1:0", "--metrics": "127.0.0.1:0"} | {option: taken}
        words = [word for pair in others.items() for word in pair]
        error = refused(run("hetee", "up", "--state", state, *words))
        assert f"{option}: cannot listen on {taken}" in error
    assert not (state / "log.jsonl").read_text()
    pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")
    error = refused(run("hetee", "connect", tiny, "--state", state, "--port", taken.partition(":")[2]))
    assert f"--port: cannot listen on {taken}" in error


def test_one_address_for_two_things_is_refused(run: Run, state: Path) -> None:
    """Clients and operators cannot be served at one address."""
    where = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    assert "both 127.0.0.1:0" in refused(run("hetee", "up", "--state", state, *where))


NO_ADDRESSES = (
    "nonsense",
    "127.0.0.1:",
    "127.0.0.1:99999",
    ":1",
    "127.0.0.1:x",
    "127.0.0.1:\N{ARABIC-INDIC DIGIT ONE}",
)


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_refused(address: str) -> None:
    """An address has a host and a port."""
    with pytest.raises(UsageError, match="write for example"):
        check_listenable("--listen", address)


@pytest.mark.parametrize("address", ["203.0.113.1:7625", "no..name:1", "[::g]:1"])
def test_an_address_of_another_machine_is_refused(address: str) -> None:
    """What cannot be bound here is an error with its reason."""
    with pytest.raises(UsageError, match="cannot listen on"):
        check_listenable("--listen", address)


def test_port_0_is_refused_where_others_have_to_find_it(run: Run, state: Path) -> None:
    """Port 0 is refused, because clients could not know the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    where = ("--listen", "127.0.0.1:0", "--metrics", f"127.0.0.1:{free}")
    assert "--listen: port 0" in refused(run("hetee", "up", "--state", state, *where))


@pytest.mark.parametrize("url", ["hetee://a..b", "hetee://" + "a" * 64 + ".example"])
def test_a_name_that_is_none_is_an_address_where_nobody_answers(
    run: Run, tiny: Path, jpeg: Path, state: Path, url: str
) -> None:
    """Not a defect: the name comes from the user."""
    assert "no service answers" in refused(run("hetee", "infer", tiny, jpeg, "--state", state, "--url", url), 46)


def test_operators_address_that_is_none_is_refused(run: Run) -> None:
    """A host name has no spaces."""
    assert "write for example" in refused(run("hetee", "top", "--metrics", "a b:80"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["true"], "say so with --insecure"),
        (["--insecure", "no-such-program"], "no program 'no-such-program'"),
        (["--insecure", "--count", "33", "true"], "1 to 32"),
        (["--insecure", "--priority", "8", "true"], "-1<=x<=7"),
        (["--insecure"], "COMMAND"),
    ],
)
def test_a_job_that_cannot_run_asks_for_nothing(run: Run, state: Path, words: list[str], says: str) -> None:
    """What is wrong with the command line is said before the controller is asked."""
    assert says in refused(run("hetee", "run", "--state", state, *words))


def test_a_job_needs_a_rack(run: Run, state: Path) -> None:
    """Without a controller that listens, the command names its socket and 'sectum hetee up'."""
    assert "sectum hetee up" in refused(run("hetee", "run", "--state", state, "--insecure", "true"), 46)


def test_top_says_what_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps new clients out, what will, and what the kernel refuses are each a line; an idle rack has none."""
    idle = State(workers=(), waiting=0, sessions=0, draining=False)
    bad = msgspec.structs.replace(idle, problems=("no worker",), warnings=("it expires",), unconfined=("worker x",))
    for state, lines in ((idle, 1), (bad, 4)):
        told = {"host": {"open": 0}, "controller": msgspec.to_builtins(state)}
        monkeypatch.setattr(importlib.import_module("sectum.cli.hetee.top"), "ask", lambda _address, told=told: told)
        shown = run("hetee", "top").output.splitlines()
        assert len(shown) == lines, shown
    assert shown[0] == "0 sessions, 0 waiting for an enclave, 0 spare workers, 0 connections"
    assert shown[1:] == ["new clients are not served: no worker", "warning: it expires", "not confined: worker x"]


@pytest.mark.parametrize("name", ["nowhere.onnx", "."])
def test_a_model_that_cannot_be_read_ends_as_in_predict(run: Run, jpeg: Path, state: Path, name: str) -> None:
    """The same mistake has one exit code."""
    assert name in refused(run("hetee", "infer", name, jpeg, "--state", state), 10)
    assert name in refused(run("predict", name), 10)


class Answered(NamedTuple):
    """The part of a result that output files need."""

    outputs: dict[str, np.ndarray]


def test_all_outputs_are_written_whatever_they_are_called() -> None:
    """Output files hold scalars, text and any output name, and nothing is pickled."""
    first = {"file": np.ones((2, 3)), "s": np.array(5.0), "allow_pickle": np.array(["a", "bc"], object)}
    second = {"file": np.zeros((1, 3)), "s": np.array(6.0), "allow_pickle": np.array(["d"], object)}
    with np.load(io.BytesIO(archive([Answered(first)]))) as found:  # type: ignore[list-item]
        assert (found["file"].shape, found["s"].shape, found["s"]) == ((2, 3), (), 5.0)
    both = [Answered(first), Answered(second)]
    with np.load(io.BytesIO(archive(both))) as found:  # type: ignore[arg-type]
        assert found["file"].shape == (3, 3)
        assert found["s"].tolist() == [5.0, 6.0]
        assert found["allow_pickle"].tolist() == ["a", "bc", "d"]
    with pytest.raises(UsageError, match="--batch"):
        archive([Answered({"y": np.ones((1, 2))}), Answered({"y": np.ones((1, 3))})])  # type: ignore[list-item]


def test_scores_that_are_no_numbers_are_told() -> None:
    """Scores that are not finite become null in JSON."""
    result = Answered({"y": np.array([[np.nan, 0.5, -np.inf]], np.float32)})
    (row,) = _classes(("cat.jpg",), result, 3)  # type: ignore[arg-type]
    assert sorted(str(best["score"]) for best in row["classes"]) == ["0.5", "None", "None"]
    assert _shown(None) == "not a number"


def test_a_free_address_is_accepted() -> None:
    """The check leaves the address free."""
    check_listenable("--listen", "127.0.0.1:0")
    check_listenable("--listen", "localhost:0")


def test_an_error_is_one_line_of_json(run: Run, state: Path) -> None:
    """A program that reads a command's events line by line can read its error, too."""
    done = run("hetee", "up", "--state", state, "--listen", "nonsense", "--json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["error"]["exit_code"] == done.exit_code == 2
