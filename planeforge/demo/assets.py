"""Where the demo's models and texts lie; each is checked against its recorded SHA-256 first."""

import hashlib
import lzma
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = HERE / "text"
MODELS = HERE / "models"
SUMS = "SHA256SUMS"  #: in TEXT and MODELS, in the form `sha256sum --check` reads

DEMO_MODEL = "tinydocs-1.4M"
UNIT_TEST_MODEL = "tinydocs-0.1M"


def sums(folder: Path) -> dict[str, str]:
    """Returns {path relative to ``folder``: SHA-256 in hex} as its SHA256SUMS lists them.

    Raises: ValueError if the list is missing.
    """
    path = folder / SUMS
    if not path.is_file():
        raise ValueError(f"{path} is missing: reinstall planeforge, or restore the file from the repository")
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="ascii").splitlines())
    return {name: digest for digest, name in pairs}


@cache
def verified(folder: Path, name: str) -> Path:
    """Returns ``folder / name`` after comparing it with its recorded SHA-256, once a process.

    Raises: ValueError if the file is not listed, missing, or not the one recorded.
    """
    listed = sums(folder)
    if name not in listed:
        raise ValueError(f"asset must be one of {', '.join(sorted(listed))}, not {name!r}")
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{path} is missing: reinstall planeforge, or restore the file from the repository")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != listed[name]:
        raise ValueError(
            f"{path} must have SHA-256 {listed[name]}, not {found}: restore the file, or write the new sum "
            f"into {folder / SUMS} if the change is meant"
        )
    return path


def model(name: str = DEMO_MODEL) -> Path:
    """Returns the Hugging Face directory of a shipped model, every file in it verified.

    Raises: ValueError if there is no model of that name, or one of its files was changed.
    """
    listed = sums(MODELS)
    names = sorted({path.split("/")[0] for path in listed})
    if name not in names:
        raise ValueError(f"model must be one of {', '.join(names)}, not {name!r}")
    for path in listed:
        if path.startswith(f"{name}/"):
            verified(MODELS, path)
    return MODELS / name


def held_out_path() -> Path:
    """Returns the path of the held-out text, verified."""
    return verified(TEXT, "heldout.txt")


def held_out_text() -> str:
    """Returns the text that no shipped model was trained on (ASCII, about 32 KB)."""
    return held_out_path().read_text(encoding="ascii")


def calibration_path() -> Path:
    """Returns the path of the calibration text, verified."""
    return verified(TEXT, "calibration.txt")


def calibration_text() -> str:
    """Returns the text to calibrate with, cut from the training text (ASCII, about 16 KB)."""
    return calibration_path().read_text(encoding="ascii")


def training_text() -> str:
    """Returns the whole training text (ASCII, about 1.6 MB)."""
    return lzma.decompress(verified(TEXT, "train.txt.xz").read_bytes()).decode("ascii")
