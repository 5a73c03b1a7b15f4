"""Pure functions on masks: stability, boxes, suppression, small regions, run-length encoding."""
