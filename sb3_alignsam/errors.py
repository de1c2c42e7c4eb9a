"""The one exception for a user's mistake; the command line prints it as a single line and exits with code 2."""


class InputError(ValueError):
    """A path, name, value or file of the user's cannot be used. The message says what, where and how to mend it."""
