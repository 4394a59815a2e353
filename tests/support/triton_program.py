"""A program of somebody else: plain ``tritonclient``, which knows nothing of Sectum. Prints what it got as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def main(address: str, name: str, pictures: list[str]) -> None:
    """Ask for everything that the protocol has."""
    client = triton.InferenceServerClient(address)
    model = client.get_model_metadata(name)
    images = np.random.default_rng(1).random((3, 3, 64, 64), np.float32)
    numbers = triton.InferInput(model.inputs[0].name, images.shape, "FP32")
    numbers.set_data_from_numpy(images)
    files = np.array([Path(picture).read_bytes() for picture in pictures], dtype=object)
    jpegs = triton.InferInput(model.inputs[0].name, files.shape, "BYTES")
    jpegs.set_data_from_numpy(files)
    wanted = [triton.InferRequestedOutput(model.outputs[0].name)]
    pending: list[triton.InferResult] = []
    for _ in range(4):
        client.async_infer(name, [numbers], lambda result, error: pending.append(error or result), outputs=wanted)
    first = client.infer(name, [numbers], request_id="seven")
    try:
        client.infer("nobody", [numbers])
        missing = ""
    except triton.InferenceServerException as error:
        missing = error.status()
    while len(pending) < 4:
        pass
    scores = first.as_numpy(model.outputs[0].name)
    found = {
        "live": client.is_server_live(),
        "ready": client.is_model_ready(name),
        "server": client.get_server_metadata().name,
        "id": first.get_response().id,
        "scores": scores.tolist(),
        "same": all(np.array_equal(scores, result.as_numpy(model.outputs[0].name)) for result in pending),
        "jpegs": client.infer(name, [jpegs]).as_numpy(model.outputs[0].name).argmax(1).tolist(),
        "missing": missing,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
