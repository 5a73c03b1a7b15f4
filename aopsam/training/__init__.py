"""Training of every model on any map-style dataset, without Ray."""
