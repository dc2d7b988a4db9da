"""The one exception the command line turns into one sentence."""


class StackError(Exception):
    """The platform cannot do what was asked; the message is one sentence for the user."""
