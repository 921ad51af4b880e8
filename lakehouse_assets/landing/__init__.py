"""Where files arrive: landed, divided by day, read."""
