"""What another replacement policy would do to the networks of the study: simulated, page by page."""

from __future__ import annotations

from sectum.lab.study.points import MeasuredCase
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import ReplacementPolicy, steady_state, working_set_pages


def trace(case: MeasuredCase) -> PageTrace:
    """Pages that an inference touches, in order."""
    return page_trace(case.graph, threads=case.threads)


def loaded_share(pages: PageTrace, working_set_over_epc: float, policy: ReplacementPolicy) -> float:
    """Pages loaded in a steady-state inference over pages of the working set."""
    all_pages = working_set_pages(pages.touches)
    epc_pages = max(1, int(all_pages / working_set_over_epc))
    return steady_state(pages.touches_under(epc_pages), epc_pages, policy).loads / all_pages
