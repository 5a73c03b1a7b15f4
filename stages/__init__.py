"""Stages of the dataflow: plain callables over rows and Arrow tables, and the one file that talks to the scheduler."""
