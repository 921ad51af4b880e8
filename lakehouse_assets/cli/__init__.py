"""The `lakehouse` command. Each command imports what it needs when it runs, so that the light ones start at once."""

from lakehouse_assets.cli.command import main
from lakehouse_assets.cli.output import say

__all__ = ["main", "say"]
