"""Jobs, and which days to run them for."""
