"""MkDocs: the diagrams lie beside docs/, where GitHub shows them; the site takes them in."""

from typing import Any

from mkdocs.structure.files import File, Files

from diagrams.draw import FOLDER


def on_files(files: Files, config: Any) -> Files:
    """The diagrams as files of the site."""
    for image in FOLDER.glob("*.png"):
        files.append(File.generated(config, f"diagrams/{image.name}", abs_src_path=str(image)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to diagrams as they are in the site."""
    return markdown.replace("](../diagrams/", "](diagrams/")
