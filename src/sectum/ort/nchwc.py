"""The blocked layout NCHWc: which operators ONNX Runtime moves into it, and what tensors it pads for that.

In NCHWc the channels are stored in blocks (8 floats with AVX2, 16 with AVX-512), so channel counts are padded to
whole blocks, in activations and in weights. Learned from onnxruntime/core/optimizer/nchwc_transformer.cc; the
order in which nodes are made is kept, since it decides the order of execution.
"""

from __future__ import annotations

from sectum.graph.ir import AttributeValue, Tensor
from sectum.ort.fusions import MICROSOFT
from sectum.ort.nchwc_state import NCHWC, Blocked, BlockedLayout
from sectum.ort.workgraph import Node, WorkGraph, ints, sources_of

# Reordering to the blocked layout is written for channel counts that are multiples of four.
_CHANNEL_ALIGNMENT = 4
_SPATIAL_POOLS = frozenset({"MaxPool", "AveragePool"})
_GLOBAL_POOLS = frozenset({"GlobalMaxPool", "GlobalAveragePool"})
_FUSED_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "HardSigmoid"})
_PASSING_ACTIVATIONS = frozenset({"Gelu", "QuickGelu"})
_TO_NHWC, _FROM_NHWC = (0, 2, 3, 1), (0, 3, 1, 2)
_HARD_SWISH_ALPHA = 1 / 6


