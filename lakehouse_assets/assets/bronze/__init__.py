"""Bronze: what was delivered, as delivered."""
