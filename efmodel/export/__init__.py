"""Models outside of torch."""
