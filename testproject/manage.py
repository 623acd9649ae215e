"""Django's command line for the demo project."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run one management command with the demo's settings."""
    # A script's own folder comes first on the path; the demo is a package of the folder above it.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

    from django.core.management import execute_from_command_line  # noqa: PLC0415  (settings first)

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
