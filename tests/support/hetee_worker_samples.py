"""What several tests of the worker use: pictures, and an enclave with its client."""

from __future__ import annotations

import io
import queue
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hetee_worker_peer import Client
from sectum.hetee.errors import HeteeError
from sectum.hetee.worker.enclave_server import EnclaveServer


def jpeg(width: int, height: int, mode: str = "RGB", **options) -> bytes:
    rng = np.random.default_rng(width)
    shape = (height, width, {"RGB": 3, "CMYK": 4}.get(mode, 1))
    pixels = rng.integers(0, 256, shape, np.uint8).squeeze()
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "JPEG", **options)
    return file.getvalue()


@dataclass
class Served:
    """An enclave, the client that it serves, and how its serving ended."""

    enclave: EnclaveServer
    client: Client
    ended: queue.SimpleQueue[HeteeError | None]


Serve = Callable[..., Served]
