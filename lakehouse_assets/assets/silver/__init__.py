"""Silver: cleaned and deduplicated, and what became of every row."""
