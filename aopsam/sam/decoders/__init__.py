"""Prompt encoders and mask decoders that are not segment-anything's own, one file a family."""
