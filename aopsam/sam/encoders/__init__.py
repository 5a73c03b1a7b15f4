"""Image encoders, one file each: photo tensor (B, 3, S, S) in, embedding (B, 256, h, w) and any finer features out."""
