"""`python -m lakehouse_assets.cli` is `lakehouse`."""

import sys

from lakehouse_assets.cli import main

if __name__ == "__main__":
    sys.exit(main())
