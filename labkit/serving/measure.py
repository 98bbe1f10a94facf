"""Records the figures that notebook 07 shows where there is no vLLM."""
