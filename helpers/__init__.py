"""The small module that the notebooks share. `from helpers import connect` is where they begin."""

import sys

# jsonschema (and with it nbformat and mistral_common) imports rfc3987_syntax if it finds it, and
# that builds a parser for two seconds and more, to check a format that no schema here uses. This
# entry makes the import fail, which jsonschema takes as "not installed".
sys.modules.setdefault("rfc3987_syntax", None)

__all__ = ["BackendError", "Lab", "connect"]


def __getattr__(name: str):
    # Imported when asked for: the pocket server is a part of this package too, and its start
    # should not wait for the openai client that it never uses.
    if name in __all__:
        from helpers import backends

        return getattr(backends, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
