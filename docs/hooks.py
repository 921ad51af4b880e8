"""MkDocs: what stands beside docs/, where GitHub shows it, becomes part of the site: diagrams and the root's pages."""

import re
from typing import Any

from mkdocs.structure.files import File, Files

from diagrams.draw import FOLDER

ROOT = FOLDER.parent
PAGES = {  # page of the site: file of the repository
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security-policy.md": "SECURITY.md",
    "examples.md": "examples/README.md",
    "benchmarks.md": "benchmarks/README.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Diagrams and pages of the repository as files of the site."""
    for image in FOLDER.glob("*.png"):
        files.append(File.generated(config, f"diagrams/{image.name}", abs_src_path=str(image)))
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are in the site."""
    if page.file.src_uri in PAGES:
        markdown = re.sub(r"\]\((\.\./)?docs/decisions\)", "](decisions/0001-write-audit-publish.md)", markdown)
        markdown = re.sub(r"\]\((?:\.\./)?docs/", "](", markdown)
        for name, source in PAGES.items():
            markdown = markdown.replace(f"]({source})", f"]({name})")
    return markdown.replace("](../diagrams/", "](diagrams/")
