"""A few annotated photos → the strategy, options and thresholds to label such photos with."""
