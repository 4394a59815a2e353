"""Files that somebody else gives to a data owner end in a clear error, whatever is in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from places import SUPPORT
from sectum.cli.hetee.verify import _content
from sectum.errors import UsageError
from sectum.hetee.errors import EvidenceRefused, PolicyRefused

pytestmark = pytest.mark.slow

HEADERS = {
    "more than any machine has": "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
    "more than a number holds": f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 70},)}}",
    "less than nothing": "{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "no number": "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 'x')}",
    "cut off": "{'descr':",
    "nested": "{'descr': " + "[" * 2000,
}


@pytest.mark.parametrize("kind", ["receipt", "policy"])
def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path, kind: str) -> None:
    """``sectum hetee verify`` reads no more of a receipt or a policy than one may have, if the file is 4 TiB long."""
    endless, small = tmp_path / "endless.json", tmp_path / "small.json"
    with endless.open("wb") as file:
        file.truncate(1 << 42)
    small.write_text("{}")
    files = [endless, small] if kind == "receipt" else [small, endless]
    command = [sys.executable, "-c", "from sectum.cli.main import main; main()", "hetee", "verify", str(files[0])]
    policy = ["--policy", str(files[1])]
    if kind == "receipt":
        files[1].write_text('{"formats": ["software"], "measurements": {}}')
    done = subprocess.run(
        [*command, *policy],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SUPPORT.parents[1] / "src"), *sys.path))},
    )
    assert done.returncode == (EvidenceRefused if kind == "receipt" else PolicyRefused).exit_code, done.stderr
    assert "has more" in done.stderr


@pytest.mark.parametrize("name", HEADERS)
def test_an_array_that_lies_about_itself_is_an_error_of_the_user(tmp_path: Path, name: str) -> None:
    """An array that says what it cannot be takes no memory, and is no defect of Sectum."""
    header = HEADERS[name].encode().ljust(118) + b"\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + b"1234")
    with pytest.raises(UsageError):
        _content(path)


def test_an_archive_with_the_name_of_an_array_is_an_error_of_the_user(tmp_path: Path) -> None:
    """What is no array at all is no defect of Sectum either."""
    for content in (b"", b"PK\x03\x04 an archive", b"\x80\x04K\x01."):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(UsageError):
            _content(tmp_path / "x.npy")
