"""What the notebooks share. `connect` is where every one of them begins."""

from helpers.backends import BackendError, Lab, connect

__all__ = ["BackendError", "Lab", "connect"]
