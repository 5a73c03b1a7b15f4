"""Places and files: URIs without their secrets, files that appear whole or not at all. Depends on no table."""
