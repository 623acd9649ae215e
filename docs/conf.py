"""How Sphinx builds these pages: `sphinx-build -W docs OUTPUT`, without network."""  # noqa: INP001

import tomllib
from pathlib import Path

_metadata = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))

project = "django_sse"
author = "The django_sse authors"
version = release = _metadata["project"]["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True  # a cross-reference that leads nowhere is a warning, so an error
add_module_names = False
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"django_sse {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
