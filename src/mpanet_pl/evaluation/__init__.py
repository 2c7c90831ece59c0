"""Evaluation: embeddings meet a protocol, which yields rankings, scores and a table."""

from mpanet_pl.evaluation.protocols import FolderProtocol, LLCMProtocol, RegDBProtocol, SYSUProtocol
from mpanet_pl.evaluation.scoring import Scores, evaluate

__all__ = ["FolderProtocol", "LLCMProtocol", "RegDBProtocol", "SYSUProtocol", "Scores", "evaluate"]
