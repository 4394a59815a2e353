"""What `sectum advise` answers."""

from __future__ import annotations

import json
import shlex

import pytest

from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable
from sectum.units import MIB


def answer(result):
    """The JSON of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def squeezed():
    """A call whose bound lies between what paging and what a plan takes."""
    return ("advise", "zoo:squeezenet1_1", "--latency", "13ms", "--epc", "6MiB", "--most-threads", "2")


@pytest.mark.slow
def test_an_answer_has_every_documented_key(run, squeezed) -> None:
    """`advise --json` gives the bound, what holds now, and the changes with latency, interval and effect, in order."""
    data = answer(run(*squeezed, "--json"))
    assert data["bound_ms"] == 13
    assert data["by"] == "interval"
    assert not data["meets_now"]
    assert data["met"]
    assert data["nearest"] is None
    assert data["now"]["latency_ms"] > 13
    kinds = ("planned", "batch", "threads", "epc_bytes", "enclaves", "resolution", "width")
    assert len(data["advice"]) > 1
    dearest = []
    for entry in data["advice"]:
        low, high = entry["interval_ms"]
        assert low < entry["latency_ms"] < high <= 13
        assert entry["speedup"] == pytest.approx(data["now"]["latency_ms"] / entry["latency_ms"])
        assert entry["changes"] == [kind for kind in kinds if entry[kind] != data["now"][kind]]
        assert entry["measured"] is None
        dearest.append(kinds.index(entry["changes"][-1]))
    assert dearest == sorted(dearest)


@pytest.mark.slow
def test_the_commands_that_are_shown_give_what_they_promise(run, squeezed, tmp_path, monkeypatch) -> None:
    """Who types the command of a choice sees the latency that the advice predicted."""
    monkeypatch.chdir(tmp_path)
    for entry in answer(run(*squeezed, "--json"))["advice"]:
        for command in entry["command"].split(" && "):
            found = answer(run(*shlex.split(command)[1:], "--json"))
        assert found["latency_ms"] == pytest.approx(entry["latency_ms"], rel=1e-9)


@pytest.mark.slow
def test_people_read_the_cheapest_change_first(run, squeezed) -> None:
    """The first sentence names the cheapest change, and the table has a row for each."""
    data = answer(run(*squeezed, "--json"))
    words = " ".join(run(*squeezed).stdout.split())
    assert f"The cheapest change that meets it is {data['advice'][0]['text']}:" in words
    assert all(entry["text"] in words for entry in data["advice"])


def test_a_bound_that_is_met_is_said_to_be(run) -> None:
    """Where the bound is met already, nothing has to change."""
    words = ("advise", "zoo:squeezenet1_1", "--latency", "10s", "--epc", "93MiB")
    assert "Nothing has to change" in run(*words).stdout
    data = answer(run(*words, "--json"))
    assert data["meets_now"]
    assert data["met"]
    assert data["advice"] == []


@pytest.mark.slow
def test_where_nothing_meets_the_bound_the_nearest_is_told(run) -> None:
    """An impossible bound has an answer: nothing meets it, and this is nearest."""
    words = ("advise", "zoo:squeezenet1_1", "--latency", "0.01ms", "--epc", "6MiB", "--most-threads", "1")
    text = " ".join(run(*words).stdout.split())
    assert "nothing that was tried meets the bound" in text
    assert "The nearest is" in text
    data = answer(run(*words, "--json"))
    assert not data["met"]
    assert data["advice"] == []
    assert data["nearest"]["latency_ms"] < data["now"]["latency_ms"]


@pytest.mark.slow
def test_a_smaller_batch_is_advice(run) -> None:
    """Of a batch the largest smaller one that meets the bound is named."""
    words = ("advise", "zoo:squeezenet1_1", "--batch", "8", "--epc", "93MiB", "--most-threads", "1", "--json")
    one = answer(run("predict", "zoo:squeezenet1_1", "--epc", "93MiB", "--json"))["latency_ms"]
    data = answer(run(*words, "--latency", f"{5 * one:.3f}"))
    batch = next(entry["batch"] for entry in data["advice"] if entry["changes"] == ["batch"])
    assert 1 < batch < 8


@pytest.mark.parametrize("text", ["150ms", "0.15s", "150", " 150 MS "])
def test_a_bound_is_read_in_milliseconds_or_seconds(run, text: str) -> None:
    """The bound has a unit, or is in milliseconds."""
    data = answer(run("advise", "zoo:squeezenet1_1", "--latency", text, "--json"))
    assert data["bound_ms"] == pytest.approx(150)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("zoo:alexnet",), 2),
        (("zoo:alexnet", "--latency", "soon"), 2),
        (("zoo:alexnet", "--latency", "-1ms"), 2),
        (("zoo:alexnet", "--latency", "0"), 2),
        (("zoo:alexnet", "--latency", "1..2ms"), 2),
        (("zoo:alexnet", "--latency", "1ms", "--enclave", "sgx1", "--measure"), 2),
        (("zoo:alexnet", "--latency", "1ms", "--enclave", "tdx"), 2),
        (("zoo:nothing", "--latency", "1ms"), 17),
        (("missing.onnx", "--latency", "1ms"), 10),
    ],
)
def test_wrong_calls_end_with_their_exit_code(run, words: tuple[str, ...], code: int) -> None:
    """Errors of advice have documented exit codes."""
    assert run("advise", *words).exit_code == code


def test_advice_outside_an_enclave_leaves_memory_out(run, tiny) -> None:
    """Where there is no EPC, neither a plan nor more EPC is tried."""
    words = ("advise", tiny, "--batch", "64", "--latency", "0.001ms", "--enclave", "native", "--most-threads", "2")
    text = " ".join(run(*words).stdout.split())
    assert "a plan" not in text.partition("Tried")[2]
    assert "EPC" not in text


def test_advice_says_where_there_is_nothing_to_try(run, tiny) -> None:
    """Outside an enclave, with one sample and one thread, no change is possible, and the answer says what to give."""
    words = ("advise", tiny, "--batch", "1", "--latency", "0.001ms", "--enclave", "native", "--most-threads", "1")
    assert "There was nothing to try: give --most-threads" in " ".join(run(*words).stdout.split())


@pytest.mark.slow
def test_the_first_few_are_measured(run, squeezed) -> None:
    """`--measure` runs what comes first in the software enclave, with the outputs of the native run."""
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")
    data = answer(run(*squeezed, "--measure", "--runs", "2", "--json"))
    measured = [entry["measured"] for entry in data["advice"] if entry["measured"] is not None]
    assert len(measured) == min(3, len(data["advice"]))
    for entry in data["advice"][:3]:
        assert entry["measured"]["outputs_equal_native"] is True
        assert entry["measured"]["resident_bytes"] <= entry["epc_bytes"]
        assert entry["measured"]["meets"] == (entry["measured"]["latency_ms"] <= data["bound_ms"])
    assert data["advice"][0]["epc_bytes"] == 6 * MIB
