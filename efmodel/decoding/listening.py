"""Speech as it comes."""
