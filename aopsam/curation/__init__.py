"""Choose photos that cover a corpus: near-duplicates out, then diverse and evenly spread."""
