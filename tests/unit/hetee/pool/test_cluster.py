"""Who joins a cluster finds out whether it is authenticated; the servers here answer as Ray's does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sectum.errors import UsageError
from sectum.hetee.pool.cluster import check, join
from sectum.hetee.pool.credentials import make_credentials, variables

grpc = pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The credentials of a node."""
    folder = tmp_path_factory.mktemp("credentials") / "made"
    make_credentials(folder, ["127.0.0.1"], folder)
    return folder / "127.0.0.1"


class Head(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Answers every call, or only those with a token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def service(self, call: Any) -> Any:
        """The handler of a call."""
        given = dict(call.invocation_metadata).get("authorization")

        def answer(_request: bytes, context: Any) -> bytes:
            if self._token and given != f"Bearer {self._token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "missing or incorrect")
            return b"cluster"

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def serve(node: Path) -> Iterator[Serve]:
    """Starts servers: with a token or none, with TLS or without."""
    servers = []

    def start(*, token: str, tls: bool) -> str:
        server = grpc.server(ThreadPoolExecutor(1), handlers=(Head(token),))
        if tls:
            pair = [((node / "tls.key").read_bytes(), (node / "tls.crt").read_bytes())]
            credentials = grpc.ssl_server_credentials(pair, (node / "ca.crt").read_bytes(), require_client_auth=True)
            port = server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


def test_a_cluster_with_token_and_tls_is_joined(node: Path, serve: Serve) -> None:
    """One that asks for this node's token and speaks TLS under its authority passes."""
    check(serve(token=(node / "token").read_text(), tls=True), variables(node))


@pytest.mark.parametrize(
    ("token", "tls", "says"),
    [
        ("", False, "asks for no token and has no TLS"),
        ("", True, "asks for no token"),
        ("own", False, "has no TLS, so its token is sent in the clear"),
        ("other", True, "has another token"),
    ],
)
def test_a_cluster_without_authentication_is_refused(
    node: Path, serve: Serve, token: str, tls: bool, says: str
) -> None:
    """What a cluster does counts, not what variables promise; the message says what to do."""
    address = serve(token=(node / "token").read_text() if token == "own" else token, tls=tls)
    with pytest.raises(UsageError, match=f"{address} {says}.*--"):
        check(address, variables(node))


def test_a_node_without_credentials_is_told(node: Path, serve: Serve, tmp_path: Path) -> None:
    """Without variables, without the mode, and with an authority of another cluster, a node cannot join."""
    address = serve(token=(node / "token").read_text(), tls=True)
    with pytest.raises(UsageError, match=r"no Ray cluster without TLS answers .*--credentials"):
        check(address, {})
    with pytest.raises(UsageError, match="RAY_AUTH_MODE is not 'token'"):
        check(address, variables(node) | {"RAY_AUTH_MODE": "disabled"})
    make_credentials(tmp_path / "other", ["127.0.0.1"], tmp_path)
    with pytest.raises(UsageError, match="with a fitting certificate"):
        check(address, variables(tmp_path / "other" / "127.0.0.1"))


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    """Ray's client protocol and anything without a port are no addresses of a head node."""
    for address in ("ray://10.0.0.7:10001", "10.0.0.7", "auto"):
        with pytest.raises(UsageError, match="write HOST:PORT of the head node, or local"):
            join(address, None, tmp_path, unauthenticated=False)
