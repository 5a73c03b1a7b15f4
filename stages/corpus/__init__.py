"""Photos named by a folder, glob, tar or Parquet file → rows of the listing (schemas/listing.py) → encoded bytes."""
