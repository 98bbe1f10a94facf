"""TODO."""

import argparse

from openrouter_sim.app import Simulator
from openrouter_sim.faults import FAULTS, KEYS
from pocket_model import lease
from pocket_model.build import BuildError
from pocket_model.cache import CacheError


def main(argv: list[str]) -> int:
    """`python -m helpers simulate`: run until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers simulate",
        description="A simulator of OpenRouter on this machine, with the pocket model's answers.",
    )
    parser.add_argument("--port", type=int, default=8765, help="on loopback (default: 8765)")
    options = parser.parse_args(argv)
    try:
        simulator = Simulator(options.port)
    except (BuildError, CacheError, lease.ServerError) as error:
        print(f"error: {error}")
        return 1
    except OSError as error:
        print(f"error: port {options.port}: {error.strerror}. Choose another with --port.")
        return 2
    print(f"A simulator of OpenRouter at {simulator.base_url}; Ctrl-C ends it.\nKeys:")
    for key, what in KEYS.items():
        print(f"  {key}: {what}")
    print("Failures, by the header X-Simulate: NAME:")
    for name, fault in FAULTS.items():
        print(f"  {name}: {fault.title} ({fault.status})")
    try:
        simulator.wait()
    except KeyboardInterrupt:
        simulator.close()
    return 0
