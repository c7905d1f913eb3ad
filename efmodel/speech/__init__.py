"""From recordings to batches. Nothing is imported here: a query must not load torch."""
