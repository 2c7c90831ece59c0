"""Pictures of a run, of a ranking, of pattern maps and of embeddings: each function writes one PNG."""
