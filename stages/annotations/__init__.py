"""Annotated photos from any source → samples (photo, masks); which of them are held out of training."""
