"""Sessions over several racks: one authenticated session with each, and the client spreads the work over them."""

from __future__ import annotations

from sectum.hetee.client.pool.board import RackResult
from sectum.hetee.client.pool.connecting import connect_pool
from sectum.hetee.client.pool.lane import RackReport
from sectum.hetee.client.pool.session import PoolSession
from sectum.hetee.client.pool.training import PoolTraining
from sectum.hetee.client.pool.training_racks import Move

__all__ = ["Move", "PoolSession", "PoolTraining", "RackReport", "RackResult", "connect_pool"]
