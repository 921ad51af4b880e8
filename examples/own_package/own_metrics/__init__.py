"""Tables and assets of a team of its own, on top of lakehouse_assets."""
