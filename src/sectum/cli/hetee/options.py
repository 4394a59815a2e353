"""Options and checks that the commands of ``sectum hetee`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sectum.cli.options import positive, whole
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.verification.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])

URL = "hetee://127.0.0.1:7625"
METRICS = "127.0.0.1:7626"
SOFTWARE = "SOFTWARE evidence: no hardware protects this"

state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of the rack, for endorsement, socket and log.  [default: ~/.local/state/sectum/hetee]",
)


def service_options(command: F) -> F:
    """Add the options that name the service, the policy and the identity."""
    command = state_option(command)
    command = click.option(
        "--identity",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Your identity key; made if the file is missing.  [default: a new key each time]",
    )(command)
    command = click.option(
        "--policy",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Policy file, as written by 'sectum hetee policy'.  [default: accept this machine's rack]",
    )(command)
    return click.option("--url", default=URL, show_default=True, metavar="URL", help="Address of the service.")(command)


def pool_options(command: F) -> F:
    """Add the options that say where ``up`` runs racks."""
    options = (
        click.option(
            "--pool",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Run one rack on this machine, or one on each node of a Ray cluster.",
        ),
        click.option("--address", metavar="ADDRESS", help="HOST:PORT of Ray's head node; local starts Ray here."),
        click.option(
            "--credentials",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            help="This node's folder of 'sectum hetee credentials'.  [default: the variables RAY_...]",
        ),
        click.option(
            "--unauthenticated",
            is_flag=True,
            help="Join a Ray cluster without token or TLS: who reaches it can run programs on all nodes.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def racks_options(command: F) -> F:
    """Add the options that name several racks in place of one service."""
    command = click.option(
        "--rack",
        "racks",
        multiple=True,
        metavar="URL",
        help="Address of one of several racks to use together; repeat it for each.",
    )(command)
    return click.option(
        "--pool",
        metavar="HOST:PORT",
        help="Use all racks of a pool, as 'sectum hetee up --pool ray' tells them at its --metrics.",
    )(command)


def wait_option(what: str) -> Callable[[F], F]:
    """The option that says how long to wait for something."""
    return click.option(
        "--wait",
        "wait_s",
        callback=positive("seconds", 600),
        default="60",
        show_default=True,
        metavar="S",
        help=f"How long to wait for {what}.",
    )


def enclave_options(command: F) -> F:
    """Add the options that say what the enclave is to have, and how long to wait for it."""
    return accelerator_options(wait_option("an enclave")(command))


def accelerator_options(command: F) -> F:
    """Add the options that say which accelerators the enclave is to have."""
    command = click.option(
        "--accelerators",
        "count",
        callback=whole(32),
        default="1",
        show_default=True,
        metavar="N",
        help="Number of accelerators. 'sectum hetee resize' changes it later.",
    )(command)
    return click.option(
        "--accelerator",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Kind of accelerator.",
    )(command)


training_option = click.option(
    "--training",
    is_flag=True,
    help="Use the worker that can train as well. It needs PyTorch, and 450 MB of memory more.",
)


def need_pytorch() -> None:
    """Check that PyTorch is installed.

    Raises:
        UsageError: it is not; the message says how to install it.
    """
    from sectum import extras

    extras.need_extra("torch", "training", "torch")


def need_extra() -> None:
    """Check that the libraries of the service are installed.

    Raises:
        UsageError: one is missing; the message says how to install it.
    """
    from sectum import extras

    extras.need_extra("hetee", "the service", "blake3", "cbor2", "cryptography", "msgspec")


def policy_for(state: Path | None, roots: Sequence[str] = ()) -> Policy:
    """Make a policy for the software that is installed here.

    Args:
        state: folder of the rack whose root is trusted if ``roots`` is empty; None for the default folder. The worker
            that also trains is accepted if it is the rack's.
        roots: trusted roots in hexadecimal, or files with them.

    Raises:
        UsageError: there is no root.
    """
    need_extra()
    from sectum.hetee.installed_policy import installed_policy
    from sectum.hetee.launcher import RackPaths, state_directory

    if not roots:
        root = RackPaths(state or state_directory()).root
        if not root.is_file():
            raise UsageError(
                f"there is no rack in {root.parent.parent}: start 'sectum hetee up' first, or name its --state. For a "
                "service on another machine, write a policy for its root: 'sectum hetee policy --root'"
            )
        roots = (str(root),)
    training = RackPaths(state or state_directory()).training.exists()
    return installed_policy((_root(text) for text in roots), training=training)


def _root(text: str) -> str:
    try:
        word = Path(text).read_text(encoding="ascii").strip() if Path(text).is_file() else text.strip()
        if len(bytes.fromhex(word)) == 32:
            return word.lower()
    except (OSError, ValueError):
        pass
    raise UsageError(f"'{text}' is not a root: give 64 hexadecimal digits, or a file with them")


def check_listenable(option: str, address: str) -> None:
    """Check that a process can listen on an address, before it is started.

    Raises:
        UsageError: ``host:port`` is malformed, in use, or not this machine's.
    """
    import socket

    name, _, port = address.rpartition(":")
    if not name or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"{option}: '{address}' is not an address: write for example 127.0.0.1:7625")
    try:
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        socket.create_server((name.strip("[]"), int(port)), family=family).close()
    except (OSError, UnicodeError) as error:
        why = str((isinstance(error, OSError) and error.strerror) or error).partition(" (while")[0]
        raise UsageError(
            f"{option}: cannot listen on {address} ({why}): stop the program that does, or use another address"
        ) from None


def check_url(url: str) -> None:
    """Check the address of a service.

    Raises:
        UsageError: it is not ``hetee://host:port``.
    """
    from sectum.hetee.client.connection import parse_url
    from sectum.hetee.errors import HeteeError

    try:
        parse_url(url)
    except HeteeError as error:
        raise UsageError(error.detail) from None


@contextmanager
def explaining_unreachable(url: str) -> Iterator[None]:
    """Add advice to the error if the service does not answer."""
    from sectum.hetee.errors import Refusal, ServiceRefused, refusal

    check_url(url)
    try:
        yield
    except ServiceRefused as error:
        if error.code is not Refusal.HOST_LOST:
            raise
        advice = "check that 'sectum hetee up' runs there, or name the service with --url"
        raise refusal(error.code, error.detail, advice) from None


def chosen_policy(policy: Path | None, state: Path | None) -> Policy:
    """The policy that the options name, or one for the rack of this machine.

    Raises:
        UsageError: the file or the rack does not exist.
        PolicyRefused: the file is not a policy.
    """
    need_extra()
    if policy is not None and not policy.is_file():
        raise UsageError(f"there is no file '{policy}': 'sectum hetee policy -o {policy}' writes a policy")
    from sectum.hetee.client import read_policy_file

    return policy_for(state) if policy is None else read_policy_file(policy)


def chosen_identity(path: Path | None) -> Any:
    """The identity key that the options name; made if the file does not exist.

    Raises:
        UsageError: the file is not a key, or others can read it.
    """
    from sectum.hetee.client import load_identity, make_identity
    from sectum.hetee.errors import HandshakeRefused

    if path is None:
        return None
    try:
        return load_identity(path) if path.exists() else make_identity(path)
    except HandshakeRefused as error:
        raise UsageError(error.detail) from None
