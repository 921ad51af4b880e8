"""What the compose stack starts and needs."""
