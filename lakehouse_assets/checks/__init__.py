"""Asset checks: what the contracts say, day by day, where people look."""
