"""``sectum search``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from sectum.graph import read
from sectum.plan.plan_file import read_plan

pytest.importorskip("optuna", reason="searching needs Optuna: install sectum[search]")

SPACE = """
name = "mine"
resolution = [32, 64]
classes = 10
[[stage]]
block = "plain"
channels = [8, 16, 64]
depth = [1, 2, 3]
stride = 2
"""

SCORE = ("--objective", "searching:parameters")


@pytest.fixture
def space(tmp_path):
    """A small space in a file."""
    path = tmp_path / "mine.toml"
    path.write_text(SPACE)
    return path


def test_json_has_the_front_the_trials_and_the_seconds(run, space):
    """The documented form: front, trials, seconds; the front under the bound, the fastest first."""
    result = run("search", "--latency", "5ms", "--epc", "4MiB", "--space", space, "--trials", 12, "--json")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["trials"] == 12
    assert data["seconds"] > 0
    assert data["front"]
    for one in data["front"]:
        assert {"name", "latency_ms", "upper_ms", "score", "overcommit", "file"} <= one.keys()
        assert one["latency_ms"] <= one["upper_ms"] <= 5
        assert one["file"] is None
    assert data["front"] == sorted(data["front"], key=lambda one: (one["latency_ms"], one["score"]))
    assert data["kind"] == "predicted"


def test_the_front_is_written_as_models_a_picture_and_json(run, space, tmp_path):
    """Each network of the front is an ONNX file that is read again; the picture is a PNG."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    folder = tmp_path / "found"
    result = run("search", "--latency", "5ms", "--space", space, "--trials", 8, "-o", folder, "--json")
    assert result.exit_code == 0, result.stderr
    front = json.loads(result.stdout)["front"]
    for one in front:
        assert one["file"] == str(folder / f"{one['name']}.onnx")
        graph = read(one["file"], batch=1).graph
        assert graph.tensors[graph.outputs[0]].shape == (1, 10)
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "front.json").read_text())["front"] == front


@pytest.mark.slow
def test_text_marks_what_is_over_committed(run, space):
    """A person sees which networks page, what the bound was, and whose milliseconds these are."""
    result = run("search", "--latency", "50ms", "--epc", "256KiB", "--space", space, "--trials", 40, *SCORE)
    assert result.exit_code == 0, result.stderr
    assert "over-committed: pages" in result.stdout
    assert "under 50.0 ms in softepc with 256 KiB of EPC" in " ".join(result.stdout.split())
    assert "not calibrated" in result.stdout


@pytest.mark.slow
def test_a_comparison_says_what_knowing_the_epc_is_worth(run, space):
    """Beside each network stands what would have been chosen without the EPC, with its latency in the EPC."""
    words = ("search", "--latency", "50ms", "--epc", "256KiB", "--space", space, "--trials", 40, "--compare", *SCORE)
    text = run(*words)
    assert text.exit_code == 0, text.stderr
    assert "A search that does not know the EPC would choose" in text.stdout
    data = json.loads(run(*words, "--json").stdout)
    assert len(data["compared"]) == len(data["front"])
    for one in data["compared"]:
        other = one["without_epc"]
        assert other is None or (other["score"] >= one["score"] and other["latency_ms"] >= other["believed_ms"])


@pytest.mark.slow
def test_plans_are_written_beside_the_networks(run, tmp_path):
    """The front says which networks run by a plan; each of these has a plan file, which is for its ONNX file."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    words = ("search", "--latency", "100ms", "--epc", "2MiB", "--space", "tiny", "--trials", 12, "--plans", *SCORE)
    result = run(*words, "-o", tmp_path / "found", "--json")
    assert result.exit_code == 0, result.stderr
    front = json.loads(result.stdout)["front"]
    planned = [one for one in front if one["planned"]]
    assert planned
    assert all(one["plan"] is None for one in front if not one["planned"])
    for one in planned:
        assert one["plan"] == one["file"].removesuffix(".onnx") + ".plan.json"
        again = json.loads(run("plan", one["file"], "--epc", "2MiB", "--json").stdout)
        written = json.loads(Path(one["plan"]).read_text())
        assert written["latency_ms"] == pytest.approx(one["latency_ms"])
        assert written["stages"] == again["stages"]
        assert read_plan(Path(one["plan"])).epc_bytes == 2 << 20
    text = run(*words)
    assert "over-committed: by a plan" in text.stdout
    assert f"{len(planned)} of {len(front)} run by a plan" in " ".join(text.stdout.split())


@pytest.mark.slow
def test_a_study_is_in_the_database(run, space, tmp_path):
    """The trials of --storage are Optuna's: another run continues them."""
    words = (
        "search",
        "--latency",
        "5ms",
        "--space",
        space,
        "--storage",
        f"sqlite:///{tmp_path / 'study.db'}",
        "--json",
    )
    assert json.loads(run(*words, "--trials", 5).stdout)["trials"] == 5
    assert json.loads(run(*words, "--trials", 9).stdout)["trials"] == 9
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone() == (9,)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--latency", "1us"], 51, "none of 4 architectures is predicted to stay under 0.001 ms"),
        (["--latency", "5ms", "--space", "resnett"], 50, "did you mean resnet"),
        (["--latency", "5ms", "--objective", "searching:nothing"], 52, "the objective gave nan"),
        (["--latency", "soon"], 2, "write for example 200ms"),
        (["--latency", "5ms", "--enclave", "native", "--compare"], 2, "has no EPC"),
        (["--latency", "5ms", "--enclave", "native", "--plans"], 2, "there is nothing to plan"),
        (["--latency", "5ms", "--enclave", "sgx1", "--measure", "1"], 2, "measured in the software enclave"),
    ],
)
def test_what_cannot_be_answered_has_an_exit_code_and_a_reason(run, space, words, code, told):
    """Each reason has its documented exit code; the message names the nearest answer or what to write."""
    given = [] if "--space" in words else ["--space", space]
    result = run("search", "--trials", 4, *given, *words, "--json")
    assert result.exit_code == code, result.stderr
    error = json.loads(result.stdout)["error"]
    assert error["exit_code"] == code
    assert told in error["message"]


@pytest.mark.parametrize(
    ("text", "ms"), [("200ms", 200), ("0.2s", 200), ("200", 200), (" 50 us ", 0.05), ("1e2MS", 100)]
)
def test_latencies_are_read_with_their_unit(text, ms):
    """A bound is written as people write times."""
    from sectum.cli.options import read_latency

    assert read_latency(None, None, text) == pytest.approx(ms)
