"""Bits that a quantised parameter of the pocket model takes in NF4, scales and tables included.

    python benchmarks/measure_nf4_bits.py [--single]

`--single` leaves double quantisation out. Counted over the real tensors after loading.
"""

import sys

from transformers.utils import logging

from helpers.model.loading import load_4bit
from helpers.model.memory import footprint
from labkit.audit.measurements import report
from pocket_model.build import ensure_built

logging.disable_progress_bar()
loaded = load_4bit(ensure_built(), double_quant="--single" not in sys.argv)
ledger = footprint(loaded.model)
in_4_bits = ledger.loc[["quantised weights", "quantisation state"], "bytes"].sum()
parameters = ledger.loc["quantised weights", "parameters"]
report(
    round(8 * float(in_4_bits / parameters), 4),
    "bits per parameter",
    quantised_parameters=int(parameters),
    total_bytes=int(ledger.loc["total", "bytes"]),
)
