"""Whatever a person gives, the command line answers with a sentence and a documented exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from sectum.cli.exit_codes import exit_codes
from sectum.testing.tiny_models import convolutions

DOCUMENTED = {code for code, _, _ in exit_codes()}


def refused(result, exit_code: int, *parts: str) -> None:
    """The command ended with this code, a message on stderr that holds the parts, and no traceback."""
    assert result.exit_code == exit_code, (result.stdout, result.stderr)
    assert exit_code in DOCUMENTED
    assert result.stderr.startswith("sectum: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


def test_unknown_file_is_unreadable(run, tmp_path):
    """A file that does not exist ends with exit code 10 and its name."""
    refused(run("predict", tmp_path / "none.onnx"), 10, "none.onnx")


def test_folder_is_unreadable(run, tmp_path):
    """A folder in place of a model ends with exit code 10."""
    refused(run("predict", tmp_path), 10)


def test_empty_file_is_malformed(run, tmp_path):
    """An empty file ends with exit code 11."""
    path = tmp_path / "empty.onnx"
    path.touch()
    refused(run("predict", path), 11)


def test_file_that_is_not_onnx_is_malformed(run, tmp_path):
    """A text file in place of a model ends with exit code 11."""
    path = tmp_path / "text.onnx"
    path.write_text("this is a letter, not a network\n" * 40)
    refused(run("predict", path), 11)


def test_an_open_number_of_images_is_one(run, tiny):
    """As the help says of --batch."""
    one, by_default = (json.loads(run("predict", tiny, *words, "--json").stdout) for words in (("--batch", "1"), ()))
    assert one == by_default


def test_a_page_does_not_replace_its_model(run, tiny):
    """A report is never written over the model that it is about."""
    content = Path(tiny).read_bytes()
    refused(run("report", tiny, "-o", tiny), 2, "overwrite the model")
    assert Path(tiny).read_bytes() == content


def test_what_is_no_onnx_file_is_named(run, tmp_path):
    """The error on a file that is not ONNX names the file."""
    (tmp_path / "odd.onnx").write_bytes(b"\x0f" * 100)
    refused(run("predict", tmp_path / "odd.onnx"), 11, "odd.onnx")


def test_more_memory_than_pages_are_counted_for_is_refused(run):
    """A working set beyond what pages are counted for ends with exit code 12 and the advice to take a smaller batch."""
    refused(run("predict", "zoo:resnet152", "--batch", "65536"), 12, "smaller batch")


@pytest.mark.slow
def test_a_model_that_the_runtime_refuses_is_told_in_a_sentence(run, tmp_path):
    """Such as one of a later version of ONNX than the runtime knows."""
    model = onnx.load_from_string(convolutions())
    model.ir_version = 20
    onnx.save(model, tmp_path / "later.onnx")
    result = run("measure", tmp_path / "later.onnx", "--enclave", "native", "--runs", "1")
    refused(result, 18, "IR version")
    assert "Traceback" not in result.stderr


def test_an_evaluation_of_a_folder_that_is_not_there_is_refused(run, tmp_path):
    """`evaluate --retrain` on a missing folder says that there is none."""
    refused(run("evaluate", "--retrain", "--data", tmp_path / "nowhere"), 32, "there is no folder")


def test_a_processor_that_is_not_there_is_refused(run, tmp_path):
    """Before anything is measured there, or stored."""
    line = ("dataset", "collect", "--cpu", "4095", "--networks", "2", "--folder", tmp_path / "mine")
    refused(run(*line), 2, "--cpu 4095")
    assert not (tmp_path / "mine").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("predict", "nope.onnx", "--json"), ("bogus", "--json"), ("predict", "nope.onnx")])
@pytest.mark.parametrize("to", ["closed", "/dev/full"])
def test_an_error_that_nobody_can_read_keeps_its_exit_code(words, to):
    """Whatever standard output and standard error are."""
    if to == "closed":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(to, os.O_WRONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sectum.cli", *words], stdout=writing, stderr=writing, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert done.returncode == (2 if words[0] == "bogus" else 10)


@pytest.mark.slow
def test_help_that_nobody_reads_ends_quietly():
    """Help into a closed pipe ends as by SIGPIPE, without a message."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sectum.cli", "--help"],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_unknown_network_suggests_close_ones(run):
    """An unknown zoo network ends with exit code 17 and the names that are close to it."""
    refused(run("predict", "zoo:resnet5"), 17, "resnet50")
    refused(run("zoo", "export", "nope"), 17)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--epc", "12 parsecs"], "93MiB"),
        (["--epc", "93"], "did you mean 93MiB"),
        (["--epc", "0"], "256KiB"),
        (["--epc", "-5MiB"], "93MiB"),
        (["--epc", "9000000GiB"], "1024GiB"),
        (["--batch", "-1"], "whole number"),
        (["--batch", "0"], "whole number"),
        (["--batch", "two"], "whole number"),
        (["--batch", "9" * 5000], "whole number"),
        (["--threads", "0"], "1 to 256"),
        (["--threads", "1000"], "1 to 256"),
        (["--native-ms", "0"], "above 0"),
        (["--native-ms", "1e-300"], "0.001"),
        (["--native-ms", "nan"], "above 0"),
        (["--native-ms", "inf"], "above 0"),
        (["--input", "image"], "image=1x3x224x224"),
        (["--input", "image=1x3xax224"], "image=1x3x224x224"),
        (["--input", "image=0x3x32x32"], "1 or more"),
        (["--input", "a=1x2", "--input", "a=1x3"], "twice"),
        (["--enclave", "nowhere"], "softepc"),
        (["--enclave", "native", "--epc", "93MiB"], "no EPC"),
        (["--nonsense"], "--help"),
    ],
)
def test_bad_value_is_a_usage_error_that_says_what_to_write(run, tiny, words, hint):
    """Each bad value of an option is a usage error that shows a good one."""
    refused(run("predict", tiny, *words), 2, hint)


