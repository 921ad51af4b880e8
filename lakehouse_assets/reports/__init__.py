"""What people look at: dashboard, charts, profiles."""
