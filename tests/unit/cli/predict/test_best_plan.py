"""The best plan at the end of a prediction."""

from __future__ import annotations

import json
import shlex

import pytest


def answer(result):
    """The JSON of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--epc", "32MiB"), ("--epc", "48MiB", "--threads", "2", "--batch", "2")])
def test_the_plan_is_the_one_that_its_command_makes(run, options) -> None:
    """The command that a prediction ends with makes the plan whose latency it tells."""
    told = answer(run("predict", "zoo:alexnet", *options, "--json"))["plan"]
    made = answer(run(*shlex.split(told["command"])[1:], "--json"))
    assert told["latency_ms"] == pytest.approx(made["latency_ms"], rel=1e-9)
    assert told["opened_bytes"] == made["opened_bytes"]
    assert told["resident_bytes"] == made["resident_bytes"]
    assert told["speedup"] == pytest.approx(made["unplanned_ms"] / made["latency_ms"])


def test_a_prediction_ends_with_the_best_plan(run) -> None:
    """The last sentence of a network that pages says what streaming its weights takes, and how."""
    lines = run("predict", "zoo:squeezenet1_1", "--epc", "6MiB").stdout.strip().split("\n\n")
    assert lines[-1].startswith("Streamed, it takes about")
    assert "sectum plan zoo:squeezenet1_1 --epc 6MiB" in " ".join(lines[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ("zoo:squeezenet1_1", "--epc", "93MiB"),
        ("zoo:squeezenet1_1", "--enclave", "native"),
        ("zoo:squeezenet1_1", "--epc", "6MiB", "--native-ms", "12"),
    ],
    ids=["fits", "no EPC", "native latency given"],
)
def test_where_no_plan_helps_none_is_told(run, words) -> None:
    """Without paging, and where 'sectum plan' would answer another question, there is no plan."""
    assert answer(run("predict", *words, "--json"))["plan"] is None
    assert "Streamed" not in run("predict", *words).stdout


@pytest.mark.slow
def test_the_report_shows_the_plan_beside_paging(run, tmp_path) -> None:
    """The page has three latencies as bars: paged, by the plan and outside; without paging it has no such section."""
    path = tmp_path / "r.html"
    data = answer(run("report", "zoo:squeezenet1_1", "--epc", "6MiB", "-o", path, "--json"))
    page = path.read_text(encoding="utf-8")
    assert data["plan"]["latency_ms"] < data["prediction"]["latency_ms"]
    assert page.count("Run it by a plan") == 1
    assert page.count('<span class="label">by the plan</span>') == 1
    assert 'class="opening"' in page
    answer(run("report", "zoo:squeezenet1_1", "--epc", "93MiB", "-o", path, "--json"))
    assert "Run it by a plan" not in path.read_text(encoding="utf-8")
