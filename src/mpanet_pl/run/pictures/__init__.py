"""Pictures of a run, of a ranking, of pattern maps and of embeddings: each function writes one PNG."""

from mpanet_pl.run.pictures.curves import draw_cmc, draw_curves, draw_distributions, draw_roc, draw_trades
from mpanet_pl.run.pictures.embeddings import draw_embeddings, draw_similarities
from mpanet_pl.run.pictures.forest import draw_differences
from mpanet_pl.run.pictures.pattern_maps import draw_patterns
from mpanet_pl.run.pictures.rank_list import best_ranked, draw_rank_list

__all__ = [
    "best_ranked",
    "draw_cmc",
    "draw_curves",
    "draw_differences",
    "draw_distributions",
    "draw_embeddings",
    "draw_patterns",
    "draw_rank_list",
    "draw_roc",
    "draw_similarities",
    "draw_trades",
]
