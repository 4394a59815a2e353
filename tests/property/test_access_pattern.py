"""How an operator goes through its tensors, against the same written as loops."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from sectum.ort.access_pattern import Span, _plain_convolution

COUNTS = st.integers(1, 5)
SPANS = st.builds(Span, st.integers(0, 1 << 40), st.integers(0, 1 << 20))
EPC_BYTES = st.integers(1, 1 << 24)


def listed(
    passes: tuple[int, int, int], maps: tuple[int, int], source: Span, weight: list[Span], scratch: list[Span],
    target: Span,
) -> Iterator[Span]:  # fmt: skip
    """Image by image, group by group, segment by segment: inputs, weights, scratch memory, outputs."""
    images, groups, segments = passes
    channels, filters = maps
    for image in range(images):
        for group in range(groups):
            read, made = (span.part(image, images).part(group, groups) for span in (source, target))
            for segment in range(segments):
                yield from (read.part(channel, channels).part(segment, segments) for channel in range(channels))
                yield from (span.part(group, groups) for span in weight)
                yield from scratch
                yield from (made.part(number, filters).part(segment, segments) for number in range(filters))


@given(
    st.tuples(COUNTS, COUNTS, COUNTS),
    st.tuples(COUNTS, COUNTS),
    SPANS,
    st.lists(SPANS, max_size=1),
    st.lists(SPANS, max_size=2),
    SPANS,
    EPC_BYTES,
)
def test_the_pieces_of_a_convolution_are_those_of_its_loops(
    passes: tuple[int, int, int],
    maps: tuple[int, int],
    source: Span,
    weight: list[Span],
    scratch: list[Span],
    target: Span,
    epc_bytes: int,
) -> None:
    """The pieces that are computed together are those of the kernel's loops, in their order."""
    images, groups, segments = passes
    channels, filters = maps
    found = _plain_convolution(
        images, groups, channels, filters, segments, source, weight, scratch, target, epc_bytes
    ).tolist()
    map_bytes = (source.n_bytes + target.n_bytes) // images
    if (map_bytes + sum(span.n_bytes for span in weight)) // groups <= epc_bytes // 2:
        segments = 1
    if map_bytes <= epc_bytes // 8:
        groups = 1
    if segments == 1:
        channels = filters = 1
    expected = listed((images, groups, segments), (channels, filters), source, weight, scratch, target)
    assert found == [list(span) for span in expected]
