"""Credentials of a Ray cluster: each node gets its own key, and nodes accept each other and nobody else."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sectum.errors import UsageError
from sectum.hetee.pool.credentials import make_credentials, variables


def context(folder: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    """TLS on both sides, as Ray does it."""
    made = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
    made.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def shake_hands(server: Path, client: Path, name: str) -> None:
    """A handshake in memory: both sides check each other's certificate, the client also the server's name."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = context(client, ssl.Purpose.SERVER_AUTH).wrap_bio(to_client, to_server, server_hostname=name)
    other = context(server, ssl.Purpose.CLIENT_AUTH).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_nodes_accept_each_other_by_their_addresses(tmp_path: Path) -> None:
    """Each certificate fits the address by which other nodes know its node, under the authority of the cluster."""
    make_credentials(tmp_path / "made", ["10.0.0.7", "node-b"], Path("/etc/sectum/ray"))
    first, second = tmp_path / "made" / "10.0.0.7", tmp_path / "made" / "node-b"
    shake_hands(first, second, "10.0.0.7")
    shake_hands(second, first, "node-b")

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(first, second, "10.0.0.8")


def test_another_cluster_is_not_accepted(tmp_path: Path) -> None:
    """Credentials of one cluster open no other: token and authority are new each time."""
    for name in ("one", "two"):
        make_credentials(tmp_path / name, ["10.0.0.7"], Path("/etc/sectum/ray"))
    first, second = tmp_path / "one" / "10.0.0.7", tmp_path / "two" / "10.0.0.7"
    assert (first / "token").read_text() != (second / "token").read_text()
    assert len((first / "token").read_text()) == 64
    with pytest.raises(ssl.SSLError):
        shake_hands(first, second, "10.0.0.7")


def test_only_the_user_can_read_them(tmp_path: Path) -> None:
    """Folders and files are for the user alone, and the key of the authority is in none."""
    make_credentials(tmp_path / "made", ["10.0.0.7"], tmp_path / "there")
    folder = tmp_path / "made" / "10.0.0.7"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "ray.env", "tls.crt", "tls.key", "token"]


def test_the_variables_turn_token_and_tls_on(tmp_path: Path) -> None:
    """What Ray is started with asks for the token and speaks TLS; the file names where the folder will lie."""
    make_credentials(tmp_path / "made", ["10.0.0.7"], Path("/etc/sectum/ray"))
    folder = tmp_path / "made" / "10.0.0.7"
    found = variables(folder)
    assert (found["RAY_AUTH_MODE"], found["RAY_USE_TLS"]) == ("token", "1")
    assert all(Path(value).is_file() for name, value in found.items() if value.startswith("/"))
    lines = dict(line.split("=", 1) for line in (folder / "ray.env").read_text().splitlines())
    assert lines.keys() == found.keys()
    assert lines["RAY_AUTH_TOKEN_PATH"] == "/etc/sectum/ray/token"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A folder that exists is kept, and one that lacks a file is named with it."""
    (tmp_path / "made").mkdir()
    with pytest.raises(UsageError, match="it exists; name another folder"):
        make_credentials(tmp_path / "made", ["10.0.0.7"], tmp_path)
    with pytest.raises(UsageError, match="has no 'token': make credentials"):
        variables(tmp_path / "made")
