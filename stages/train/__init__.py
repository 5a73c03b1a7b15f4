"""Trainings of `aopsam.training` built from tables and shards, and run on Ray Train."""
