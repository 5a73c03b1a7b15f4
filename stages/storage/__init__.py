"""Places and files: URIs without their secrets, files that appear whole or not at all. Knows no table."""
