"""Gold: metrics."""
