"""What cannot be served, in words."""


class ServingError(RuntimeError):
    """The model cannot be served here; the message says why and what to do."""
