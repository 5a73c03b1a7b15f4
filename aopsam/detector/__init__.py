"""Detect class-agnostic boxes from SAM's embedding: network, assignment of training targets, inference, weights."""
