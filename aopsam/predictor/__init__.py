"""Prompt Predictor of AoP-SAM: network, training targets, weights, and the confidence map of a photo."""
