"""Calibrating from the command line, with the minutes of measuring replaced by made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sectum.cli.render.progress import progress_bar
from sectum.measure.reference import References
from sectum.ort import Cpu
from sectum.predict.calibration import Calibration, PageCosts, default_path


@pytest.fixture
def measured(monkeypatch) -> Calibration:
    """What measuring the machine gives."""
    calibration = Calibration(
        machine="a machine of the tests",
        cpu=Cpu.AVX2,
        references=References(5.0, 4.0),
        group_factors={1: {"conv": 1.0}},
        variation={1: 0.02},
        page_costs={1: PageCosts(swap_us=12.0, minor_fault_us=1.2)},
        context={"cpus_used_by_others": 0.0},
    )
    monkeypatch.setattr("sectum.predict.calibrating.calibrate", lambda _progress: calibration)
    return calibration


def test_calibration_is_stored_and_used_by_the_next_prediction(run, measured, tiny):
    """After `calibrate` the next prediction is in the milliseconds of the calibrated machine."""
    result = run("calibrate")
    assert result.exit_code == 0, result.stderr
    assert measured.machine in result.stdout
    assert str(default_path()) in result.stdout
    data = json.loads(run("predict", tiny, "--batch", "1", "--json").stdout)
    assert data["calibrated"] is True
    assert data["machine"] == measured.machine


def test_a_calibration_beside_other_work_is_doubted(run, measured):
    """If others used the CPUs meanwhile, the command advises to calibrate again."""
    assert "nothing else runs" not in run("calibrate").stdout
    measured.context["cpus_used_by_others"] = 0.8
    assert "Calibrate again when nothing else runs" in run("calibrate").stdout


def test_a_machine_that_varies_is_told(run, measured):
    """If the rounds of the calibration differ much, the command says by how much, and that intervals count it."""
    assert "2%" in run("calibrate").stdout.replace(" ", "")
    assert "interval counts" not in run("calibrate").stdout
    measured.variation[1] = 0.12
    text = " ".join(run("calibrate").stdout.split())
    assert "differed by 12%" in text
    assert "the interval counts that" in text


def test_calibration_as_json_tells_where_it_is(run, measured):
    """With --json the answer holds the path of the calibration and its reference times."""
    data = json.loads(run("calibrate", "--json").stdout)
    assert Path(data["path"]) == default_path()
    assert data["kind"] == "measured"
    assert data["references"] == {"products_ms": 5.0, "sums_ms": 4.0}


def test_calibration_that_cannot_be_stored_says_what_to_set(run, measured, tmp_path, monkeypatch):
    """Where the calibration cannot be written, the error names the variable SECTUM_HOME."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SECTUM_HOME", str(tmp_path / "file"))
    result = run("calibrate")
    assert result.exit_code == 2
    assert "SECTUM_HOME" in result.stderr


def test_damaged_calibration_is_named(run, tiny):
    """A damaged calibration ends a prediction with exit code 31 and the command that repairs it."""
    default_path().parent.mkdir(parents=True, exist_ok=True)
    default_path().write_text("{")
    result = run("predict", tiny, "--batch", "1")
    assert result.exit_code == 31
    assert "sectum calibrate" in result.stderr


def test_progress_is_silent_where_nobody_watches(capsys):
    """The progress bar writes nothing where the output is no terminal."""
    with progress_bar() as progress:
        progress("anything", 0.5)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(("tee", "said"), [("tdx", "inside a TDX guest"), ("sgx-host", ""), ("", "")])
def test_calibration_says_in_which_machine_it_ran(run, measured, tiny, tee, said):
    """Inside a confidential machine, calibrating and every later prediction say so; its own profile adds nothing."""
    measured.context["tee"] = tee
    text = run("calibrate").stdout
    assert ("contain its cost" in text) == bool(said)
    assert said in text
    data = json.loads(run("predict", tiny, "--batch", "1", "--json").stdout)
    assert any("calibrated inside" in note for note in data["notes"]) == bool(said)
    result = run("predict", tiny, "--batch", "1", "--enclave", "tdx", "--json")
    assert result.exit_code == (0 if said else 2)
    if said:
        found = json.loads(result.stdout)
        assert found["breakdown_ms"]["compute"] == pytest.approx(found["native_ms"])
