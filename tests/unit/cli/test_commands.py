"""What the commands answer."""

from __future__ import annotations

import hashlib
import json

import onnx
import pytest

from sectum import zoo
from sectum.errors import EnclaveUnavailable
from sectum.units import MIB


def answer(result):
    """The JSON of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_prediction_has_every_documented_key(run, tiny):
    """`predict --json` gives latency, interval, memory, breakdown, coverage, layers and the hash of the file."""
    data = answer(run("predict", tiny, "--batch", "2", "--epc", "16MiB", "--json"))
    assert data["kind"] == "predicted"
    low, high = data["interval_ms"]
    assert 0 < low <= data["latency_ms"] <= high
    assert data["native_ms"] > 0
    assert set(data["overcommit"]) == {"predicted", "probability"}
    assert data["memory"]["epc_bytes"] == 16 * MIB
    assert data["memory"]["working_set_bytes"] > 0
    assert set(data["breakdown_ms"]) == {"compute", "memory", "paging"}
    assert data["coverage"] == {"operators": 2, "supported": 2, "unsupported": {}}
    assert data["layers"]
    assert data["batch"] == 2
    assert data["source"]["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()


def test_model_is_called_by_its_file(run, tiny):
    """A model file is named by its file name without the ending."""
    assert answer(run("predict", tiny, "--batch", "1", "--json"))["model"] == "tiny"


def test_input_binds_the_shape(run, tiny):
    """The first dimension given with --input is the batch."""
    assert answer(run("predict", tiny, "--input", "image=3x3x32x32", "--json"))["batch"] == 3


def test_zoo_network_takes_batch_or_input(run):
    """A zoo network takes its batch from --batch or from --input."""
    assert answer(run("predict", "zoo:squeezenet1_1", "--batch", "2", "--json"))["batch"] == 2
    small = answer(run("predict", "zoo:squeezenet1_1", "--input", "input=3x3x96x96", "--json"))
    assert small["batch"] == 3


def test_given_native_latency_is_kept_and_named(run, tiny):
    """A latency given with --native-ms is used as it is and named as given."""
    data = answer(run("predict", tiny, "--batch", "1", "--native-ms", "12.5", "--json"))
    assert data["native_ms"] == pytest.approx(12.5)
    assert data["native_source"] == "given"


def test_small_epc_pages_and_advice_says_where_it_stops(run):
    """At the EPC size that the advice names, the same network no longer pages."""
    data = answer(run("predict", "zoo:squeezenet1_1", "--epc", "2MiB", "--json"))
    assert data["overcommit"]["predicted"]
    assert data["breakdown_ms"]["paging"] > 0
    stops = next(item["values"]["epc_bytes"] for item in data["advice"] if item["kind"] == "epc")
    roomy = answer(run("predict", "zoo:squeezenet1_1", "--epc", stops, "--json"))
    assert not roomy["overcommit"]["predicted"]
    assert roomy["breakdown_ms"]["paging"] < data["breakdown_ms"]["paging"]


def test_people_read_a_verdict_first_and_what_is_predicted(run):
    """The first line is the verdict; the lines below say what is predicted and in whose milliseconds."""
    first, *rest = run("predict", "zoo:squeezenet1_1", "--epc", "2MiB").stdout.splitlines()
    assert first.startswith("squeezenet1_1 does not fit: its working set is ")
    assert any(line.startswith("latency") and "predicted" in line for line in rest)
    assert any(line.startswith("machine") and "calibrated" in line for line in rest)


def test_layers_are_listed_in_the_order_of_execution(run, tiny):
    """--layers lists the same layers as --json, numbered in the order of execution."""
    layers = answer(run("predict", tiny, "--batch", "1", "--json"))["layers"]
    _, _, table = run("predict", tiny, "--batch", "1", "--layers").stdout.partition("operator  type")
    shown = [line.split() for line in table.split("\n\n")[0].strip().splitlines()]
    assert [words[0] for words in shown] == [str(number) for number in range(1, len(layers) + 1)]
    assert layers[0]["name"] == "conv"
    assert all(layer["name"] in words for layer, words in zip(layers, shown, strict=True))


def test_json_holds_numbers_only_that_json_knows(run, tiny):
    """Where there is no EPC, JSON holds null, never NaN or Infinity."""
    text = run("predict", tiny, "--batch", "1", "--enclave", "native", "--json").stdout
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["memory"]["epc_bytes"] is None


def test_profiles_tell_their_constants_and_sources(run):
    """`profiles` lists the shipped profiles, each constant with its source."""
    found = {p["name"]: p for p in answer(run("profiles", "--json"))["profiles"]}
    assert {"native", "softepc", "sgx1", "sgx2"} <= set(found)
    assert found["sgx1"]["provenance"]["load_us"]["source"]
    assert "sgx1" in run("profiles").stdout


def test_profiles_of_confidential_machines_show_range_source_and_date(run):
    """`profiles` shows what is published with its range and date, what is unknown, and what is not predicted."""
    data = answer(run("profiles", "--json"))
    nitro, tdx = (next(p for p in data["profiles"] if p["name"] == name) for name in ("nitro", "tdx"))
    assert (nitro["compute_factor_low"], nitro["compute_factor_high"]) == (1.026, 1.645)
    assert nitro["provenance"]["compute_factor"]["date"] == "2026-02-05"
    assert tdx["compute_factor"] is None
    assert tdx["provenance"]["compute_factor"]["kind"] == "unknown"
    assert "GPU" in data["not_predicted"]["h100-cc"]
    text = run("profiles").stdout
    assert "1.03 to 1.65 x" in text
    assert "published 2026-02-05" in text
    assert "h100-cc" in text


@pytest.mark.parametrize(
    ("enclave", "words"),
    [
        ("tdx", "sectum calibrate"),
        ("sev-snp", "sectum calibrate"),
        ("h100-cc", "Published figures"),
        ("sgx3", "choose native, nitro"),
    ],
)
def test_an_enclave_that_cannot_be_predicted_is_refused_by_name(run, enclave, words):
    """An enclave without an honest profile is an error with its reason and remedy, before the model is read."""
    result = run("predict", "missing.onnx", "--enclave", enclave)
    assert result.exit_code == 2
    assert f"'{enclave}'" in result.stderr
    assert words in result.stderr


def test_predictions_for_nitro_name_transfers_and_runtime(run, tiny):
    """A virtual machine has transfers in place of paging, and the output says for which runtime it speaks."""
    text = run("predict", tiny, "--batch", "1", "--enclave", "nitro").stdout
    assert "transfers" in text
    assert "page loads" not in text
    assert "ONNX Runtime 1.31 on the CPU" in text
    assert "times as long as outside an enclave" in text


def test_layers_show_every_kind_of_page_fault(run):
    """With loads, evictions and minor faults, the time of paging follows from what --layers shows."""
    text = run("predict", "zoo:squeezenet1_1", "--epc", "4MiB", "--layers").stdout
    assert "loads  evictions  minor faults" in text


def test_profile_file_is_used(run, tiny, tmp_path):
    """A profile given as a file is used by its own name and EPC size."""
    profile = next(p for p in answer(run("profiles", "--json"))["profiles"] if p["name"] == "softepc")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**profile, "name": "mine", "epc_bytes": 8 * MIB}))
    data = answer(run("predict", tiny, "--batch", "1", "--enclave", path, "--json"))
    assert data["enclave"] == "mine"
    assert data["memory"]["epc_bytes"] == 8 * MIB


def test_zoo_lists_networks_with_their_parameters(run):
    """`zoo list` gives each network's number of parameters, as JSON and as text."""
    networks = {n["name"]: n for n in answer(run("zoo", "list", "--json"))["networks"]}
    assert networks["resnet50"]["parameters"] == 25_557_032  # torchvision's documented number
    assert "25,557,032" in run("zoo", "list").stdout


