"""Hook of mkdocs.yml: pages of the site are Markdown files wherever they lie in the repository, by their paths there.

So one link works in an editor, on a forge and on the site. What pages show or link to comes along: pictures, notebooks,
source files.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDERS = ("docs", "jobs", "samples", "benchmarks", "aopsam/weights", "")
"""Folders whose Markdown files are pages; the root is the last."""

_LINK = re.compile(r"\]\(([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by those of the repository that are pages, and by what these link to."""
    root = Path(config.config_file_path).parent
    pages = {path.relative_to(root).as_posix() for folder in FOLDERS for path in (root / folder).glob("*.md")}
    linked = {
        posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        for page in pages
        for link in _LINK.findall((root / page).read_text(encoding="utf-8"))
        if "://" not in link
    }
    shown = sorted(pages | {name for name in linked if (root / name).is_file()})
    of_the_theme = [file for file in files if file.src_dir != config.docs_dir]
    ours = [File(name, str(root), config.site_dir, config.use_directory_urls) for name in shown]
    return Files([*of_the_theme, *ours])
