"""Mask head: kept masks are drawn once more, each in its own box, from the photo's embedding."""
