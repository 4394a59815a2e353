"""The page faults of an inference as numbers: what decides how much a page costs beyond the kind of its operator."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sectum.ort.operators import KINDS
from sectum.paging.replacement import PagingCounts
from sectum.predict.features import FEATURES, OperatorFeatures

_MEANS = ("kernel_height", "log_flops", "log_intensity", "in_channels", "out_channels", "out_width", "stride", "groups",
          "nchw_input")  # fmt: skip
PAGING_FEATURES = (
    *(f"share_{kind}" for kind in KINDS), *(f"mean_{name}" for name in _MEANS),
    "weight_share", "wide_kernels", "wide_weights", "narrow_weights", "read_bytes", "written_bytes", "weight_bytes",
    "log_work_of_page", "log_loads", "log_epc_pages", "minor_faults", "evictions", "log_network", "network_of_page",
    "settled",
)  # fmt: skip


def paging_features(features: OperatorFeatures, counts: PagingCounts, epc_pages: int) -> NDArray[np.float32]:
    """Describe the faults of one inference; means over operators are by the pages that each loads.

    Returns:
        Shape ``(1, len(PAGING_FEATURES))``.
    """
    loads = np.asarray(counts.loads_by_operator, dtype=np.float64)
    total = max(float(loads.sum()), 1.0)
    share = loads / total
    columns = dict(zip(FEATURES, np.nan_to_num(features.values.astype(np.float64)).T, strict=True))
    kinds = np.array(features.kinds)
    read, written, weight = (np.expm1(columns[f"log_{name}_bytes"]) for name in ("input", "output", "weight"))
    weight_share = weight / (read + written + weight + 1)
    wide, mostly_weight = columns["kernel_height"] > 1, weight_share > 0.5
    network = float(features.roofline.sum())
    row = [
        *(share[kinds == kind].sum() for kind in KINDS),
        *(share @ columns[name] for name in _MEANS),
        *(share @ values for values in (weight_share, wide, wide & mostly_weight, ~wide & mostly_weight)),
        *(share @ values for values in (read, written, weight)),
        share @ np.log(features.roofline / np.maximum(loads, 1)),
        math.log(total), math.log(epc_pages), counts.minor_faults / total, counts.evictions / total,
        math.log(network), network / total, float(counts.settled),
    ]  # fmt: skip
    return np.array([row], dtype=np.float32)
