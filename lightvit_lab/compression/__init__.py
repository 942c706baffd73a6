"""Compression after training: models that are really smaller and, where the pages say so, really
faster.
"""
