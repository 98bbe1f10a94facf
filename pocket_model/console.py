"""A program's terminal, of any encoding."""

import io
import sys


def accept_any_encoding() -> None:
    """Show a question mark for what the terminal cannot show, instead of ending the program.

    Windows' consoles, and pipes on Linux without a locale, are often not UTF-8. What cannot be read
    from the keyboard becomes a replacement character.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test or a notebook has others
            stream.reconfigure(errors="replace")
