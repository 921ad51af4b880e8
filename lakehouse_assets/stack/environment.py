"""Makes the stack's `.env`: random keys, and the digests of images that are not pinned in docker-compose.yaml itself.

python3 lakehouse_assets/stack/environment.py .env              # make the file, mode 600, unless it is there
python3 lakehouse_assets/stack/environment.py .env --digests    # ask Docker which images the tags are, and add them
python3 lakehouse_assets/stack/environment.py .env --ports      # fail where a port that the stack publishes is taken

Only the standard library is imported, so that whoever has Docker needs nothing else to start the stack.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable
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
PORTS = {
    "dagster-webserver": "PORT_DAGSTER",
    "jupyter": "PORT_JUPYTER",
    "s3": "PORT_S3_CONSOLE",
    "spark-history": "PORT_SPARK_HISTORY",
    "spark-master": "PORT_SPARK",
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
        LookupError: Docker does not say it.
    """
    found = {}
    for variable, image in IMAGES.items():
        _docker("pull", "--quiet", image)
        told = json.loads(_docker("image", "inspect", "--format", "{{json .RepoDigests}}", image))
        found[variable] = digest_of(image, told)
    return found


def digest_of(image: str, told: Iterable[str]) -> str:
    """The digest of an image in its own repository, out of those by which Docker knows the same content.

    Raises:
        LookupError: there is none.
    """
    repository = _full_name(image.rpartition(":")[0])
    for one in told:
        name, _, digest = one.partition("@")
        if _full_name(name) == repository:
            return digest
    raise LookupError(f"it knows {image} from other places only: {', '.join(told) or 'none'}")


def _full_name(repository: str) -> str:
    """A repository with its registry, as Docker leaves out its own: `postgres` is `docker.io/library/postgres`."""
    first = repository.split("/", 1)[0]
    if "/" not in repository:
        return f"docker.io/library/{repository}"
    return repository if "." in first or ":" in first or first == "localhost" else f"docker.io/{repository}"


def taken() -> list[str]:
    """What to do about each port that the stack publishes and something else listens at.

    Raises:
        OSError, subprocess.CalledProcessError: there is no Docker or no Compose, or a variable is missing.
    """
    services = json.loads(_docker("compose", "config", "--format", "json"))["services"]
    running = map(json.loads, _docker("compose", "ps", "--format", "json").splitlines())
    ours = {where["PublishedPort"] for container in running for where in container["Publishers"] or ()}
    return [
        f"port {port} of this machine is taken; let {PORTS[name]} in .env name another, as {PORTS[name]}={port + 1}"
        for name, service in services.items()
        for port in (int(where["published"]) for where in service.get("ports", ()))
        if port not in ours and not _is_free(port)
    ]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Make the file, add digests to it, or look at the ports."""
    parser = argparse.ArgumentParser(
        prog="environment.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--digests", action="store_true")
    parser.add_argument("--ports", action="store_true")
    options = parser.parse_args()
    if not options.file.exists():
        options.file.touch(mode=0o600)
        options.file.write_text(fresh())
        print(f"{options.file} made, with random keys, readable by you alone; next: make stack-images, make stack")
    try:
        if options.digests:
            _add_digests(options.file)
        if options.ports and (wrong := taken()):
            print(*(f"stack: {line}" for line in wrong), sep="\n", file=sys.stderr)
            return 1
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", "") or str(error)
        print(f"stack: Docker can't do it: {why.strip()}", file=sys.stderr)
        return 1
    return 0


def _add_digests(file: Path) -> None:
    found = digests()
    kept = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in IMAGES]
    file.write_text("\n".join([*kept, *(f"{name}={digest}" for name, digest in found.items())]) + "\n")
    for name, digest in found.items():
        print(f"{IMAGES[name]}@{digest}")


if __name__ == "__main__":
    sys.exit(main())
