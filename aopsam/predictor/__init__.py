"""The Prompt Predictor of AoP-SAM: its network, its targets, its weights, and a photo's confidence map."""
