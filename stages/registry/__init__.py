"""Versions of a predictor in a folder or bucket, and which of them is in use."""