class _Transformer(BlockedLayout):
    """Visits the operators in the order of execution."""

    def run(self) -> None:
        for node in self.work.execution_order():
            kind = node.type
            if kind == "Conv" or kind == "FusedConv":
                self.conv(node)
            elif node.domain not in ("", MICROSOFT):
                continue
            elif kind in _SPATIAL_POOLS:
                self.pool(node)
            elif kind == "Transpose":
                self.transpose(node)
            elif not node.inputs or node.inputs[0] not in self.blocked:
                if kind == "Mul":
                    self.multiply(node)
                elif kind in _GLOBAL_POOLS and not any(map(self.work.producer.get, node.inputs)):
                    self.pool(node)  # of an input of the graph
            elif kind == "Add" or kind == "Sum":
                self.binary(node, adds=True)
            elif kind == "Mul":
                self.multiply(node)
            elif kind == "Concat":
                self.concat(node)
            elif kind in _FUSED_ACTIVATIONS or kind in _PASSING_ACTIVATIONS:
                self.activation(node)
            elif kind == "BatchNormalization":
                self.batch_normalization(node)
            elif kind in _GLOBAL_POOLS:
                self.pool(node)
            elif kind == "Resize" or kind == "Upsample":
                self.resize(node)
        self.finish()

    # Operators.

    def conv(self, node: Node) -> None:
        work, block = self.work, self.block
        weight = work.weight(node.inputs[1])
        bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
        bias = work.weight(bias_name)
        if weight is None or weight.dtype != "float32" or len(weight.shape) != 4 or len(node.inputs) > 3:
            return
        out_channels, in_channels, *kernel = weight.shape
        if bias_name and (bias is None or bias.shape != (out_channels,)):
            return
        groups = node.attributes.get("group", 1)
        assert isinstance(groups, int)
        out_padded = self.padded(out_channels)
        in_padded, use = in_channels, "OIHWBiBo"
        reorder = True
        if groups > 1:
            if out_channels % _CHANNEL_ALIGNMENT:
                return
            if in_channels == 1 and out_channels == groups:
                use, groups = "OIHWBo", out_padded
            elif in_channels % block or out_channels % groups or (out_channels // groups) % block:
                return
        elif in_channels < block:
            use, reorder = "OIHWBo", False
        else:
            if in_channels % _CHANNEL_ALIGNMENT:
                return
            in_padded = self.padded(in_channels)
        source, result = node.inputs[0], node.outputs[0]
        inputs = [source, self.weight(weight.name, use, (out_padded, in_padded, *kernel))]
        if bias is not None:
            padded_bias = bias_name
            if out_padded != out_channels:
                padded_bias = self.weight(bias_name, "bias", (out_padded,))
            inputs.append(padded_bias)
        attributes = {**node.attributes, "group": groups}
        made = work.replace((node,), "Conv", inputs, [result], attributes, NCHWC, f"{result}_nchwc")
        if reorder:
            self.blocked_input(made, source)
        self.declare(result, made, out_channels)

    def pool(self, node: Node) -> None:
        work = self.work
        source, result = node.inputs[0], node.outputs[0]
        tensor = work.tensors[source]
        if len(node.outputs) > 1 or tensor.dtype != "float32" or len(tensor.shape) != 4:
            return
        channels = tensor.shape[1]
        if channels % self.block:
            return
        made = work.replace((node,), node.type, [source], [result], node.attributes, NCHWC, f"{result}_nchwc")
        self.blocked_input(made, source)
        self.declare(result, made, channels)

    def binary(self, node: Node, *, adds: bool) -> None:
        work = self.work
        entries = [self.blocked[item] for item in node.inputs if item in self.blocked]
        if len(entries) < len(node.inputs):
            return
        channels = entries[0].channels
        if any(entry.channels != channels for entry in entries):
            return
        shape = work.tensors[node.inputs[0]].shape
        result = node.outputs[0]
        if all(work.tensors[item].shape == shape for item in node.inputs):
            for slot, entry in enumerate(entries):
                work.set_input(node, slot, entry.name)
                entry.remaining -= 1
            if adds and len(entries) == 2:
                for slot, entry in enumerate(entries):
                    conv = entry.node
                    if self.fusable(entry) and len(conv.inputs) < 4:
                        other = entries[1 - slot].name
                        conv.sources |= node.sources
                        work.remove(node)
                        work.set_input(conv, 3, other)
                        self.adopt(result, entry)
                        return
            self.declare(result, node, channels)
        elif adds:
            self.add_broadcast(node, entries, channels)

    def add_broadcast(self, node: Node, entries: list[Blocked], channels: int) -> None:
        """Blocked tensors of different spatial size are added in an explicit five-dimensional form."""
        work, block = self.work, self.block
        blocks = self.padded(channels) // block
        for slot, entry in enumerate(entries):
            tensor = work.tensors[entry.name]
            split = (tensor.shape[0], blocks, *tensor.shape[2:], block)
            name = work.new_tensor(entry.name, split, tensor)
            work.add("Reshape", [entry.name, work.new_shape((0, blocks, 0, 0, block))], [name])
            entry.remaining -= 1
            work.set_input(node, slot, name)
        result = node.outputs[0]
        tensor = work.tensors[result]
        added = work.new_tensor(result, (tensor.shape[0], blocks, *tensor.shape[2:], block), tensor)
        merged = work.add("Reshape", [added, work.new_shape((0, blocks * block, 0, 0))], [result])
        work.producer.pop(result, None)
        node.outputs = [added]
        work.producer[added] = node
        self.declare(result, merged, channels)

    def multiply(self, node: Node) -> None:
        if len(node.inputs) != 2:
            return
        left, right = node.inputs
        if left in self.blocked and right in self.blocked:
            if not self.hard_swish(node):
                self.binary(node, adds=False)
            return
        source, factor_name = (left, right) if left in self.blocked else (right, left)
        entry, factor = self.blocked.get(source), self.work.weight(factor_name)
        if entry is None or factor is None:
            return
        channels = entry.channels
        if factor.shape not in ((channels, 1, 1), (1, channels, 1, 1)) or factor.dtype != "float32":
            return
        self.depthwise(node, entry, [factor], bias=False)

    def hard_swish(self, node: Node) -> bool:
        """``x * HardSigmoid(x)`` of a convolution's output is an activation of that convolution."""
        work = self.work
        left, right = node.inputs
        for source, gate in ((left, right), (right, left)):
            maker, entry = self.blocked[gate].node, self.blocked[source]
            if (
                maker.type == "HardSigmoid"
                and maker.inputs == [entry.name]
                and self.blocked[gate].uses == 1
                and entry.uses == 2
                and entry.node.type == "Conv"
                and entry.node.domain == NCHWC
                and "activation" not in entry.node.attributes
                and node.outputs[0] not in work.output_set
                and _is_hard_swish(maker)
            ):
                entry.remaining -= 1
                self.blocked[gate].remaining -= 1
                result = node.outputs[0]
                entry.node.sources |= sources_of(node, maker)
                work.remove(node)
                work.remove(maker)
                entry.node.attributes = {**entry.node.attributes, "activation": "HardSwish"}
                self.adopt(result, entry)
                return True
        return False

    def depthwise(self, node: Node, entry: Blocked, like: list[Tensor], *, bias: bool) -> None:
        """A per-channel affine map is a depthwise 1x1 convolution."""
        work = self.work
        padded = self.padded(entry.channels)
        result = node.outputs[0]
        inputs = [entry.name, work.new_tensor(f"{result}_scale", (padded, 1, 1, 1), like[0])]
        if bias:
            inputs.append(work.new_tensor(f"{result}_shift", (padded,), like[0]))
        suffix = "bn" if bias else "mul"
        made = work.replace((node,), "Conv", inputs, [result], {"group": padded}, NCHWC, f"{result}_{suffix}_nchwc")
        entry.remaining -= 1
        self.declare(result, made, entry.channels)

    def batch_normalization(self, node: Node) -> None:
        entry = self.blocked[node.inputs[0]]
        if len(node.outputs) > 1 or node.attributes.get("spatial", 1) != 1:
            return
        parameters = [self.work.weight(item) for item in node.inputs[1:5]]
        present = [p for p in parameters if p is not None and p.shape == (entry.channels,) and p.dtype == "float32"]
        if len(present) == 4:
            self.depthwise(node, entry, present, bias=True)

    def concat(self, node: Node) -> None:
        if node.attributes.get("axis") != 1:
            return
        entries = [self.blocked[item] for item in node.inputs if item in self.blocked]
        if len(entries) < len(node.inputs) or any(entry.channels % self.block for entry in entries):
            return
        for slot, entry in enumerate(entries):
            self.work.set_input(node, slot, entry.name)
            entry.remaining -= 1
        self.declare(node.outputs[0], node, sum(entry.channels for entry in entries))

    def fusable(self, entry: Blocked) -> bool:
        node = entry.node
        return node.type == "Conv" and node.domain == NCHWC and entry.uses == 1 and "activation" not in node.attributes

    def activation(self, node: Node) -> None:
        work = self.work
        entry = self.blocked[node.inputs[0]]
        result = node.outputs[0]
        entry.remaining -= 1
        work.set_input(node, 0, entry.name)
        if node.type in _FUSED_ACTIVATIONS and self.fusable(entry):
            attributes: dict[str, AttributeValue] = {**entry.node.attributes, "activation": node.type}
            entry.node.sources |= node.sources
            work.remove(node)
            entry.node.attributes = attributes
            self.adopt(result, entry)
        else:
            self.declare(result, node, entry.channels)

    def transpose(self, node: Node) -> None:
        perm = ints(node.attributes.get("perm"))
        source, result = node.inputs[0], node.outputs[0]
        entry = self.blocked.get(source)
        if entry is not None and perm == _TO_NHWC:
            attributes = {"channels": entry.channels, "channels_last": 1}
            self.work.replace((node,), "ReorderOutput", [entry.name], [result], attributes, NCHWC)
            entry.remaining -= 1
        elif entry is None and perm == _FROM_NHWC and self.work.tensors[result].shape[1] % _CHANNEL_ALIGNMENT == 0:
            self.from_nhwc[result] = node

    def resize(self, node: Node) -> None:
        work = self.work
        source, result = node.inputs[0], node.outputs[0]
        entry = self.blocked[source]
        before, after = work.tensors[source].shape, work.tensors[result].shape
        scales = tuple(b // a for a, b in zip(before, after, strict=True))
        attributes = node.attributes
        mode = attributes.get("mode", "nearest")
        transform = attributes.get("coordinate_transformation_mode", "half_pixel")
        if node.type == "Resize" and work.opset >= 11:
            if any(item and work.weight(item) is None for item in node.inputs[2:]):
                return  # neither scales nor sizes may depend on data
            if mode == "nearest" and (transform != "asymmetric" or attributes.get("nearest_mode") != "floor"):
                return
            if mode == "linear" and transform not in ("asymmetric", "align_corners", "half_pixel"):
                return
        if mode not in ("nearest", "linear") or scales[:2] != (1, 1) or min(scales) < 1:
            return
        if any(a * s != b for a, s, b in zip(before, scales, after, strict=True)):
            return
        made = work.replace((node,), "Upsample", [entry.name], [result], {"scales": scales, "mode": mode}, NCHWC)
        entry.remaining -= 1
        self.declare(result, made, entry.channels)


def _is_hard_swish(node: Node) -> bool:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    assert isinstance(alpha, float)
    return abs(alpha - _HARD_SWISH_ALPHA) < 1e-6 and beta == 0.5


def to_blocked_layout(work: WorkGraph, block: int) -> None:
    """Move what can be moved into NCHWc.

    Args:
        work: a graph after levels 1 and 2.
        block: floats in a block: 8 with AVX2, 16 with AVX-512.
    """
    _Transformer(work, block).run()
