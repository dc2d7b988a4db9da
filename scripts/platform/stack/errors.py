"""The exception that the command line prints as one sentence."""


class StackError(Exception):
    """The platform cannot run the command; the message is one sentence for the user."""
