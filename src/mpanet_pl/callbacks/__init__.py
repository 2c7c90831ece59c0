"""What watches a run: scores, guards, checkpoints, records, progress. None of it knows the network."""

from mpanet_pl.callbacks.checkpoints import AtomicCheckpoints, Checkpoints
from mpanet_pl.callbacks.guards import FiniteGuard
from mpanet_pl.callbacks.live import LiveProgress
from mpanet_pl.callbacks.records import RunLogger, Timing
from mpanet_pl.callbacks.scoring import NuanceScoring, RetrievalScoring

__all__ = [
    "AtomicCheckpoints",
    "Checkpoints",
    "FiniteGuard",
    "LiveProgress",
    "NuanceScoring",
    "RetrievalScoring",
    "RunLogger",
    "Timing",
]
