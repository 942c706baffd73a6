"""Compression after training: models that are really smaller and, on some machines, faster."""
