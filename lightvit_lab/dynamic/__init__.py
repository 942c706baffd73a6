"""Dynamic networks: models that do less where less is enough."""
