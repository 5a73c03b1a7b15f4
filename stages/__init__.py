"""Stages of the dataflow: plain callables over rows and Arrow tables, and the one file that talks to the scheduler."""

import gc

# Every process of a run imports this before torch. What is imported makes some 400,000 objects that stay; looking
# through them again and again, every 700 new ones, would take a sixth of the process's start.
gc.set_threshold(10_000, *gc.get_threshold()[1:])
