"""The landing zone: files arrive, are split by day, and are read."""
