"""The images that docker-compose.yaml names, made from Debian's packages and put into a registry under their names.

Where no image registry is reached, nothing else can be had. What is Debian's own program (Python, Postgres) is the real
thing in another version; the S3 server is MinIO, which silo comes from; **in Polaris's place stands the tests' REST
catalog** (Polaris.java), as Polaris's server is in no package registry.

What this machine's package clients need to reach their registries (certificates, pip's settings, variables) goes into
the Python image, on which our own image is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.errors import SetupError
from lakehouse_assets_tests.fresh_machine import CLIENTS_FILES, SUITE, clients_variables
from lakehouse_assets_tests.stack import tools
from lakehouse_assets_tests.stack.docker import Docker

_TREE = "stack-check:tree"  # what an image is made of until it is
_STARTERS = Path(__file__).with_name("images")


_POSTGRES_USER = 999  # the official image's, whom docker-compose.yaml names


@dataclass(frozen=True)
class Image:
    """An image of Docker Hub, and how it is started: instructions of a Dockerfile."""

    name: str
    tag: str
    instructions: Sequence[str]


PYTHON = Image("library/python", "3.11-slim-bookworm", ("ENV LANG=C.UTF-8", 'CMD ["python3"]'))
SERVICES = (
    Image(
        "library/postgres",
        "17-bookworm",
        (
            "ENV PGDATA=/var/lib/postgresql/data",
            f"RUN install -d -o {_POSTGRES_USER} /var/run/postgresql /docker-entrypoint-initdb.d",
            'ENTRYPOINT ["/starters/postgres"]',
            "STOPSIGNAL SIGINT",
        ),
    ),
    Image("pgsty/silo", "RELEASE.2026-09-16T00-00-00Z", ('ENTRYPOINT ["/starters/minio"]',)),
    Image("apache/polaris-admin-tool", "1.4.1", ('ENTRYPOINT ["/starters/polaris-admin-tool"]',)),
    Image(
        "apache/polaris",
        "1.4.1",
        ('ENTRYPOINT ["java", "-Xmx384m", "-cp", "/catalog:/catalog/*:/usr/share/java/postgresql.jar", "Polaris"]',),
    ),
)


def provide(docker: Docker) -> list[str]:
    """Make what the registry does not have; the names of the images that were made."""
    made: list[str] = []
    for images, tree in (((PYTHON,), _python_tree), (SERVICES, _services_tree)):
        wanted = [image for image in images if not docker.in_registry(image.name, _key(image))]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory(dir=docker.folder, prefix="tree-") as folder:
            archive = Path(folder) / "tree.tar"
            tree(Path(folder), archive)
            docker("import", archive, _TREE)
        for image in wanted:
            _publish(docker, image)
            made.append(image.name)
        docker("image", "rm", _TREE)
    return made


def _publish(docker: Docker, image: Image) -> None:
    here = f"{docker.registry}/{image.name}"
    settings = [f'ENV {key}="{value}"' for key, value in clients_variables().items()] if image is PYTHON else []
    description = "\n".join([f"FROM {_TREE}", *settings, *image.instructions])
    names = [f"{here}:{image.tag}", f"{here}:{_key(image)}"]
    docker("build", *(f"--tag={name}" for name in names), "-", told=description)
    for name in names:
        docker("push", "--quiet", name)
    docker("image", "rm", *names)  # it is to be pulled as on any machine


def _key(image: Image) -> str:
    """A tag that says of what an image was made: one that is in the registry needs no making."""
    parts: list[object] = [image, SUITE, Path(__file__).read_bytes(), sorted(clients_variables().items())]
    parts += [Path(file).read_bytes() for file in CLIENTS_FILES if Path(file).exists()]
    if image is not PYTHON:
        parts += [tools.minio(), tools.rest_catalog(), *(path.read_bytes() for path in sorted(_STARTERS.iterdir()))]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _python_tree(folder: Path, archive: Path) -> None:
    """Debian with its Python as the official image has it: programs in /usr/local, which packages are installed to."""
    hooks = ['chroot "$1" python3 -m venv /usr/local']
    hooks += [f'copy-in "{file}" "{Path(file).parent}"' for file in CLIENTS_FILES if Path(file).exists()]
    _debian(archive, ["python3", "python3-venv", "ca-certificates"], hooks)


def _services_tree(folder: Path, archive: Path) -> None:
    """One Debian with all the services' programs; an image of it differs from the others by what it starts."""
    starters, catalog = folder / "starters", folder / "catalog"
    shutil.copytree(_STARTERS, starters)
    shutil.copy(tools.minio(), starters / "minio")
    shutil.copytree(tools.rest_catalog(), catalog)
    for jar in tools.java_classpath().split(os.pathsep):
        shutil.copy(jar, catalog)
    hooks = [
        f'copy-in "{starters}" "{catalog}" /',
        f'chroot "$1" useradd --uid {_POSTGRES_USER} --user-group --home-dir /var/lib/postgresql official',
        f'mkdir -p "$1/var/lib/postgresql/data" && chown -R {_POSTGRES_USER}:{_POSTGRES_USER} "$1/var/lib/postgresql"',
    ]
    packages = ["postgresql", "libpostgresql-jdbc-java", "openjdk-17-jre-headless", "curl", "ca-certificates"]
    _debian(archive, packages, hooks)


def _debian(archive: Path, packages: Sequence[str], hooks: Sequence[str]) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    done = subprocess.run([*command, SUITE, str(archive)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"mmdebstrap failed: {done.stderr.strip()[-2000:]}")
