"""How torch's threads wait for each other: decoding speed alone and beside busy processes.

    python benchmarks/measure_thread_spin.py [--tokens 100] [--rounds 3] [--preload libiomp5.so]

Each setting gets a process of its own that holds the pocket model in int8. In each round every
process decodes in turn: alone, beside one busy process and beside two. The table has tokens/s,
the median of the rounds. The figure is the lower of the two speeds beside others, over the speed
alone, as the kit's server decodes: with its setting, and fewer threads where it gets fewer cores.

Without `--preload` the OpenMP runtime is the one in torch: libgomp in the Linux wheels. With the
file of another one, such as Intel's from the package `intel-openmp`, that one is loaded instead.
It is also the runtime of the Windows wheels. The macOS wheels have LLVM's, which knows the same
variables.
"""

import argparse
import json

from labkit.audit.measurements import report
from labkit.thread_spin import KIT, SETTINGS, measure

GOMP_SETTINGS = {
    **SETTINGS,
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin 3,000": {"GOMP_SPINCOUNT": "3000"},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
KMP_SETTINGS = {
    **SETTINGS,
    "passive": {"KMP_BLOCKTIME": "0"},
    "block time 10": {"KMP_BLOCKTIME": "10"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preload", help="another OpenMP runtime: Intel's libiomp5.so")
    options = parser.parse_args()
    settings = KMP_SETTINGS if options.preload else GOMP_SETTINGS
    table = measure(settings, options.tokens, options.rounds, options.preload)
    print(table.round(1).to_string())
    kept = table[["beside one", "beside two"]].min(axis=1) / table["alone"]
    report(round(kept[KIT], 2), "ratio", **json.loads(kept.round(2).to_json()))


if __name__ == "__main__":
    main()
