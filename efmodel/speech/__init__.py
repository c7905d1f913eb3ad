"""From recordings and texts to batches; nothing is imported here, to keep light programs light."""