def test_exported_network_is_valid_and_named_by_its_hash(run, tmp_path):
    """`zoo export` writes one valid ONNX file and gives its SHA-256."""
    path = tmp_path / "s.onnx"
    data = answer(run("zoo", "export", "squeezenet1_1", "-o", path, "--batch", "1", "--json"))
    assert data["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    onnx.checker.check_model(onnx.load(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_exported_network_predicts_as_the_zoo_does(run, tmp_path):
    """An exported network has the same prediction as the zoo network that it was made from."""
    path = tmp_path / "s.onnx"
    answer(run("zoo", "export", "squeezenet1_1", "-o", path, "--json"))
    read = answer(run("predict", path, "--batch", "2", "--epc", "4MiB", "--json"))
    made = answer(run("predict", "zoo:squeezenet1_1", "--batch", "2", "--epc", "4MiB", "--json"))
    for key in ("memory", "breakdown_ms", "latency_ms", "coverage"):
        assert read[key] == made[key]


def test_a_network_is_exported_in_another_width_and_resolution(run, tmp_path):
    """`zoo export` with a width and a resolution writes the network that the zoo builds so."""
    path = tmp_path / "s.onnx"
    words = ("zoo", "export", "squeezenet1_1", "--width", "0.5", "--resolution", "96", "-o", path, "--json")
    built = zoo.network("squeezenet1_1", width=0.5, resolution=96)
    assert answer(run(*words))["parameters"] == built.parameters
    assert path.read_bytes() == zoo.to_bytes(built)
    assert run("zoo", "export", "bert_base", "--width", "0.5", "-o", path).exit_code == 2


@pytest.mark.slow
def test_native_measurement_has_every_documented_key(run, tiny):
    """`measure --json` gives latency, samples, uncertainty, page counts, memory and the prediction beside them."""
    words = ["measure", tiny, "--batch", "1", "--enclave", "native", "--runs", "3", "--deadline", "30", "--json"]
    data = answer(run(*words))
    assert data["latency_ms"] > 0
    assert len(data["samples"]) >= 3
    assert data["kind"] == "measured"
    assert data["outputs_equal_native"] is True
    for key in ("uncertainty", "faults", "loads", "evictions", "live_bytes", "resident_bytes"):
        assert key in data
    assert data["prediction"]["kind"] == "predicted"


@pytest.mark.slow
def test_measurement_stands_beside_its_prediction(run, tiny):
    """A measurement is shown with its prediction and error, unless --no-predict is given."""
    words = ["measure", tiny, "--batch", "1", "--enclave", "native", "--runs", "2"]
    text = run(*words).stdout
    assert "measured" in text
    assert "\nPredicted: " in text
    assert "off by" in text
    assert "off by" not in run(*words, "--no-predict").stdout


def test_report_is_written_whole_and_says_where(run, tmp_path):
    """`report` writes one complete HTML file, leaves no other file, and prints its path."""
    path = tmp_path / "report.html"
    result = run("report", "zoo:squeezenet1_1", "--epc", "64MiB", "-o", path)
    assert result.exit_code == 0, result.stderr
    assert str(path) in result.stdout
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert list(tmp_path.iterdir()) == [path]


def test_report_is_named_after_the_model(run, tmp_path, monkeypatch):
    """Without --output the page is NAME.html in the current folder."""
    monkeypatch.chdir(tmp_path)
    result = run("report", "zoo:squeezenet1_1")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["squeezenet1_1.html"]


def test_report_as_json_holds_the_curve(run, tmp_path):
    """`report --json` gives the curve over EPC sizes in order, the size asked for among them."""
    data = answer(run("report", "zoo:squeezenet1_1", "--epc", "64MiB", "-o", tmp_path / "r.html", "--json"))
    sizes = [point["epc_bytes"] for point in data["curve"]]
    assert sizes == sorted(sizes)
    assert 64 * MIB in sizes


@pytest.mark.slow
def test_software_enclave_is_measured_with_its_page_counts(run, tmp_path):
    """A model measured in the software enclave stays within the EPC, has page counts and the native outputs."""
    words = ["measure", "zoo:squeezenet1_1", "--epc", "6MiB", "--runs", "2", "--input", "input=1x3x96x96", "--json"]
    result = run(*words)
    if result.exit_code == EnclaveUnavailable.exit_code:
        pytest.skip(result.stderr)
    data = answer(result)
    assert data["outputs_equal_native"] is True
    assert data["resident_bytes"] <= 6 * MIB
    assert data["loads"] is not None
    assert data["context"]["runner"] == "softepc"
