"""Joins a Ray cluster, if it asks for a token and speaks TLS; or starts one on this machine that does."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

from sectum.errors import UsageError
from sectum.extras import require
from sectum.hetee.pool.credentials import make_credentials, variables

LOCAL = "local"
NAMESPACE = "sectum"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}")
_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_CALL_S = 5.0
_STORE_BYTES = 80 << 20  # addresses and counts are small
_HOW = "start every node with the variables of 'sectum hetee credentials', or accept it with --unauthenticated"


def join(address: str, credentials: Path | None, own: Path, *, unauthenticated: bool) -> Any:
    """Connect this process to a Ray cluster; returns the module ``ray``.

    Args:
        address: ``HOST:PORT`` of the cluster's head, of which this machine is a node; ``local`` starts a cluster here.
        credentials: folder of this node, as `make_credentials` makes it; None for the variables of the environment.
        own: folder for the credentials of clusters that are started here.
        unauthenticated: whether a cluster without token or TLS is accepted.

    Raises:
        UsageError: Ray is not installed, nobody answers, or the cluster is not authenticated.
    """
    if address != LOCAL and not _ADDRESS.fullmatch(address):
        raise UsageError(f"--address: '{address}' is not an address: write HOST:PORT of the head node, or local")
    if address == LOCAL and credentials is None and not unauthenticated:
        here = own / own_address()
        if not here.exists():
            make_credentials(here.parent, [here.name], here)
        credentials = here
    given = variables(credentials) if credentials is not None else {}
    if address != LOCAL and not unauthenticated:
        check(address, dict(os.environ) | given)
    return _init(address, given)


def _init(address: str, given: dict[str, str]) -> Any:
    os.environ.update(given)  # before Ray is loaded, which reads them once
    ray = require("ray", "a pool of several machines needs Ray", "ray")
    here: dict[str, Any] = {}
    if address == LOCAL:
        here = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"cannot join the Ray cluster at {address} ({error}): check --address") from error
    return ray


def own_address() -> str:
    """The IP address that Ray gives to a node on this machine, unless it is told another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, and finds the way out
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def check(address: str, environment: dict[str, str]) -> None:
    """Check that a cluster refuses calls without a token, that it speaks TLS, and that this node's token is right.

    Args:
        address: ``HOST:PORT`` of its head.
        environment: variables of Ray.

    Raises:
        UsageError: it does not, or nobody answers.
    """
    grpc = require("grpc", "asking a Ray cluster needs grpcio", "hetee")
    answered, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
    plain = _ask(grpc, grpc.insecure_channel(address), ())
    if plain is answered:
        raise UsageError(f"the Ray cluster at {address} asks for no token and has no TLS: {_HOW}")
    if plain is refused:
        raise UsageError(f"the Ray cluster at {address} has no TLS, so its token is sent in the clear: {_HOW}")
    if environment.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        raise UsageError(f"no Ray cluster without TLS answers at {address}: name this node's --credentials")
    credentials = grpc.ssl_channel_credentials(
        *(_read(environment, f"RAY_TLS_{name}") for name in ("CA_CERT", "SERVER_KEY", "SERVER_CERT"))
    )
    if _ask(grpc, grpc.secure_channel(address, credentials), ()) is answered:
        raise UsageError(f"the Ray cluster at {address} asks for no token: {_HOW}")
    if environment.get("RAY_AUTH_MODE", "").lower() != "token":
        raise UsageError("RAY_AUTH_MODE is not 'token': name this node's --credentials")
    token = environment.get("RAY_AUTH_TOKEN") or _read(environment, "RAY_AUTH_TOKEN_PATH").decode().strip()
    found = _ask(grpc, grpc.secure_channel(address, credentials), (("authorization", f"Bearer {token}"),))
    if found is refused:
        raise UsageError(f"the Ray cluster at {address} has another token: name this node's --credentials")
    if found is not answered:
        raise UsageError(
            f"no Ray cluster with a fitting certificate answers at {address} ({found.name}): check --address and "
            "--credentials"
        )


def _ask(grpc: Any, channel: Any, metadata: tuple[tuple[str, str], ...]) -> Any:
    """The status of a call that changes nothing."""
    with channel:
        try:
            channel.unary_unary(_CALL)(b"", timeout=_CALL_S, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def _read(environment: dict[str, str], name: str) -> bytes:
    try:
        return Path(environment[name]).read_bytes()
    except KeyError:
        raise UsageError(f"{name} is not set: name this node's --credentials") from None
    except OSError as error:
        raise UsageError(f"{name}: {environment[name]} cannot be read ({error.strerror})") from None
