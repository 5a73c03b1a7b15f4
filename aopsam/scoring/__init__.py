"""Score masks: a small network that knows from a mask's shape and logits how good it is, whatever made it."""
