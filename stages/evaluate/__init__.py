"""Annotated photos and strategies → metrics (schemas/metrics.py) → tables, charts and failures of strategies."""
