"""Makes the stack's `.env`: random keys, and the digests of images that are not pinned in docker-compose.yaml itself.

python -m lakehouse_assets.stack.environment .env              # make the file, mode 600, unless it is there
python -m lakehouse_assets.stack.environment .env --digests    # ask Docker which images the tags are, and add them
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
from pathlib import Path

SECRETS = (
    "S3_ROOT_PASSWORD",
    "LAKEHOUSE_S3_SECRET",
    "POSTGRES_SECRET",
    "POLARIS_DB_SECRET",
    "POLARIS_SECRET",
    "DAGSTER_DB_SECRET",
    "SPARK_SECRET",
    "JUPYTER_SECRET",
)
NAMES = ("S3_ROOT_USER", "LAKEHOUSE_S3_USER")
IMAGES = {
    "PYTHON_DIGEST": "docker.io/library/python:3.11-slim-bookworm",
    "POSTGRES_DIGEST": "docker.io/library/postgres:17-bookworm",
    "POLARIS_DIGEST": "docker.io/apache/polaris:1.4.1",
    "POLARIS_ADMIN_DIGEST": "docker.io/apache/polaris-admin-tool:1.4.1",
}


def fresh() -> str:
    """The text of a new file: names that tell what they are for, and keys of 192 bits each."""
    lines = ["# Made by `make stack-env`: keys of this stack. Keep it to yourself; it is in .gitignore."]
    lines += [f"{name}={name.split('_')[0].lower()}-{secrets.token_hex(4)}" for name in NAMES]
    lines += [f"{name}={secrets.token_hex(24)}" for name in SECRETS]
    return "\n".join(lines) + "\n"


def digests() -> dict[str, str]:
    """What Docker says the tags of `IMAGES` are.

    Raises:
        OSError, subprocess.CalledProcessError: there is no Docker, or no network.
    """
    found = {}
    for variable, image in IMAGES.items():
        subprocess.run(["docker", "pull", "--quiet", image], check=True, capture_output=True, text=True)
        ask = ["docker", "image", "inspect", "--format", "{{index .RepoDigests 0}}", image]
        told = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
        found[variable] = told.rpartition("@")[2]
    return found


def main() -> int:
    """Make the file, or add digests to it."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse_assets.stack.environment", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--digests", action="store_true")
    options = parser.parse_args()
    if not options.file.exists():
        options.file.touch(mode=0o600)
        options.file.write_text(fresh())
        print(f"{options.file} made, with random keys, readable by you alone; next: make stack-images, make stack")
    if options.digests:
        try:
            found = digests()
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", "") or str(error)
            print(f"stack-images: Docker could not say what the images are: {why.strip()}", file=sys.stderr)
            return 1
        kept = [line for line in options.file.read_text().splitlines() if line.partition("=")[0] not in IMAGES]
        options.file.write_text("\n".join([*kept, *(f"{name}={digest}" for name, digest in found.items())]) + "\n")
        for name, digest in found.items():
            print(f"{IMAGES[name]}@{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
