"""The exceptions that the command line prints as a single line."""


class InputError(ValueError):
    """A path, name, value or file of the user's cannot be used. The message says what, where and how to mend it.

    The command exits with code 2."""


class RunError(RuntimeError):
    """Something beyond the user's input went wrong, such as a killed process. The command exits with code 1."""
