"""What a run was asked for: configurations, strategies as text, command lines, and bad input turned into one line."""
