"""A retraining of the predictor: new photos of a corpus → labels → prompt maps → weights → a version, behind a gate."""
