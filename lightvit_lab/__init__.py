"""LightViT Lab: lightweight Vision Transformers, built, measured and explained one method a page.

Importing the package is cheap and imports no torch; each room is imported where it is used,
`from lightvit_lab import data, models, training`.
"""

__version__ = "0.2.0"
