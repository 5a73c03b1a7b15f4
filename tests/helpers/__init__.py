"""What several tests share: made-up photos, shards, labels and weights."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Folder of the checkout."""
