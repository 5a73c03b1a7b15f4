"""Annotated photos → rows of prompt maps (schemas/prompt_maps.py), written, planned, read back and drawn."""