def test_input_of_a_zoo_network_must_be_a_square_image(run):
    """A zoo network refuses an image that is not square, and a batch that contradicts the input."""
    refused(run("predict", "zoo:alexnet", "--input", "input=1x3x64x32"), 2, "square")
    refused(run("predict", "zoo:alexnet", "--batch", "2", "--input", "input=1x3x64x64"), 2, "contradicts")


def test_measuring_without_an_enclave_takes_no_epc(run, tiny):
    """`measure --enclave native` refuses an EPC size."""
    refused(run("measure", tiny, "--enclave", "native", "--epc", "4MiB"), 2, "--epc")


def test_unknown_enclave_to_measure_in_names_those_there_are(run, tiny):
    """An enclave that nothing runs in is a usage error that names the ones that do."""
    refused(run("measure", tiny, "--enclave", "sgx9"), 2, "softepc")


def test_report_cannot_measure_in_an_enclave_that_is_only_described(run, tmp_path):
    """`report --measure` refuses a profile without a runner."""
    words = ["zoo:squeezenet1_1", "--enclave", "sgx1", "--measure", "-o", tmp_path / "r.html"]
    refused(run("report", *words), 2, "--measure")


def test_damaged_profile_is_an_invalid_artefact(run, tiny, tmp_path):
    """A profile file without its fields ends with exit code 30 and its name."""
    profile = tmp_path / "mine.json"
    profile.write_text("{}")
    refused(run("predict", tiny, "--batch", "1", "--enclave", profile), 30, "mine.json")


def test_report_into_a_missing_folder_is_refused_before_the_work(run, tmp_path):
    """An output path that cannot be a file is refused before anything is predicted."""
    refused(run("report", "zoo:resnet152", "-o", tmp_path / "no" / "r.html"), 2, "folder")
    refused(run("report", "zoo:resnet152", "-o", tmp_path), 2, "folder")


def test_unwritable_output_is_refused(run):
    """An output file that cannot be created is a usage error."""
    refused(run("zoo", "export", "squeezenet1_1", "-o", "/proc/network.onnx"), 2, "written")


