"""The exceptions that the command line prints as a single line."""

import errno

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""`OSError.errno` where a file cannot grow."""


class InputError(ValueError):
    """A path, name, value or file of the user's cannot be used. The message says what, where and how to mend it.

    The command exits with code 2."""


class RunStopped(Exception):  # noqa: N818 it is no error
    """A signal stopped a run. The message says how to go on; empty: another process says it.

    :param exit_code: of the command, as shells tell a process that a signal has ended.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunError(RuntimeError):
    """Something beyond the user's input went wrong, such as a killed process. The command exits with code 1."""
