"""The static files of the package, as a project collects them for production."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, staticfiles_storage
from django.core.management import call_command

from django_sse import markup

STATIC = Path(markup.__file__).parent / "static"


class ModulesToo(ManifestStaticFilesStorage):
    """Hash the addresses in `import` and `export` as well."""

    support_js_module_import_aggregation = True


@pytest.fixture(params=[ManifestStaticFilesStorage, ModulesToo])
def collected(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Path:
    """Return the folder that a storage which hashes names has collected everything into."""
    settings.STATIC_ROOT = tmp_path
    backend = f"{request.param.__module__}.{request.param.__qualname__}"
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": backend}}
    call_command("collectstatic", interactive=False, verbosity=0)
    return tmp_path


def test_every_file_is_collected(collected: Path) -> None:
    """Each gets a name with its hash, and its content stays as it is: it names no file that is not there."""
    assert isinstance(staticfiles_storage._wrapped, ManifestStaticFilesStorage)  # type: ignore[attr-defined]
    for file in (STATIC / "django_sse").rglob("*.*"):
        hashed = staticfiles_storage.stored_name(file.relative_to(STATIC).as_posix())  # type: ignore[attr-defined]
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", hashed)
        assert (collected / hashed).read_bytes() == file.read_bytes()


def test_addresses_have_their_hashes(collected: Path) -> None:
    """Whatever static file the tag names, the script or the polyfill, it names by a hash, and it is there."""
    named = re.findall(r'"/static/([^"]+)"', markup.script())

    assert len(named) >= 2
    assert [name for name in named if not re.search(r"\.[0-9a-f]{12}\.js$", name)] == []
    assert [name for name in named if not (collected / name).is_file()] == []
