"""Photos, annotated or not → edge maps (schemas/edge_maps.py), which teach the edges of `tiny`'s encoder."""
