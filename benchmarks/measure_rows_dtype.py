"""How much faster float32 multiplies many rows than bf16 on this CPU.

    python benchmarks/measure_rows_dtype.py

It times the pocket model's four kinds of linear layers on 512 rows. The figure is the time in bf16
over the time in float32. Above 1, float32 is faster: `pocket_model/processor.py` decides by it.
"""

import torch
from measure_bf16_fallback import best_us

from labkit.audit.measurements import report

SHAPES = [(1280, 576), (576, 768), (3072, 576), (576, 1536)]  # outputs and inputs


def main() -> None:
    """Measure and report."""
    torch.manual_seed(0)
    totals = {torch.bfloat16: 0.0, torch.float32: 0.0}
    for outputs, inputs in SHAPES:
        for dtype in totals:
            rows, weight = (
                torch.randn(512, inputs).to(dtype),
                torch.randn(outputs, inputs).to(dtype),
            )
            totals[dtype] += best_us(lambda r=rows, w=weight: torch.nn.functional.linear(r, w))
    in_bf16, in_float32 = totals.values()
    detail = {"bf16_us": round(in_bf16), "float32_us": round(in_float32)}
    report(round(in_bf16 / in_float32, 2), "ratio", **detail)


if __name__ == "__main__":
    main()
