"""The early-exit model; nothing is imported here, to keep light programs light."""
