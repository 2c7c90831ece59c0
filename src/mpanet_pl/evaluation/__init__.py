"""Evaluation: embeddings meet a protocol, which yields rankings, scores and a table."""

from mpanet_pl.evaluation.joint_protocol import JointProtocol
from mpanet_pl.evaluation.metric import ReIDMetric, ReIDScore
from mpanet_pl.evaluation.protocols import (
    FolderProtocol,
    LLCMProtocol,
    RegDBProtocol,
    SYSUProtocol,
    protocol_of,
    rows_of,
)
from mpanet_pl.evaluation.rerank import Affinity, KReciprocal, MutualNeighbours
from mpanet_pl.evaluation.scoring import Scores, check_matches, evaluate
from mpanet_pl.evaluation.tables import Results
from mpanet_pl.evaluation.tracklet_protocols import (
    BUPTCampusProtocol,
    MPReIDProtocol,
    ORBenchProtocol,
    TrackListProtocol,
    VCMProtocol,
)
from mpanet_pl.interfaces import RetrievalProtocol, Search

__all__ = [
    "Affinity",
    "BUPTCampusProtocol",
    "FolderProtocol",
    "JointProtocol",
    "KReciprocal",
    "LLCMProtocol",
    "MPReIDProtocol",
    "MutualNeighbours",
    "ORBenchProtocol",
    "ReIDMetric",
    "ReIDScore",
    "RegDBProtocol",
    "Results",
    "RetrievalProtocol",
    "SYSUProtocol",
    "Scores",
    "Search",
    "TrackListProtocol",
    "VCMProtocol",
    "check_matches",
    "evaluate",
    "protocol_of",
    "rows_of",
]
