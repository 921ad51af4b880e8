"""Names that stand in the dagster.yaml of lakes made by earlier versions."""
