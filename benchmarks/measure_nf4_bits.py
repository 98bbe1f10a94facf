"""Bits of a quantized parameter of the pocket model in NF4, scales and tables included.

    python benchmarks/measure_nf4_bits.py [--single]

`--single` turns double quantization off. Counted in the tensors of the loaded model.
"""

import argparse

from transformers.utils import logging

from helpers.model.loading import load_4bit
from helpers.model.memory import memory_footprint
from labkit.audit.measurements import report
from pocket_model.build import ensure_built


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--single", action="store_true", help="without double quantization")
    logging.disable_progress_bar()
    loaded = load_4bit(ensure_built(), double_quant=not parser.parse_args().single)
    table = memory_footprint(loaded.model)
    quantized_bytes = table.loc[["quantized weights", "quantization state"], "bytes"].sum()
    parameters = table.loc["quantized weights", "parameters"]
    report(
        round(8 * float(quantized_bytes / parameters), 4),
        "bits per parameter",
        quantized_parameters=int(parameters),
        total_bytes=int(table.loc["total", "bytes"]),
    )


if __name__ == "__main__":
    main()
