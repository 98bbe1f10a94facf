"""`python -m helpers …`: the kit's commands, which are in `labkit.cli`."""

import sys

if __name__ == "__main__":
    # jsonschema, which nbformat and mistral_common import, imports this package if it is installed.
    # That takes two seconds or more, for a format that no schema here uses. With this entry the
    # import fails, as if the package was not installed.
    sys.modules.setdefault("rfc3987_syntax", None)

    from labkit.cli import main

    sys.exit(main())
