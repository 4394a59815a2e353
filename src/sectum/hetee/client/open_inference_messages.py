"""Messages of the Open Inference Protocol, version 2 (gRPC), by their names and field numbers.

The protocol is published at https://github.com/kserve/open-inference-protocol. Parameters, which the gateway does not
need, are left out and are skipped as unknown fields. The classes are in a descriptor pool of their own, so that a
program can also load the protocol's own stubs.
"""

from __future__ import annotations

import functools
import re
from typing import Any

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_TENSOR = "1 string name; 2 string datatype; 3 int64* shape"
_SCHEMA = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 bool ready",
    "ModelReadyRequest": "1 string name; 2 string version",
    "ModelReadyResponse": "1 bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 string name; 2 string version; 3 string* extensions",
    "ModelMetadataRequest": "1 string name; 2 string version",
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": (
        "1 string name; 2 string* versions; 3 string platform; 4 TensorMetadata* inputs; 5 TensorMetadata* outputs"
    ),
    "InferTensorContents": (
        "1 bool* bool_contents; 2 int32* int_contents; 3 int64* int64_contents; 4 uint32* uint_contents; "
        "5 uint64* uint64_contents; 6 float* fp32_contents; 7 double* fp64_contents; 8 bytes* bytes_contents"
    ),
    "InferTensor": f"{_TENSOR}; 5 InferTensorContents contents",
    "InferRequestedOutputTensor": "1 string name",
    "ModelInferRequest": (
        "1 string model_name; 2 string model_version; 3 string id; 5 InferTensor* inputs; "
        "6 InferRequestedOutputTensor* outputs; 7 bytes* raw_input_contents"
    ),
    "ModelInferResponse": (
        "1 string model_name; 2 string model_version; 3 string id; 5 InferTensor* outputs; 6 bytes* raw_output_contents"
    ),
}


@functools.cache
def message(name: str) -> Any:
    """The class of a message, such as ``ModelInferRequest``."""
    from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

    return GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@functools.cache
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import (  # type: ignore[import-untyped]
        FieldDescriptorProto,
        FileDescriptorProto,
    )
    from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]

    file = FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _SCHEMA.items():
        made = file.message_type.add(name=name)
        for number, kind, many, field in re.findall(r"(\d+) (\w+)(\*?) (\w+)", fields):
            known = made.field.add(
                name=field,
                number=int(number),
                label=FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL,
            )
            if kind in _SCHEMA:
                known.type, known.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                known.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return pool
