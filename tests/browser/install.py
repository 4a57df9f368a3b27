"""Find Chromium for the browser tests; as root on Debian, install it when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_PLAYWRIGHT = ("~/.cache/ms-playwright", "~/Library/Caches/ms-playwright")
_DOWNLOADED = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
    "chromium_headless_shell-*/chrome-*/headless_shell",
    "chromium_headless_shell-*/chrome-*/chrome-headless-shell",
)
_APT_SECONDS = 900
_PATIENTLY = ("-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300")
NEEDED = (
    "Needed for the browser tests: Chromium. Debian and Ubuntu: apt-get install chromium. macOS: "
    "brew install --cask chromium. Or set CHROMIUM=/path/to/chromium."
)


def chromium() -> Path | None:
    """The executable: $CHROMIUM, then the PATH, then what Playwright downloaded."""
    if told := os.environ.get("CHROMIUM"):
        return Path(told) if shutil.which(told) else None
    return next(_found(), None)


def _found() -> Iterator[Path]:
    yield from (Path(path) for name in _NAMES if (path := shutil.which(name)))
    yield from (Path(path) for path in _APPLICATIONS if Path(path).exists())
    told = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    for folder in (Path(one).expanduser() for one in (*([told] if told else []), *_PLAYWRIGHT)):
        for pattern in _DOWNLOADED:
            yield from sorted(folder.glob(pattern), reverse=True)


def _install() -> None:
    """Install Debian's package; what apt has to say is shown only when it fails."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("install", "-qq", "-y", "--no-install-recommends", "chromium")
    for command in (("update", "-qq"), install):
        subprocess.run(
            ["apt-get", *_PATIENTLY, *command],
            env=environ,
            timeout=_APT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _is_ours_to_install() -> bool:
    # Ubuntu's package of that name is a stub of a snap, which a container cannot run.
    return (
        sys.platform == "linux"
        and os.geteuid() == 0
        and shutil.which("apt-get") is not None
        and Path("/etc/debian_version").exists()
        and "ubuntu" not in Path("/etc/os-release").read_text("utf-8").lower()
    )


def main() -> int:
    """Make sure that there is a Chromium, or say in one line how to get one."""
    told = os.environ.get("CHROMIUM")
    if chromium() is None and not told and _is_ours_to_install():
        _say("Installing Chromium for the browser tests ...")
        try:
            _install()
        except subprocess.CalledProcessError as failed:
            _say(failed.stdout.strip())
        except subprocess.TimeoutExpired:
            _say(f"apt-get took more than {_APT_SECONDS} s.")
    if chromium() is not None:
        return 0
    _say(f"CHROMIUM={told} cannot be run." if told else NEEDED)
    return 1


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    raise SystemExit(main())
