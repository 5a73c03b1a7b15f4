"""Annotated photos → which of them to train on (schemas/curation.py)."""
