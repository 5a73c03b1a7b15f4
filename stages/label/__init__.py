"""Rows of the listing → rows of the labels table (schemas/labels.py), from bytes to RLE in one actor."""
