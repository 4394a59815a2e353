"""Advice in words."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sectum.cli.predict.advice import sentence, title, to_json
from sectum.predict.prediction import Advice
from sectum.units import MIB

LAYERS = [
    {"name": "conv", "type": "Conv", "ms": 1234.5, "share": 0.5, "paging_ms": 0.0, "weight_bytes": 145 << 10},
    {"name": "fc", "type": "Gemm", "ms": 26.44, "share": 0.25, "paging_ms": 0.0, "weight_bytes": 392 * MIB},
]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("epc", {"epc_bytes": 30_642_176, "latency_ms": 112.94, "speedup": 6.26, "native_ms": 112.9,
                 "compute_ms": 112.9},
         "Paging stops at an EPC of 29.3 MiB: one inference then takes 113 ms, 6.3 times faster."),
        ("epc", {"epc_bytes": 30_642_176, "latency_ms": 45.0, "speedup": 18.2, "native_ms": 21.5, "compute_ms": 25.3},
         "Paging stops at an EPC of 29.3 MiB: one inference then takes 45.0 ms, 18.2 times faster. That is 2.1 times "
         "the 21.5 ms outside: it adds 3.80 ms for computing inside the enclave and 19.7 ms for reading weights from "
         "its slower memory."),
        ("layers", {"layers": LAYERS},
         "The 2 most expensive layers take 75 % of the time: conv (1,230 ms), fc (26.4 ms)."),
        ("layers", {"layers": LAYERS[:1]}, "The most expensive layer takes 50 % of the time: conv (1,230 ms)."),
        ("layers", {"layers": []}, "No layer takes any time."),
        ("weights", {"missing_bytes": 12 * MIB, "freed_bytes": 392 * MIB, "layers": LAYERS[1:]},
         "Shrink the weights of this layer by 12 MiB, or run the layer in another enclave, and the model fits: "
         "fc (392 MiB)."),
        ("batch", {"batch": 0, "epc_bytes": 93 * MIB, "or_more": False},
         "No batch size fits in 93 MiB without paging, not even 1."),
        ("batch", {"batch": 64, "epc_bytes": 93 * MIB, "or_more": True, "ms_per_sample": 10.25,
                   "sample": "sample"},
         "A batch of 64 fits in 93 MiB without paging, at 10.2 ms per sample; larger batches were not tried."),
    ],
)  # fmt: skip
def test_advice_is_a_sentence_with_its_numbers_as_they_are_written_elsewhere(kind, values, expected):
    """Numbers in advice have the digits and units that they have everywhere else."""
    advice = Advice(kind, values)
    assert sentence(advice) == expected
    assert title(advice)
    assert to_json(advice) == {"kind": kind, "values": values, "text": expected}


def test_names_in_advice_carry_no_terminal_escapes():
    """A layer's name comes from an untrusted file."""
    assert "\x1b" not in sentence(Advice("layers", {"layers": [{**LAYERS[0], "name": "\x1b[31mred"}]}))


def test_every_advice_for_a_real_network_has_words(run):
    """Whatever advice is computed, the command line can say it."""
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for model, epc in ((light / "light_resnet50.onnx", "93MiB"), ("zoo:squeezenet1_1", "16MiB")):
        result = run("predict", model, "--epc", epc)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.count("\n* ") >= 2
