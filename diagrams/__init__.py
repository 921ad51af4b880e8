"""Diagrams as PlantUML sources and the images drawn from them."""
