"""A few annotated photos → the strategy, options and thresholds that suit them."""
