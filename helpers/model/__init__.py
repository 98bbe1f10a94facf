"""A model in your own memory: its sizes, whether it fits, loading it, measuring it."""

import logging

# On some CPUs bitsandbytes advises to install the package `kernels`. That package downloads code
# from a hub, and nothing here needs it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
