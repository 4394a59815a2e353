"""Kinds of confidential machines: how a calibration recognises one from inside, and which cannot be predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Guest:
    """A confidential machine, as a process inside it sees it.

    Attributes:
        words: what to call it in a sentence, with its article.
        devices: paths under ``/dev``; one of them exists inside such a machine and nowhere else.
    """

    words: str
    devices: tuple[str, ...]


GUESTS: Mapping[str, Guest] = {
    "tdx": Guest("a TDX guest", ("tdx_guest", "tdx-guest")),
    "sev-snp": Guest("an SEV-SNP guest", ("sev-guest",)),
    "nitro": Guest("a Nitro enclave", ("nsm",)),
}

SGX_HOST = "sgx-host"
"""A machine that can start SGX enclaves. Its processes run outside of them, so its times are native ones."""
_SGX_DEVICES = ("sgx_enclave", "sgx/enclave")

_GPU_FIGURES = (
    "Sectum predicts ONNX Runtime on CPUs, and this is a GPU with an LLM server. Published figures, all of vLLM: "
    "throughput falls by 4.6 to 6.9 % for models of 8 and 14 B parameters and not measurably for 70 B (H100, SEV-SNP "
    "host, arXiv 2409.03992), by 2.3 to 8.8 % (H200, TDX host, same), by 1.5 to 5.9 % (H100, TDX guest, Llama-2-7B, "
    "raissonsouto/confidential-llms-in-tees); the time to the first token grows by up to 26 %. Measure your model there"
)

NOT_PREDICTED: Mapping[str, str] = {"h100-cc": _GPU_FIGURES, "h200-cc": _GPU_FIGURES}
"""Names of enclaves that people ask for and that no profile describes, and why."""


def recognised(devices: Path = Path("/dev")) -> str:
    """Tell in which kind of confidential machine this process runs.

    A container sees only the devices that it was given, so it may not be recognised.

    Returns:
        A key of `GUESTS`, `SGX_HOST`, or an empty text where no device says so.
    """
    for kind, guest in GUESTS.items():
        if any((devices / name).exists() for name in guest.devices):
            return kind
    return SGX_HOST if any((devices / name).exists() for name in _SGX_DEVICES) else ""
