"""The user's cache folder: stored weights and features of images."""

from __future__ import annotations

import os
from pathlib import Path

from sb3_alignsam.errors import InputError

HOME_VARIABLE = "SB3_ALIGNSAM_HOME"


def cache_home() -> Path:
    """The folder named by ``SB3_ALIGNSAM_HOME``, or else ``sb3-alignsam`` below the user's cache folder.

    It need not exist.

    :raises InputError: there is no such variable, and the user has no home folder.
    """
    own, cache = os.environ.get(HOME_VARIABLE), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if own:
            return Path(own).expanduser().absolute()
        # The XDG specification says that a relative path there is to be ignored.
        root = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    except RuntimeError as error:
        raise InputError(f"no home folder is known; set {HOME_VARIABLE} to a folder to keep files in") from error
    return root / "sb3-alignsam"