def test_device_that_is_full_is_refused(run):
    """A device without space is a usage error that says what cannot be written."""
    refused(run("zoo", "export", "squeezenet1_1", "-o", "/dev/full"), 2, "cannot be written")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["profiles"], ["profiles", "--json"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_no_defect(words):
    """A full disk behind standard output is told in a sentence."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "sectum.cli", *words]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sectum: the output cannot be written: ")


@pytest.mark.slow
def test_closed_output_is_no_defect():
    """A process that was started without standard output still does its work."""
    command = f"{shlex.quote(sys.executable)} -m sectum.cli profiles >&-"
    ended = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_report_is_not_written_into_a_file_called_minus(run, tmp_path, monkeypatch):
    """What means standard output elsewhere does not make a file with an awkward name."""
    monkeypatch.chdir(tmp_path)
    refused(run("report", "zoo:squeezenet1_1", "-o", "-"), 2, "name a file")
    assert list(tmp_path.iterdir()) == []


def test_network_of_the_zoo_without_its_prefix_is_recognised(run, tmp_path, monkeypatch):
    """Who forgets zoo: is told so; a file of that name is read as a file."""
    monkeypatch.chdir(tmp_path)
    refused(run("predict", "ResNet50"), 10, "zoo:resnet50")
    (tmp_path / "resnet50").touch()
    refused(run("predict", "resnet50"), 11)


def test_empty_model_name_is_told_as_such(run):
    """An unset variable in a script is not taken for the current folder."""
    refused(run("predict", ""), 2, "empty")


def test_error_is_json_too_where_json_was_asked_for(run, tmp_path):
    """With --json an error is also an object on stdout, with type, message and exit code."""
    result = run("predict", tmp_path / "none.onnx", "--json")
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "ModelUnreadable"
    assert error["exit_code"] == result.exit_code == 10
    assert "none.onnx" in error["message"]
    refused(result, 10)


def test_usage_error_is_json_too(run, tiny):
    """With --json a usage error is an object on stdout, too."""
    error = json.loads(run("predict", tiny, "--epc", "x", "--json").stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("UsageError", 2)


def test_message_cannot_carry_terminal_escapes(run, tmp_path):
    """Escape sequences in a file name are written out, not sent to the terminal."""
    result = run("predict", tmp_path / "\x1b[31mred\x1b[0m.onnx")
    assert "\x1b" not in result.stderr
    refused(result, 10, "\\x1b[31mred")


@pytest.mark.slow
def test_process_has_the_exit_code_and_no_traceback(process, tmp_path):
    """The process itself ends with the documented code and writes only its message to stderr."""
    ended = process("predict", tmp_path / "none.onnx")
    assert ended.returncode == 10
    assert ended.stderr.startswith("sectum: ")
    assert ended.stdout == ""


@pytest.mark.slow
def test_defect_is_one_line_and_leaves_with_1():
    """An unexpected exception ends with exit code 1 and its name, without a traceback."""
    program = (
        "import sys, sectum.cli.main as m\n"
        "m.cli.commands['profiles'].callback = lambda **_: 1 / 0\n"
        "sys.argv = ['sectum', 'profiles', '--json']\n"
        "m.main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "ZeroDivisionError" in ended.stderr
    assert json.loads(ended.stdout)["error"]["exit_code"] == 1


@pytest.mark.slow
def test_reader_that_leaves_is_no_error():
    """A reader that closes the pipe ends the command as by SIGPIPE, without a message."""
    command = [sys.executable, "-m", "sectum.cli", "zoo", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(60) == 141


@pytest.mark.slow
def test_ctrl_c_ends_with_130():
    """Ctrl-C ends the command with exit code 130 and without a traceback."""
    program = (
        "import sys, time, sectum.cli.main as m\n"
        "def wait(**_):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "m.cli.commands['profiles'].callback = wait\n"
        "sys.argv = ['sectum', 'profiles']\n"
        "m.main()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in errors
