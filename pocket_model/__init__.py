"""The embedded model: fetched, built, served. See the modules for each step."""

import logging

from pocket_model.processor import wait_briefly

wait_briefly()  # here, so that it comes before torch is imported

# On some CPUs bitsandbytes advises to install the package `kernels`. That package downloads code
# from a hub, and nothing here needs it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
