"""What watches a run: scores, guards, checkpoints, records, progress. None of it knows the network."""

from mpanet_pl.run.callbacks.checkpoints import AtomicCheckpoints, Checkpoints
from mpanet_pl.run.callbacks.guards import FiniteGuard
from mpanet_pl.run.callbacks.live import LiveProgress
from mpanet_pl.run.callbacks.records import RunLogger, Timing
from mpanet_pl.run.callbacks.scoring import RetrievalScoring

__all__ = [
    "AtomicCheckpoints",
    "Checkpoints",
    "FiniteGuard",
    "LiveProgress",
    "RetrievalScoring",
    "RunLogger",
    "Timing",
]
