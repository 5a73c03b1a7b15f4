"""Turn corrections from people's tools into annotated shards with lineage, and report what they changed."""
