"""Features: embeddings on disk, anyone's, and what became of queries; one reader a kind of file."""

from mpanet_pl.features.forms import holds_features, permutations_beside, read_features, says_who_is_tested

__all__ = ["holds_features", "permutations_beside", "read_features", "says_who_is_tested"]
