"""Bookkeeping of the move to NCHWc: which tensors exist in the blocked layout, and who still wants the plain one."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.ort.workgraph import Node, WorkGraph

NCHWC = "com.microsoft.nchwc"


@dataclass(slots=True)
class Blocked:
    """A tensor that exists in the blocked layout."""

    node: Node  # makes it
    name: str
    uses: int  # of the original tensor, when the blocked one was made
    remaining: int  # uses that still want the original layout
    channels: int  # without padding


class BlockedLayout:
    """The blocked tensors of a graph that is being moved, and the rewrites that all operators share."""

    def __init__(self, work: WorkGraph, block: int) -> None:
        self.work = work
        self.block = block
        self.blocked: dict[str, Blocked] = {}
        self.reordered: dict[str, str] = {}
        self.weights: dict[tuple[str, str], str] = {}
        self.from_nhwc: dict[str, Node] = {}

    def padded(self, channels: int) -> int:
        """Round a channel count up to whole blocks."""
        return -(-channels // self.block) * self.block

    def declare(self, original: str, node: Node, channels: int) -> None:
        """``node``, which makes ``original`` so far, makes its blocked form from now on."""
        work = self.work
        tensor = work.tensors[original]
        shape = (tensor.shape[0], self.padded(channels), *tensor.shape[2:])
        name = work.new_tensor(original, shape, tensor)
        if work.producer.get(original) is node:
            del work.producer[original]
        node.outputs = [name]
        work.producer[name] = node
        uses = work.uses(original)
        self.blocked[original] = Blocked(node, name, uses, uses, channels)

    def adopt(self, original: str, entry: Blocked) -> None:
        """``original`` is from now on the blocked tensor of ``entry``, into whose node its maker was fused."""
        uses = self.work.uses(original)
        self.blocked[original] = Blocked(entry.node, entry.name, uses, uses, entry.channels)

    def blocked_input(self, node: Node, source: str) -> None:
        """Let input 0 of ``node`` be the blocked form of ``source``, reordered if there is none yet."""
        entry = self.blocked.get(source)
        if entry is not None:
            entry.remaining -= 1
            self.work.set_input(node, 0, entry.name)
            return
        name = self.reordered.get(source)
        if name is None:
            work = self.work
            tensor = work.tensors[source]
            shape = (tensor.shape[0], self.padded(tensor.shape[1]), *tensor.shape[2:])
            name = work.new_tensor(source, shape, tensor)
            self.reordered[source] = name
            transpose = self.from_nhwc.get(source)
            origin = source if transpose is None else transpose.inputs[0]
            attributes = {"channels_last": 0 if transpose is None else 1}
            work.add("ReorderInput", [origin], [name], attributes, NCHWC)
        self.work.set_input(node, 0, name)

    def weight(self, name: str, use: str, shape: tuple[int, ...]) -> str:
        """The reordered or padded copy of a weight; shared by all nodes that need it in the same form."""
        key = (name, use)
        found = self.weights.get(key)
        if found is None:
            found = self.weights[key] = self.work.new_tensor(name, shape, self.work.tensors[name])
        return found

    def finish(self) -> None:
        """Reorder back what is still wanted in the original layout."""
        work = self.work
        for original, entry in self.blocked.items():
            if entry.remaining > 0:
                attributes = {"channels": entry.channels, "channels_last": 0}
                work.add("ReorderOutput", [entry.name], [original], attributes, NCHWC)
        for result, node in self.from_nhwc.items():
            if not node.dead and not work.uses(result):
                work.producer[self.reordered[result]].sources |= node.sources
                work.remove(node)
