"""Ringback: something rings, an agent answers."""

from __future__ import annotations


def release() -> str:
    """The version: of the installed package, or of the folder of sources that runs."""
    # Few commands ask; the others need not wait for it.
    import tomllib
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    try:
        return version("ringback")
    except PackageNotFoundError:
        project = tomllib.loads(
            (Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8")
        )
        return str(project["project"]["version"])
