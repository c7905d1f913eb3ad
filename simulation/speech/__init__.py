"""The synthetic sample, and the programs that make synthetic speech."""
