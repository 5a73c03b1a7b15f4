"""Image encoders, one file each: photo tensor (B, 3, S, S) in, embedding (B, 256, S/16, S/16) out."""
