"""What the web pages share: colours and controls, requests, drawing over a picture, and how their files are served."""

from __future__ import annotations

from pathlib import Path

__all__ = ["page_files"]

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Return a page's files and those that all pages share.

    Parameters
    ----------
    folder : Path
        Where the page's own ``page.html``, styles and modules are.

    Returns
    -------
    dict of str to (bytes, str)
        Content and media type of each file, by name. Modules import one another as ``./NAME``, so all of them are
        served from one folder.

    Examples
    --------
    >>> from medground.data import review
    >>> files = page_files(Path(review.__file__).parent)
    >>> files["page.html"][1], "base.css" in files, "__init__.py" in files
    ('text/html', True, False)
    """
    shared = Path(__file__).parent
    return {
        path.name: (path.read_bytes(), _KINDS[path.suffix])
        for place in (shared, folder)
        for path in sorted(place.iterdir())
        if path.suffix in _KINDS
    }
