"""A platform that makes SGX and TDX quotes with certificates of its own, for tests: they prove nothing.

Its root is a test root, made anew for each platform. Its name says so, and no policy accepts it unless it names that
very certificate in ``quote_roots``. Quotes and collateral have the form that Intel's have::

    platform = QuotingPlatform("tdx")
    quote = platform.quote(report_data)
    QuoteVerifier([platform.root]).verify_quote("tdx", quote, platform.collateral(), time.time())
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
import struct
import time
from collections.abc import Mapping
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

ROOT_NAME = "TEST ROOT of Sectum's tests, NOT A VENDOR'S, proves nothing"
EVALUATION = 17
_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")  # the only vendor of quoting enclaves
_FMSPC, _PCE_SVN = bytes.fromhex("00906ed50000"), 11
_CPU_SVN, _TEE_TCB_SVN = bytes([2] * 8 + [0] * 8), bytes([5, 0, 2] + [0] * 13)
_QE_SIGNER, _QE_PRODUCT, _QE_SVN = hashlib.sha256(b"a quoting enclave of tests").digest(), 1, 8
_SGX_SIZES = {"mrenclave": 32, "mrsigner": 32, "configid": 64, "isvprodid": 2}
_TDX_SIZES = dict.fromkeys(("mrtd", "mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), 48)
_MEASURED = ("mrenclave", "mrsigner", "mrtd", "rtmr0", "rtmr1", "rtmr2")


class QuotingPlatform:
    """A pretended platform with one enclave on it.

    Args:
        kind: ``sgx`` or ``tdx``.
        registers: values of the enclave's registers. The others are random if each enclave has one, and else zero.
        debug: whether the enclave says that it can be debugged.
        svn: security version of the enclave; SGX only.
        status: TCB status that the collateral gives the platform.
        advisories: advisories that the collateral names.
        evaluation: number of the collateral's TCB evaluation.
        now_s: time at which certificates and collateral are made, seconds since 1970; None for now.

    Attributes:
        root: certificate of the test root, DER.
        registers: values of all registers, as the claims of evidence give them.
    """

    def __init__(
        self,
        kind: Literal["sgx", "tdx"],
        *,
        registers: Mapping[str, bytes] | None = None,
        debug: bool = False,
        svn: int = 0,
        status: str = "UpToDate",
        advisories: tuple[str, ...] = (),
        evaluation: int = EVALUATION,
        now_s: float | None = None,
    ) -> None:
        self.kind, self._debug, self._svn = kind, debug, svn
        self._status, self._advisories, self._evaluation = status, advisories, evaluation
        self._now = dt.datetime.fromtimestamp(time.time() if now_s is None else now_s, dt.UTC)
        sizes = _SGX_SIZES if kind == "sgx" else _TDX_SIZES
        self._registers = {
            name: secrets.token_bytes(size) if name in _MEASURED else bytes(size) for name, size in sizes.items()
        } | dict(registers or {})
        self.registers = {name: value.hex() for name, value in self._registers.items()}
        self._certify()

    # --- certificates ---

    def _certify(self) -> None:
        self._root_key, self._ca_key, self._pck, self._tcb_key = (_new_key() for _ in range(4))
        root = _name(ROOT_NAME)
        self._root = self._certificate(root, self._root_key, root, self._root_key, ca=True)
        ca = _name("Test PCK Platform CA")
        self._ca = self._certificate(ca, self._ca_key, root, self._root_key, ca=True)
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113741.1.13.1"), self._platform())
        leaf = self._certificate(_name("Test PCK"), self._pck, ca, self._ca_key, extension=extension)
        signing = self._certificate(_name("Test TCB Signing"), self._tcb_key, root, self._root_key)
        self.root = self._root.public_bytes(Encoding.DER)
        self._pck_chain = _pem(leaf, self._ca, self._root)
        self._tcb_chain = _pem(signing, self._root)
        self._crls = self._crl(root, self._root_key), self._crl(ca, self._ca_key)

    def _certificate(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        signer: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        extension: x509.ExtensionType | None = None,
    ) -> x509.Certificate:
        usage = x509.KeyUsage(not ca, not ca, False, False, False, ca, ca, False, False)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - dt.timedelta(hours=1))
            .not_valid_after(self._now + dt.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if extension is not None:
            made = made.add_extension(extension, critical=False)
        return made.sign(signer, SHA256())

    def _crl(self, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey) -> bytes:
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer)
            .last_update(self._now - dt.timedelta(hours=1))
            .next_update(self._now + dt.timedelta(days=30))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        return made.sign(signer, SHA256()).public_bytes(Encoding.DER)

    def _platform(self) -> bytes:
        """Intel's extension of a PCK certificate: what the platform is."""
        svns = [_entry(bytes([2, 1 + at]), _der(0x02, bytes([svn]))) for at, svn in enumerate(_CPU_SVN)]
        svns += [_entry(bytes([2, 17]), _der(0x02, bytes([_PCE_SVN]))), _entry(bytes([2, 18]), _der(0x04, _CPU_SVN))]
        self.device = secrets.token_bytes(16)
        entries = [
            _entry(b"\x01", _der(0x04, self.device)),
            _entry(b"\x02", _der(0x30, b"".join(svns))),
            _entry(b"\x03", _der(0x04, bytes(2))),
            _entry(b"\x04", _der(0x04, _FMSPC)),
            _entry(b"\x05", _der(0x0A, b"\x00")),
        ]
        return _der(0x30, b"".join(entries))

    # --- collateral ---

    def collateral(self) -> bytes:
        """What the vendor says of the platform: certificates, revocation lists, TCB information, as JSON."""
        information, identity = self._tcb_information(), self._quoting_enclave()
        return json.dumps(
            {
                "pck_crl_issuer_chain": _pem(self._ca, self._root),
                "root_ca_crl": self._crls[0].hex(),
                "pck_crl": self._crls[1].hex(),
                "tcb_info_issuer_chain": self._tcb_chain,
                "tcb_info": information,
                "tcb_info_signature": _signed(self._tcb_key, information.encode()).hex(),
                "qe_identity_issuer_chain": self._tcb_chain,
                "qe_identity": identity,
                "qe_identity_signature": _signed(self._tcb_key, identity.encode()).hex(),
            }
        ).encode()

    def _dated(self, name: str, version: int) -> dict[str, Any]:
        made = {"id": name, "version": version, "tcbEvaluationDataNumber": self._evaluation}
        for field, moved in (("issueDate", dt.timedelta(hours=-1)), ("nextUpdate", dt.timedelta(days=30))):
            made[field] = (self._now + moved).strftime("%Y-%m-%dT%H:%M:%SZ")
        return made

    def _level(self, tcb: dict[str, Any]) -> dict[str, Any]:
        date = self._now.strftime("%Y-%m-%dT00:00:00Z")
        return {"tcb": tcb, "tcbDate": date, "tcbStatus": "UpToDate"}

    def _tcb_information(self) -> str:
        level = self._level({"sgxtcbcomponents": [{"svn": svn} for svn in _CPU_SVN], "pcesvn": _PCE_SVN})
        level |= {"tcbStatus": self._status, "advisoryIDs": list(self._advisories)}
        made = self._dated("SGX" if self.kind == "sgx" else "TDX", 3)
        if self.kind == "tdx":
            level["tcb"]["tdxtcbcomponents"] = [{"svn": svn} for svn in _TEE_TCB_SVN]
            made["tdxModule"] = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        made |= {"fmspc": _FMSPC.hex().upper(), "pceId": "0000", "tcbType": 0, "tcbLevels": [level]}
        return json.dumps(made, separators=(",", ":"))

    def _quoting_enclave(self) -> str:
        made = self._dated("QE" if self.kind == "sgx" else "TD_QE", 2)
        made |= {"miscselect": "00" * 4, "miscselectMask": "FF" * 4}
        made |= {"attributes": "11" + "00" * 15, "attributesMask": "FB" + "FF" * 7 + "00" * 8}
        made |= {"mrsigner": _QE_SIGNER.hex().upper(), "isvprodid": _QE_PRODUCT}
        return json.dumps(made | {"tcbLevels": [self._level({"isvsvn": _QE_SVN})]}, separators=(",", ":"))

    # --- quotes ---

    def quote(self, report_data: bytes) -> bytes:
        """Quote the enclave with 64 bytes of report data."""
        version, tee = (3, 0) if self.kind == "sgx" else (4, 0x81)
        header = struct.pack("<HHIHH16s20s", version, 2, tee, 0, 0, _VENDOR, bytes(20))
        signed = header + (self._enclave(report_data) if self.kind == "sgx" else self._domain(report_data))
        key, extra = _new_key(), secrets.token_bytes(32)
        public = key.public_key().public_numbers()
        point = public.x.to_bytes(32) + public.y.to_bytes(32)
        enclave = _sgx_report(
            {"mrenclave": bytes(32), "mrsigner": _QE_SIGNER, "configid": bytes(64)},
            hashlib.sha256(point + extra).digest() + bytes(32),
            attributes=0x11,
            product=_QE_PRODUCT,
            svn=_QE_SVN,
        )
        chain = self._pck_chain.encode()
        certified = enclave + _signed(self._pck, enclave) + struct.pack("<H", len(extra)) + extra
        certified += struct.pack("<HI", 5, len(chain)) + chain
        if self.kind == "tdx":
            certified = struct.pack("<HI", 6, len(certified)) + certified
        tail = _signed(key, signed) + point + certified
        return signed + struct.pack("<I", len(tail)) + tail

    def _enclave(self, report_data: bytes) -> bytes:
        product = int.from_bytes(self._registers["isvprodid"])
        attributes = 0x05 | (0x02 if self._debug else 0)
        return _sgx_report(self._registers, report_data, attributes=attributes, product=product, svn=self._svn)

    def _domain(self, report_data: bytes) -> bytes:
        attributes = bytes([1 if self._debug else 0, 0, 0, 0x10, 0, 0, 0, 0])
        head = _TEE_TCB_SVN + bytes(48 + 48 + 8) + attributes + bytes.fromhex("e702060000000000")
        return head + b"".join(self._registers[name] for name in _TDX_SIZES) + report_data


def _sgx_report(
    registers: Mapping[str, bytes], report_data: bytes, *, attributes: int, product: int, svn: int
) -> bytes:
    head = _CPU_SVN + bytes(32) + bytes([attributes]) + bytes(15) + registers["mrenclave"] + bytes(32)
    body = registers["mrsigner"] + bytes(32) + registers["configid"] + struct.pack("<HH", product, svn)
    return head + body + bytes(60) + report_data


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    head = bytes([size]) if size < 128 else b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + head + content


def _entry(path: bytes, value: bytes) -> bytes:
    """An entry of Intel's extension: an object identifier below 1.2.840.113741.1.13.1, and its value."""
    return _der(0x30, _der(0x06, bytes.fromhex("2a864886f84d010d01") + path) + value)
