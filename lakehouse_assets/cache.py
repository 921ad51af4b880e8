"""The folder of everything that is fetched or made once for a machine, and how its files are written."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def cache_dir() -> Path:
    """The folder for what is fetched or made once per machine."""
    return Path(os.environ.get("LAKEHOUSE_CACHE") or Path.home() / ".cache" / "lakehouse_assets").absolute()


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically: other processes see the old or the whole new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as new:
        new.write(text)
    Path(new.name).chmod(mode)
    Path(new.name).replace(path)


def made_once(name: str, make: Callable[[], str]) -> str:
    """A text that is made once for a machine and kept under a name; one that can't be kept is made again each time."""
    kept = cache_dir() / name
    try:
        return kept.read_text("utf-8")
    except OSError:
        made = make()
    with suppress(OSError):
        write_whole(kept, made)
    return made


def file_identity(path: Path) -> str:
    """Identifies a file without reading it: real path, size, time of change."""
    real = path.resolve(strict=True)
    stat = real.stat()
    return f"{real} {stat.st_size} {stat.st_mtime_ns}"


def sha256(path: Path) -> str:
    """The content of a file, as one hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(*parts: str) -> str:
    """A name for texts: 16 letters that change with any of them."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def last_line(text: str) -> str:
    """What a program said last."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it printed no reason"


def say(line: str) -> None:
    """Tell the person who waits for something to be fetched or made."""
    print(f"setup: {line}", file=sys.stderr, flush=True)  # what a command answers stays what it is
