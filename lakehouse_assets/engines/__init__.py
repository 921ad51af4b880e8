"""What computes the tables' frames and stages their rows; imports no assets and nothing of Dagster."""
