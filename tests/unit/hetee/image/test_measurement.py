"""A measurement changes with every byte that a role can run, and with nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import sectum
from sectum.hetee.errors import EvidenceRefused
from sectum.hetee.image.measurement import digest, in_image, manifest, measure
from sectum.hetee.installation.software import (
    CONTROLLER,
    INTERPRETER,
    LIBRARY,
    LOADER,
    NATIVE,
    PACKAGES,
    WORKER,
    copy,
    files,
)


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, Path]:
    """Three files, and where they go in an image."""
    found = {}
    for name in ("bin/python", "lib/a.py", "lib/b/c.so"):
        path = tmp_path / "installed" / name.replace("/", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        found[name] = path
    return found


def test_the_manifest_has_a_line_for_each_file(installed: dict[str, Path]) -> None:
    """Hash, size and path in the image, sorted by path."""
    lines = manifest(installed)
    assert [line.split(" ")[2] for line in lines] == sorted(installed)
    assert lines[1] == f"{hashlib.sha256(b'lib/a.py').hexdigest()} 8 lib/a.py"
    assert measure(installed) == digest(lines) == hashlib.sha256("\n".join(lines).encode()).digest()


def test_an_image_measures_as_what_it_was_copied_from(installed: dict[str, Path], tmp_path: Path) -> None:
    """A copy has the measurement of its originals, and nobody may write its files."""
    copy(installed, tmp_path / "image")
    assert measure(in_image(tmp_path / "image")) == measure(installed)
    assert all(not path.stat().st_mode & 0o222 for path in in_image(tmp_path / "image").values())


def test_every_change_of_an_image_changes_it(installed: dict[str, Path], tmp_path: Path) -> None:
    """A changed byte, a new file, byte code too, a renamed and a missing file all give another measurement."""
    image = tmp_path / "image"
    copy(installed, image)
    (image / "lib/a.py").chmod(0o644)
    seen = [measure(in_image(image))]
    (image / "lib/a.py").write_text("lib/A.py")
    seen.append(measure(in_image(image)))
    (image / "lib/__pycache__").mkdir()
    (image / "lib/__pycache__/a.pyc").write_text("")
    seen.append(measure(in_image(image)))
    (image / "lib/a.py").rename(image / "lib/d.py")
    seen.append(measure(in_image(image)))
    (image / "lib/d.py").unlink()
    seen.append(measure(in_image(image)))
    assert len(set(seen)) == 5


def test_a_link_in_an_image_is_refused(installed: dict[str, Path], tmp_path: Path) -> None:
    """A link could lead to something that changes after it was measured."""
    copy(installed, tmp_path / "image")
    (tmp_path / "image/lib/link.py").symlink_to(installed["lib/a.py"])
    with pytest.raises(EvidenceRefused):
        in_image(tmp_path / "image")


def test_a_role_s_software_has_all_parts() -> None:
    """Interpreter, loader, C library, standard library, dependencies with native code, and the role's own package."""
    found = files(WORKER)
    assert {INTERPRETER, LOADER, f"{NATIVE}/libc.so.6", f"{LIBRARY}/os.py"} <= set(found)
    assert f"{PACKAGES}/sectum/hetee/worker/process.py" in found
    assert any(label.startswith(f"{PACKAGES}/onnxruntime/capi/") and label.endswith(".so") for label in found)
    assert any(label.startswith(f"{PACKAGES}/numpy.libs/") for label in found)
    assert not [label for label in found if "__pycache__" in label or label.endswith((".pyc", ".pth"))]
    assert not [label for label in found if "sitecustomize" in label]


def test_a_role_is_measured_by_what_it_uses() -> None:
    """A change of client, bench or host changes no measurement; each role has a measurement of its own."""
    controller, worker = files(CONTROLLER), files(WORKER)
    for found in (controller, worker):
        parts = {label.split("/")[5] for label in found if label.startswith(f"{PACKAGES}/sectum/hetee/")}
        assert not parts & {"bench", "client", "host", "launcher.py"}
    assert not [label for label in controller if "numpy" in label or "onnxruntime" in label or "hetee/worker" in label]
    assert measure(controller) == measure(files(CONTROLLER))
    assert measure(controller) != measure(worker)


@pytest.mark.slow
def test_a_changed_package_is_another_software(tmp_path: Path) -> None:
    """One byte in this package changes the measurement of the roles that use the file."""
    package = tmp_path / "sectum"
    for label, path in files(WORKER).items():
        if label.startswith(f"{PACKAGES}/sectum/"):
            target = package / label.removeprefix(f"{PACKAGES}/sectum/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert measure(files(WORKER, package)) == measure(files(WORKER, Path(sectum.__file__).parent))
    with (package / "hetee/worker/process.py").open("a") as file:
        file.write("#\n")
    assert measure(files(WORKER, package)) != measure(files(WORKER))
