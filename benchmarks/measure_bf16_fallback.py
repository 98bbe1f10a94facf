"""The slowdown of bf16 on a CPU without bf16 instructions, as ratios to float32.

    python benchmarks/measure_bf16_fallback.py [--attention]

It times one of the pocket model's linear layers on a prompt of 256 tokens. The ratio is the time in
bf16 over the time in float32, with the conversion of the weights included. With `--attention` it
times the attention of one token over 320 others instead. These two ratios are why
`pocket_model/server` computes in float32 on such a CPU. A CPU with bf16
instructions gives other ratios.
"""

import argparse
import time
from collections.abc import Callable

import torch

from labkit.audit.measurements import report

ROUNDS = 200


def best_us(compute: Callable[[], torch.Tensor]) -> float:
    """Microseconds of the fastest round: other processes can only slow a round down."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return 1e6 * min(seconds)


def time_linear() -> tuple[float, float]:
    """Microseconds of a linear layer in bf16 and in float32."""
    linear = torch.nn.functional.linear
    rows = torch.randn(256, 576, dtype=torch.bfloat16)
    weight = torch.randn(1536, 576, dtype=torch.bfloat16)
    in_bf16 = best_us(lambda: linear(rows, weight))
    return in_bf16, best_us(lambda: linear(rows.float(), weight.float()).bfloat16())


def time_attention() -> tuple[float, float]:
    """Microseconds of one token's attention in bf16 and in float32."""
    attend = torch.nn.functional.scaled_dot_product_attention
    query = torch.randn(1, 12, 1, 64, dtype=torch.bfloat16)
    keys, values = torch.randn(2, 1, 4, 320, 64, dtype=torch.bfloat16)
    in_bf16 = best_us(lambda: attend(query, keys, values, enable_gqa=True))
    in_float32 = best_us(
        lambda: attend(query.float(), keys.float(), values.float(), enable_gqa=True).bfloat16()
    )
    return in_bf16, in_float32


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--attention", action="store_true", help="attention, not a linear layer")
    torch.manual_seed(0)
    measure = time_attention if parser.parse_args().attention else time_linear
    in_bf16, in_float32 = measure()
    ratio = round(in_bf16 / in_float32, 1)
    report(ratio, "ratio", bf16_us=round(in_bf16), float32_us=round(in_float32))


if __name__ == "__main__":
    main()
