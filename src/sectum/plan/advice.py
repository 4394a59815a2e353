"""What to change, computed for the model at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sectum.enclave.profile import Profile
from sectum.errors import ModelError
from sectum.graph.ir import Graph
from sectum.predict.prediction import Advice, Prediction
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared, TracedNetwork
from sectum.units import PAGE_BYTES

LARGEST_BATCH = 64
TOP_LAYERS = 3


def advise(
    predictor: Predictor,
    prepared: Prepared,
    prediction: Prediction,
    profile: Profile,
    at_batch: Callable[[int], Graph],
) -> list[Advice]:
    """Compute what would make the inference cheaper.

    Args:
        predictor: the one that made the prediction.
        prepared: the network that it was made for.
        prediction: the prediction to improve on.
        profile: the enclave it was made for.
        at_batch: gives the network at another batch; may raise a ModelError where it cannot be re-batched.
    """
    advice = [_costly_layers(prediction)]
    if profile.epc_bytes is None:
        return advice
    if prediction.overcommit.predicted:
        advice.insert(0, _enough_epc(predictor, prepared, prediction, profile))
        if (weights := _weights_in_the_way(prediction)) is not None:
            advice.append(weights)
    largest = _largest_batch(predictor, prepared, prediction, profile, at_batch)
    if largest is not None:
        advice.append(largest)
    return advice


def _enough_epc(predictor: Predictor, prepared: Prepared, prediction: Prediction, profile: Profile) -> Advice:
    """An EPC that holds the working set never pages, whatever the policy; a smaller one pages in every inference."""
    epc_bytes = prediction.memory.working_set_bytes
    latency_ms = predictor.latency_ms(prepared, profile.with_epc(epc_bytes))
    return Advice(
        "epc",
        {
            "epc_bytes": epc_bytes,
            "latency_ms": latency_ms,
            "speedup": prediction.latency_ms / latency_ms,
            "native_ms": prediction.native_ms,
            "compute_ms": prediction.breakdown_ms.compute,  # the same at every size of EPC
        },
    )


def _costly_layers(prediction: Prediction) -> Advice:
    ranked = sorted(prediction.layers, key=lambda layer: layer.breakdown_ms.total, reverse=True)[:TOP_LAYERS]
    total = prediction.latency_ms or 1.0
    layers = [
        {"name": layer.name, "type": layer.type, "ms": layer.breakdown_ms.total,
         "share": layer.breakdown_ms.total / total, "paging_ms": layer.breakdown_ms.paging}
        for layer in ranked
    ]  # fmt: skip
    return Advice("layers", {"layers": layers})


def _weights_in_the_way(prediction: Prediction) -> Advice | None:
    """The fewest layers whose weights, if they shrank away, would make the model fit."""
    missing = -(prediction.memory.margin_bytes or 0)
    chosen, freed = [], 0
    for layer in sorted(prediction.layers, key=lambda layer: layer.weight_bytes, reverse=True):
        if freed >= missing or layer.weight_bytes == 0:
            break
        chosen.append(layer)
        freed += layer.weight_bytes
    if not chosen or freed < missing or len(chosen) > TOP_LAYERS:
        return None
    layers = [{"name": layer.name, "weight_bytes": layer.weight_bytes} for layer in chosen]
    return Advice("weights", {"missing_bytes": missing, "freed_bytes": freed, "layers": layers})


def _largest_batch(
    predictor: Predictor,
    prepared: Prepared,
    prediction: Prediction,
    profile: Profile,
    at_batch: Callable[[int], Graph],
) -> Advice | None:
    epc_bytes = profile.epc_bytes or 0
    largest: TracedNetwork | Prepared = prepared  # of those that fit
    fitting, failing = 0, LARGEST_BATCH + 1
    try:
        while failing - fitting > 1:
            batch = min(fitting * 2 or 1, (fitting + failing) // 2)
            own = batch == prediction.batch
            network = prepared if own else predictor.trace(at_batch(batch), threads=prediction.threads)
            if network.trace.pages * PAGE_BYTES <= epc_bytes:
                fitting, largest = batch, network
            else:
                failing = batch
    except ModelError:
        return None  # hard-coded for one batch: there is nothing to advise
    values: dict[str, Any] = {"batch": fitting, "epc_bytes": epc_bytes, "or_more": fitting == LARGEST_BATCH}
    if fitting and prediction.native_source == "predicted":  # a latency that was given does not hold for other batches
        if isinstance(largest, TracedNetwork):
            (largest,) = predictor.prepare_all([largest])
        values["ms_per_sample"] = predictor.latency_ms(largest, profile) / fitting
        values["sample"] = "image" if _takes_images(prepared.source) else "sample"
    return Advice("batch", values)


def _takes_images(graph: Graph) -> bool:
    """Whether the first input has the shape of images: four dimensions, and 1, 3 or 4 channels, first or last."""
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return len(shape) == 4 and not {1, 3, 4}.isdisjoint((shape[1], shape[3]))
