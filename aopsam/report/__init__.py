"""Masks drawn over photos, charts, and the HTML pages of labelling runs and of evaluations."""
