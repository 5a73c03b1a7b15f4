"""Pictures of masks, and the page that a labelling run leaves behind."""
