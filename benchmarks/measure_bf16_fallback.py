"""What bf16 costs a processor without bf16 instructions, as ratios to float32.

    python benchmarks/measure_bf16_fallback.py [--attention]

The time of one of the pocket model's linears on a prompt of 256 tokens in bf16, over that of
widening its weights and multiplying in float32. With `--attention`: of one token's attention over
320 others in bf16, over the same in float32, conversions included. These two are why
`pocket_model/loading.py` widens. A processor with bf16 instructions will give other ratios.
"""

import sys
import time
from collections.abc import Callable

import torch

from labkit.audit.measurements import report

ROUNDS = 200


def best_us(work: Callable[[], torch.Tensor]) -> float:
    """Microseconds of the fastest round: whatever else runs can only slow one down."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return 1e6 * min(found)


torch.manual_seed(0)
linear, attend = torch.nn.functional.linear, torch.nn.functional.scaled_dot_product_attention
if "--attention" in sys.argv:
    query = torch.randn(1, 12, 1, 64, dtype=torch.bfloat16)
    keys, values = torch.randn(2, 1, 4, 320, 64, dtype=torch.bfloat16)
    plain = best_us(lambda: attend(query, keys, values, enable_gqa=True))
    wide = best_us(
        lambda: attend(query.float(), keys.float(), values.float(), enable_gqa=True).bfloat16()
    )
else:
    rows = torch.randn(256, 576, dtype=torch.bfloat16)
    weight = torch.randn(1536, 576, dtype=torch.bfloat16)
    plain = best_us(lambda: linear(rows, weight))
    wide = best_us(lambda: linear(rows.float(), weight.float()).bfloat16())
report(round(plain / wide, 1), "ratio", bf16_us=round(plain), float32_us=round(wide))
