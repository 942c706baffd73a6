"""Stored results (`results`), the studies that make them (on `kit`), and what trains the zoo."""
