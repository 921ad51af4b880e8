"""Assets by layer: each wires a pure transform to its declared table."""
