"""Segment Anything models: registry, encoders, checkpoints and the decoding of prompts into masks."""
