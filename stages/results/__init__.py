"""Output of a labelling run → its tables read, verified, summed up, shown and exported."""
