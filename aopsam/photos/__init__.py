"""Photos and annotations: from bytes to arrays. A leaf: imports nothing of aopsam outside this folder."""
