"""Class-agnostic boxes from SAM's own embedding: the network, what it learns, its weights."""
