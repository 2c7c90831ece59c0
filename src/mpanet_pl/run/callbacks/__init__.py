"""What watches a run: guards, checkpoints, records, progress. None of it knows the network."""

from mpanet_pl.run.callbacks.by_dataset import LogByDataset
from mpanet_pl.run.callbacks.checkpoints import AtomicCheckpoints, Checkpoints
from mpanet_pl.run.callbacks.guards import FiniteGuard
from mpanet_pl.run.callbacks.live import LiveProgress, ScoredAtTheEnd
from mpanet_pl.run.callbacks.records import Reopened, RunLogger, Timing
from mpanet_pl.run.callbacks.seeding import SeededEpochs

__all__ = [
    "AtomicCheckpoints",
    "Checkpoints",
    "FiniteGuard",
    "LiveProgress",
    "LogByDataset",
    "Reopened",
    "RunLogger",
    "ScoredAtTheEnd",
    "SeededEpochs",
    "Timing",
]
