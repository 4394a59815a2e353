"""A measurement changes with every byte of the software, and with nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sectum.hetee.attest.measurement import CONTROLLER, WORKER, Measurer, Software

SOFTWARE = Software(("__init__.py", "hetee"), ())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in ("__init__.py", "hetee/a.py", "hetee/wire/b.py", "other/c.py", "hetee/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_manifest_has_a_line_for_each_file(package: Path) -> None:
    """Hash, size and path of each file of the role's parts, sorted by path; no caches, no other parts."""
    lines = Measurer(package).manifest(SOFTWARE)
    assert [line.split(" ")[2] for line in lines[:-1]] == [
        "sectum/__init__.py",
        "sectum/hetee/a.py",
        "sectum/hetee/wire/b.py",
    ]
    assert lines[1] == f"{hashlib.sha256(b'hetee/a.py').hexdigest()} 10 sectum/hetee/a.py"
    assert Measurer(package).measure(SOFTWARE) == hashlib.sha256("\n".join(lines).encode()).digest()


def test_every_change_changes_it(package: Path) -> None:
    """A changed byte, a new file, a missing file and a renamed file all give another measurement."""
    measurer = Measurer(package)
    seen = [measurer.measure(SOFTWARE)]
    (package / "hetee/a.py").write_text("hetee/a.pY")
    seen.append(measurer.measure(SOFTWARE))
    (package / "hetee/new.py").write_text("")
    seen.append(measurer.measure(SOFTWARE))
    (package / "hetee/new.py").rename(package / "hetee/newer.py")
    seen.append(measurer.measure(SOFTWARE))
    (package / "hetee/newer.py").unlink()
    (package / "hetee/wire/b.py").unlink()
    seen.append(measurer.measure(SOFTWARE))
    assert len(set(seen)) == 5


def test_other_files_do_not_matter(package: Path) -> None:
    """Caches and parts that the role does not run leave it as it is."""
    measurer = Measurer(package)
    before = measurer.measure(SOFTWARE)
    (package / "hetee/__pycache__/a.pyc").write_text("new")
    (package / "other/c.py").write_text("new")
    assert measurer.measure(SOFTWARE) == before


def test_a_change_that_keeps_size_and_time_is_seen(package: Path) -> None:
    """A file put in the place of another with its size and times is read anew."""
    measurer = Measurer(package)
    before = measurer.measure(SOFTWARE)
    stat = (package / "hetee/a.py").stat()
    (package / "fake").write_text("hetee/a.pX")
    os.utime(package / "fake", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (package / "fake").rename(package / "hetee/a.py")
    assert measurer.measure(SOFTWARE) != before


def test_dependencies_are_measured() -> None:
    """Files of the distributions that a role runs are in its manifest, native code included; missing ones are named."""
    lines = Measurer().manifest(Software((), ("msgspec", "no-such-distribution")))
    assert any("msgspec/_core" in line and line.split(" ")[1] != "0" for line in lines)
    assert "- 0 no-such-distribution is not installed" in lines
    assert not any("RECORD" in line or ".." in line for line in lines)


def test_roles_have_measurements_of_their_own() -> None:
    """Controller and worker differ, and each is the same when it is measured again by somebody else."""
    controller, worker = Measurer().measure(CONTROLLER), Measurer().measure(WORKER)
    assert controller != worker
    assert Measurer().measure(CONTROLLER) == controller
