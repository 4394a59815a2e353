"""What another policy of eviction would do to the networks of the study: simulated, page by page."""

from __future__ import annotations

from sectum.lab.study.points import Network
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import Policy, steady_state, working_set_pages


def trace(network: Network) -> PageTrace:
    """Pages that an inference touches, in order."""
    return page_trace(network.graph, threads=network.threads)


def loaded_share(pages: PageTrace, occupation: float, policy: Policy) -> float:
    """Pages loaded in a steady-state inference over pages of the working set.

    Args:
        pages: that are touched.
        occupation: working set over EPC.
        policy: of eviction.
    """
    all_pages = working_set_pages(pages.touches)
    epc_pages = max(1, int(all_pages / occupation))
    return steady_state(pages.touches_under(epc_pages), epc_pages, policy).loads / all_pages
