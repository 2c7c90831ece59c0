"""What watches a run: guards, checkpoints, records, progress. None of it knows the network."""

from mpanet_pl.run.callbacks.by_dataset import LogByDataset as LogByDataset
from mpanet_pl.run.callbacks.checkpoints import AtomicCheckpoints as AtomicCheckpoints
from mpanet_pl.run.callbacks.checkpoints import Checkpoints as Checkpoints
from mpanet_pl.run.callbacks.guards import FiniteGuard as FiniteGuard
from mpanet_pl.run.callbacks.live import LiveProgress as LiveProgress
from mpanet_pl.run.callbacks.live import ScoredAtTheEnd as ScoredAtTheEnd
from mpanet_pl.run.callbacks.records import Reopened as Reopened
from mpanet_pl.run.callbacks.records import RunLogger as RunLogger
from mpanet_pl.run.callbacks.records import Timing as Timing
from mpanet_pl.run.callbacks.seeding import SeededEpochs as SeededEpochs
