"""What a command of the host says when it cannot go on."""


class HostError(ValueError):
    """A board or a file that cannot be used; the message says where, which rule, what came and how to mend it."""
