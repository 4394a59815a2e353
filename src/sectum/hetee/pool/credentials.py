"""Credentials of a Ray cluster: a token, and a certificate for each node under an authority of the cluster's own.

Each node has a folder with ``token``, ``ca.crt``, ``tls.crt``, ``tls.key`` and ``ray.env``, the variables with which
Ray is to be started there. The authority's key is not kept: to add a node later, make new credentials for all.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sectum.errors import UsageError

TOKEN, AUTHORITY, CERTIFICATE, KEY, VARIABLES = "token", "ca.crt", "tls.crt", "tls.key", "ray.env"
_FILES = (TOKEN, AUTHORITY, CERTIFICATE, KEY)
_LASTS = datetime.timedelta(days=365)
_CLOCKS_DIFFER = datetime.timedelta(minutes=10)


def make_credentials(folder: Path, nodes: Sequence[str], at: Path) -> None:
    """Make credentials for a cluster: a folder for each node.

    Args:
        folder: gets the folders; it must not exist.
        nodes: name or IP address of each node, as the other nodes reach it.
        at: where a node's folder will lie on that node; ``ray.env`` names it.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    authority_key, token = generate_private_key(SECP256R1()), secrets.token_hex(32)
    authority = _certificate("sectum ray cluster", authority_key, None, ())
    try:
        folder.mkdir(mode=0o700, parents=True)
        for node in nodes:
            key = generate_private_key(SECP256R1())
            certificate = _certificate(node, key, (authority, authority_key), (node,))
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            own = folder / node.replace(":", "-")
            own.mkdir(mode=0o700)
            _write(own / TOKEN, token.encode())
            _write(own / AUTHORITY, authority.public_bytes(Encoding.PEM))
            _write(own / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
            _write(own / KEY, pem)
            lines = [f"{name}={value}\n" for name, value in _variables(at).items()]
            _write(own / VARIABLES, "".join(lines).encode())
    except OSError as error:
        why = "it exists" if isinstance(error, FileExistsError) else error.strerror
        raise UsageError(f"cannot write credentials to {folder}: {why}; name another folder") from None


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, EllipticCurvePrivateKey] | None,
    hosts: Sequence[str],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + _LASTS)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if hosts:
        names = [_general_name(host) for host in hosts]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(issuer[1] if issuer else key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _variables(folder: Path) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / TOKEN),
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(folder / AUTHORITY),
        "RAY_TLS_SERVER_CERT": str(folder / CERTIFICATE),
        "RAY_TLS_SERVER_KEY": str(folder / KEY),
        # When a machine has little memory left, Ray would end the small supervisor of a rack, and with it the rack.
        # Racks limit their workers' memory themselves.
        "RAY_memory_monitor_refresh_ms": "0",
        # Ray would give racks the lowest share of the processor.
        "RAY_worker_niceness": "0",
    }


def variables(folder: Path) -> dict[str, str]:
    """The variables with which Ray uses the credentials of a node.

    Raises:
        UsageError: the folder lacks a file.
    """
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise UsageError(f"{folder} has no '{missing[0]}': make credentials with 'sectum hetee credentials'")
    return _variables(folder.absolute())
