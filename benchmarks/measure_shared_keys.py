"""The attention of one new token: heads that share keys as rows of one head, or one by one.

    python benchmarks/measure_shared_keys.py [--tokens 320]

It times torch's kernel in the pocket model's shape, on keys in the dtype of the server's cache. The
ratio is the time with the rows over the time with `enable_gqa`, which reads the keys for each head.
"""

import argparse

import torch
from measure_bf16_fallback import best_us
from torch.nn.functional import scaled_dot_product_attention

from labkit.audit.measurements import report

HEADS, KEY_HEADS, SIZE = 9, 3, 64  # without the heads of zeros


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=320, help="in the cache")
    tokens = parser.parse_args().tokens
    torch.manual_seed(0)
    query = torch.randn(1, HEADS, 1, SIZE, dtype=torch.bfloat16)
    keys, values = torch.randn(2, 1, KEY_HEADS, tokens, SIZE, dtype=torch.bfloat16)
    rows = query.view(1, KEY_HEADS, -1, SIZE)
    each = best_us(lambda: scaled_dot_product_attention(query, keys, values, enable_gqa=True))
    shared = best_us(lambda: scaled_dot_product_attention(rows, keys, values))
    report(round(shared / each, 2), "ratio", shared_us=round(shared), each_us=round(each))


if __name__ == "__main__":
    main()
