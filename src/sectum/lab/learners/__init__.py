"""What Sectum is compared with: each is a `sectum.lab.learners.learner.LatencyLearner`.

All learn from the same networks and work in units of the machine's GEMM reference kernel, so that machines of
different speed can stand in one dataset.
"""

from __future__ import annotations
