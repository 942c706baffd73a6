"""Stored results (`results`) and the runs that made them (`studies`)."""
