"""What the commands of ``sectum hetee`` share: where the service is, and what of it is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.attest.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])

URL = "hetee://127.0.0.1:7625"
METRICS = "127.0.0.1:7626"
SOFTWARE = "SOFTWARE evidence: no hardware protects this"

state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="The rack's folder: endorsement, socket, log.  [default: ~/.local/state/sectum/hetee]",
)


def service_options(command: F) -> F:
    """Add what says which service is used, and whether it is trusted."""
    command = state_option(command)
    command = click.option(
        "--identity",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Your identity key; made if it is missing.  [default: a new one each time]",
    )(command)
    command = click.option(
        "--policy",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What you accept, as 'sectum hetee policy' writes it.  [default: this machine's rack]",
    )(command)
    return click.option("--url", default=URL, show_default=True, metavar="URL", help="The service.")(command)


def need_extra() -> None:
    """Check that the libraries of the service are installed.

    Raises:
        UsageError: one is missing; the message says how to install it.
    """
    from sectum.cli.render import extras

    extras.need_extra("hetee", "the service", "cbor2", "cryptography", "msgspec")


def policy_for(state: Path | None, roots: Sequence[str] = ()) -> Policy:
    """Make a policy for the software that is installed here.

    Args:
        state: folder of the rack whose root is trusted if no other is named; None for the default one.
        roots: in hexadecimal, or files with them.

    Raises:
        UsageError: there is no root.
    """
    need_extra()
    from sectum.hetee.attest.measurement import CONTROLLER, WORKER, Measurer
    from sectum.hetee.attest.policy import Policy
    from sectum.hetee.launcher import Places, state_directory

    if not roots:
        root = Places(state or state_directory()).root
        if not root.is_file():
            raise UsageError(
                f"there is no rack at {root.parent.parent}: start 'sectum hetee up' first, or for a service elsewhere "
                "use the policy that 'sectum hetee policy' writes there, or name its --root"
            )
        roots = (str(root),)
    measurer = Measurer()
    return Policy(
        formats=("software",),
        measurements={
            "controller": (measurer.measure(CONTROLLER).hex(),),
            "worker": (measurer.measure(WORKER).hex(),),
        },
        roots=tuple(_root(text) for text in roots),
    )


def policy_file(policy: Policy) -> bytes:
    """A policy as a file for people to read and change."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(policy), indent=2) + b"\n"


def _root(text: str) -> str:
    try:
        word = Path(text).read_text(encoding="ascii").strip() if Path(text).is_file() else text.strip()
        if len(bytes.fromhex(word)) == 32:
            return word.lower()
    except (OSError, ValueError):
        pass
    raise UsageError(f"'{text}' is no root: write 64 hexadecimal digits, or name a file with them")


def check_listenable(option: str, address: str) -> None:
    """Refuse an address that cannot be listened on, before anything is started for it.

    Raises:
        UsageError: ``host:port`` is malformed, taken, or not this machine's.
    """
    import socket

    name, _, port = address.rpartition(":")
    if not name or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"{option}: '{address}' is no address: write for example 127.0.0.1:7625")
    try:
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        socket.create_server((name.strip("[]"), int(port)), family=family).close()
    except (OSError, UnicodeError) as error:
        why = str((isinstance(error, OSError) and error.strerror) or error).partition(" (while")[0]
        raise UsageError(
            f"{option}: {address} cannot be used ({why}): stop what listens there, or name another"
        ) from None


def check_url(url: str) -> None:
    """Refuse what is no address of a service.

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
def reaching(url: str) -> Iterator[None]:
    """Say what to do where nobody answers."""
    from sectum.hetee.errors import Refusal, ServiceRefused, refusal

    check_url(url)
    try:
        yield
    except ServiceRefused as error:
        if error.code is not Refusal.HOST_LOST:
            raise
        advice = "see that 'sectum hetee up' runs there, or name the service with --url"
        raise refusal(error.code, error.detail, advice) from None


def chosen_policy(policy: Path | None, state: Path | None) -> Policy:
    """The policy that the options name, or one for the rack of this machine.

    Raises:
        UsageError: there is no such file, or no rack.
        PolicyRefused: the file is no policy.
    """
    need_extra()
    if policy is not None and not policy.is_file():
        raise UsageError(f"there is no policy '{policy}': 'sectum hetee policy -o {policy}' writes one")
    from sectum.hetee.client import read_policy_file

    return policy_for(state) if policy is None else read_policy_file(policy)


def chosen_identity(path: Path | None) -> Any:
    """The identity key that the options name; made if there is none yet.

    Raises:
        UsageError: the file is no key, or others can read it.
    """
    from sectum.hetee.client import load_identity, make_identity
    from sectum.hetee.errors import HandshakeRefused

    if path is None:
        return None
    try:
        return load_identity(path) if path.exists() else make_identity(path)
    except HandshakeRefused as error:
        raise UsageError(error.detail) from None
