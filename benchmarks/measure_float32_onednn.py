"""How much less time oneDNN takes than torch's `linear` for float32 products on this CPU.

    python benchmarks/measure_float32_onednn.py

It times the pocket model's four kinds of linear layers on 2,048 rows. The figure is the time in
oneDNN over that of `linear`, which takes Intel's MKL. Below 1, oneDNN is faster: on AMD's CPUs
`pocket_training.decoding.PackedLinear` takes it.
"""

import torch
from measure_bf16_fallback import best_us
from measure_rows_dtype import SHAPES

from labkit.audit.measurements import report

ROWS = 2048


def main() -> None:
    """Measure and report."""
    torch.manual_seed(0)
    totals = {"onednn_us": 0.0, "linear_us": 0.0}
    for outputs, inputs in SHAPES:
        rows, weight = torch.randn(ROWS, inputs), torch.randn(outputs, inputs)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        products = {
            "onednn_us": lambda r=rows, w=packed: torch.ops.mkldnn._linear_pointwise(
                r, w, None, "none", [], ""
            ),
            "linear_us": lambda r=rows, w=weight: torch.nn.functional.linear(r, w),
        }
        for name, product in products.items():
            totals[name] += best_us(product)
    detail = {name: round(us) for name, us in totals.items()}
    report(round(totals["onednn_us"] / totals["linear_us"], 2), "ratio", **detail)


if __name__ == "__main__":
    main()
