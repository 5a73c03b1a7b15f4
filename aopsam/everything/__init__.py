"""Everything mode: one photo → the masks of its objects, as SAM's own generator returns them."""
