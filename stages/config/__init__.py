"""Requests of the user to a run: configurations, strategies as text, command lines; bad input is one line."""
