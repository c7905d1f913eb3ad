"""From logits to a transcript."""
