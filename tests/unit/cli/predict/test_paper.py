"""``sectum predict --method paper``."""

from __future__ import annotations

import json


def test_the_answer_is_short_and_names_its_method(run, tiny):
    """Verdict, probability, both latencies, and the method."""
    result = run("predict", tiny, "--epc", "64MiB", "--method", "paper")
    assert result.exit_code == 0, result.stderr
    for words in ("fits: its working set", "paper", "latency", "outside an enclave", "over-commitment", "working set"):
        assert words in result.stdout


def test_json_has_the_keys_of_the_default_method(run, tiny):
    """Where both methods know a thing it has one key; the method's name is beside it."""
    line = ("predict", tiny, "--epc", "64MiB", "--json")
    paper, default = (json.loads(run(*line, "--method", name).stdout) for name in ("paper", "page-model"))
    assert paper["method"] == "paper"
    assert paper.keys() - {"method"} <= default.keys()
    assert paper["memory"].keys() <= default["memory"].keys()
    for key in ("model", "enclave", "machine", "batch", "threads", "native_source", "source", "sectum", "kind"):
        assert paper[key] == default[key]


def test_a_network_larger_than_the_epc_does_not_fit(run):
    """A network far larger than the EPC over-commits it."""
    result = run("predict", "zoo:alexnet", "--epc", "16MiB", "--method", "paper")
    assert result.exit_code == 0, result.stderr
    assert "does not fit" in result.stdout
    assert "the EPC holds 16 MiB" in " ".join(result.stdout.replace("\N{NO-BREAK SPACE}", " ").split())


def test_options_without_effect_are_refused(run, tiny):
    """What the method cannot do is an error that names the default method."""
    for words in (("--layers",), ("--native-ms", "3"), ("--enclave", "sgx1")):
        result = run("predict", tiny, "--method", "paper", *words)
        assert result.exit_code == 2, result.stdout
        assert "page-model" in result.stderr
