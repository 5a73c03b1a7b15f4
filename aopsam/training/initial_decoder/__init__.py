"""Initial weights with which `tiny`'s mask decoder answers before it has learnt anything."""
