"""Training loops that run without Ray on any map-style dataset."""
