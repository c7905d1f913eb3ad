"""The early-exit model. Nothing is imported here: a query must not load torch."""
