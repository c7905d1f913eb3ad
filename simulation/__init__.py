"""Many clients on one machine: the sample, the simulate command, benchmarks."""
