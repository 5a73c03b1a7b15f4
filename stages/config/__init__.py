"""What the user asks of a run: configurations, strategies as text, command lines; bad input is one line."""
