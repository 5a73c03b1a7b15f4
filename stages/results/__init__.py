"""What a labelling run left behind: its tables read, verified, summed up, shown and exported."""
