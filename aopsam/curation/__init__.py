"""Choose photos that cover a corpus: remove near-duplicates, then take diverse photos evenly from all strata."""
