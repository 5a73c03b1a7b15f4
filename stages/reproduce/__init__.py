"""The papers' tables: their strategies and figures → evaluations of data given by role → ours beside theirs."""
