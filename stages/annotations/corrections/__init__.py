"""What people corrected in their tools → annotated shards with lineage, and what they changed."""
