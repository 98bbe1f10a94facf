"""How much longer one token's products take if oneDNN has to reorder the bf16 weights first.

    python benchmarks/measure_packed_weights.py

It multiplies one token's row by the weights of thirty layers of the pocket model's shapes, one
after the other. The figure is the time with `linear` over the time with
`pocket_model.server.linears.Bf16`, both timed in turn. Both multiply two rows, of which one counts:
so a row's result does not depend on whether it is alone.
"""

import statistics
import time

import torch
from measure_rows_dtype import SHAPES

from labkit.audit.measurements import report
from pocket_model.server.linears import Bf16

LAYERS, ROUNDS = 30, 20


def main() -> None:
    """Measure and report."""
    torch.manual_seed(0)
    weights = [torch.randn(shape).bfloat16() for _ in range(LAYERS) for shape in SHAPES]
    rows = {inputs: torch.randn(1, inputs).bfloat16() for _, inputs in SHAPES}
    packed = [Bf16(weight) for weight in weights]

    def with_linear() -> None:
        for weight in weights:
            torch.nn.functional.linear(rows[weight.shape[1]].expand(2, -1), weight)

    def with_packed() -> None:
        for weight, layer in zip(weights, packed, strict=True):
            layer(rows[weight.shape[1]])

    times: dict[str, list[float]] = {"linear": [], "packed": []}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, products in (("linear", with_linear), ("packed", with_packed)):
                start = time.perf_counter()
                products()
                times[name].append(1000 * (time.perf_counter() - start))
    linear, packed_ms = (statistics.median(each[1:]) for each in times.values())
    report(
        round(linear / packed_ms, 2),
        "ratio",
        linear_ms=round(linear, 1),
        packed_ms=round(packed_ms, 1),
    )


if __name__ == "__main__":
    main()
