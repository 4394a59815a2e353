"""Prepares the surroundings of a controller, and then becomes the controller.

It runs with the rights of whoever starts the rack. It copies the software of controller and workers to memory that
only the controller can reach, gives the controller a root folder with nothing else in it, takes its user id, makes the
socket for hosts, and executes the controller. Nobody trusts this program: the controller measures the copies, checks
its surroundings itself, and asks the kernel who connects.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from sectum.hetee.confinement import kernel, users
from sectum.hetee.confinement.confine import new_user_namespace
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.image import running
from sectum.hetee.installation import controller_options, software

_IMAGES = ("controller", "worker")
_FAILED = "the software of the controller cannot be copied or started"
_OF_DRIVER = ("usr", "lib", "lib64", "sys")
_REFERENCE = ("manifest.cwt", "signer.pub")  # see `attest.reference`; the signer's key stays where it is
# For workers with user ids of their own, and for memory that is never swapped.
_KEPT = (kernel.CAP_SETUID, kernel.CAP_SETGID, kernel.CAP_KILL, kernel.CAP_IPC_LOCK)


def _may_become(user: int) -> bool:
    """Whether this process may take a user id, which a container may not have: tried in a child."""
    child = os.fork()
    if child == 0:
        try:
            users.become(user, _KEPT)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _private_memory(place: Path, user: int) -> bool:
    """Mount memory at ``place`` that only this process and its children see; returns whether the kernel allows it."""
    try:
        if not user:  # separated from other processes of this user by a namespace
            new_user_namespace()
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE, None)
        flags = kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount(b"none", os.fsencode(place), b"tmpfs", flags, b"mode=755")
    except OSError:
        return False
    return True


def _bind(source: Path, target: Path, flags: int = 0) -> None:
    kernel.mount(os.fsencode(source), os.fsencode(target), None, kernel.MS_BIND | kernel.MS_REC, None)
    if flags:
        kernel.mount(None, os.fsencode(target), None, kernel.MS_REMOUNT | kernel.MS_BIND | flags, None)


def _fill(place: Path, given: argparse.Namespace, user: int) -> None:
    worker = software.TRAINER if given.training else software.WORKER
    for name, role in zip(_IMAGES, (software.CONTROLLER, worker), strict=True):
        software.copy(software.files(role), place / name)
    for name in ("caches", "endorsement"):
        (place / name).mkdir(mode=0o700)
    # The keys stay where they are, for root only; the controller gets a copy, and deletes it when it has read it.
    for file in given.endorsement.iterdir():
        copied = place / "endorsement" / file.name
        copied.touch(mode=0o600)
        copied.write_bytes(file.read_bytes())
    (place / "reference").mkdir(mode=0o755)
    for name in _REFERENCE:
        copied = place / "reference" / name
        copied.write_bytes((given.reference / name).read_bytes())
        copied.chmod(0o444)
    (place / "caches").chmod(0o755)
    if user:
        for path in (place / "caches", place / "endorsement", *(place / "endorsement").iterdir()):
            os.chown(path, user, user)


def _make_root(place: Path, run: Path, *, driver: bool) -> None:
    """Make ``place`` the root folder, with the run folder and what the system must provide in it.

    Args:
        place: folder of the images.
        run: folder of the controller's socket.
        driver: whether the driver of GPUs is needed: the machine's libraries, ``/sys``, and the GPUs' device nodes.
    """
    for name in _IMAGES:
        _bind(place / name, place / name, kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV)
    for name in ("run", "proc", "dev"):
        (place / name).mkdir()
    nodes = [node.name for node in Path("/dev").glob("nvidia*") if node.is_char_device()] if driver else []
    for name in ("null", "urandom", *nodes):
        (place / "dev" / name).touch()
        _bind(Path("/dev", name), place / "dev" / name)
    for source in [Path("/", name) for name in _OF_DRIVER if driver]:
        target = place / source.name
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir()
            _bind(source, target, kernel.MS_RDONLY | kernel.MS_NOSUID)
    _bind(run, place / "run")
    _bind(Path("/proc"), place / "proc")
    os.chdir(place)
    kernel.system_call("pivot_root", b".", b".")
    kernel.umount2(b".", kernel.MNT_DETACH)
    os.chdir("/")


def run_folder(socket: Path, user: int) -> Path:
    """Make the folder of the controller's socket: only the controller writes there, and only the host may enter."""
    folder = socket.parent.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user:
        os.chown(folder, user, users.host_user(user))
        folder.chmod(0o2710)
    return folder


def bind(path: Path) -> socket.socket:
    """Make a Unix socket to which only this user, and the group of its folder, can connect once it listens.

    Raises:
        ServiceRefused: a controller listens there, or others can enter the folder, or its group can write there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_mode & 0o067:
        raise refusal(Refusal.INTERNAL, f"other users can enter {path.parent}; expected mode 0700 or 0710")
    if path.exists():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink()  # left behind by a controller that has ended
            else:
                raise refusal(Refusal.INTERNAL, f"another controller listens on {path}")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise refusal(Refusal.INTERNAL, f"cannot listen on {path}: {error}") from None
    finally:
        os.umask(mask)
    return bound


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to this process, whatever it executes, when its parent with this process id ends.

    A change of credentials ends that.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before prctl
        signal.raise_signal(signal.SIGTERM)


def main() -> None:
    """Prepare everything, and become the controller."""
    given = controller_options.read()
    user, operator = users.first_user(given.socket.parent), os.geteuid()
    try:
        user = user if os.geteuid() == 0 and _may_become(user) else 0
        host = users.host_user(user) if user else os.geteuid()
        run = run_folder(given.socket, user)
        place = run / "software"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        private = _private_memory(place, user)
        if not private:  # another user could not reach the images in this folder
            user = 0
        _fill(place, given, user)
        seen = (Path("/"), Path("/run")) if private else (place, run)
        start = controller_options.start(given, seen[0], user, host, operator)
        (place / "start").write_bytes(msgspec.json.encode(start))
        (place / "start").chmod(0o444)
        if private:
            _make_root(place, run, driver="cuda" in given.accelerators)
        place = seen[0]
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if user:
            users.become(user, _KEPT)
        if given.with_parent is not None:
            end_with_parent(given.with_parent)
        listener = bind(seen[1] / given.socket.name)
    except (OSError, HeteeError) as error:
        refused = error if isinstance(error, HeteeError) else refusal(Refusal.INTERNAL, f"{_FAILED}: {error}")
        sys.stderr.write(f"sectum: {refused.detail}\n")
        sys.exit(refused.exit_code)
    listener.set_inheritable(True)
    arguments = [str(place / "start"), str(listener.fileno())]
    command = running.command(place / "controller", "sectum.hetee.controller", arguments)
    os.execve(command[0], command, running.ENVIRONMENT)  # noqa: S606  # no shell, and a fixed program


if __name__ == "__main__":
    main()
