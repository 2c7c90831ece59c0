"""Evaluation: embeddings meet a protocol, which yields rankings, scores and a table."""

from mpanet_pl.evaluation.joint_protocol import JointProtocol as JointProtocol
from mpanet_pl.evaluation.metric import ReIDMetric as ReIDMetric
from mpanet_pl.evaluation.metric import ReIDScore as ReIDScore
from mpanet_pl.evaluation.protocols import FolderProtocol as FolderProtocol
from mpanet_pl.evaluation.protocols import LLCMProtocol as LLCMProtocol
from mpanet_pl.evaluation.protocols import RegDBProtocol as RegDBProtocol
from mpanet_pl.evaluation.protocols import SYSUProtocol as SYSUProtocol
from mpanet_pl.evaluation.protocols import protocol_of as protocol_of
from mpanet_pl.evaluation.protocols import rows_of as rows_of
from mpanet_pl.evaluation.rerank import Affinity as Affinity
from mpanet_pl.evaluation.rerank import KReciprocal as KReciprocal
from mpanet_pl.evaluation.rerank import MutualNeighbours as MutualNeighbours
from mpanet_pl.evaluation.scoring import Scores as Scores
from mpanet_pl.evaluation.scoring import check_matches as check_matches
from mpanet_pl.evaluation.scoring import evaluate as evaluate
from mpanet_pl.evaluation.tables import Results as Results
from mpanet_pl.evaluation.tracklet_protocols import BUPTCampusProtocol as BUPTCampusProtocol
from mpanet_pl.evaluation.tracklet_protocols import MPReIDProtocol as MPReIDProtocol
from mpanet_pl.evaluation.tracklet_protocols import ORBenchProtocol as ORBenchProtocol
from mpanet_pl.evaluation.tracklet_protocols import TrackListProtocol as TrackListProtocol
from mpanet_pl.evaluation.tracklet_protocols import VCMProtocol as VCMProtocol
from mpanet_pl.interfaces import RetrievalProtocol as RetrievalProtocol
from mpanet_pl.interfaces import Search as Search
