"""Stages of the dataflow: plain callables over rows and Arrow tables, and the one file that talks to the scheduler."""

import gc

# Every process imports this first. Torch, Ray and Numba make some 400,000 objects that stay; looking through them again
# and again, every 700 new ones, would take each process a sixth of its start.
gc.set_threshold(10_000, *gc.get_threshold()[1:])
