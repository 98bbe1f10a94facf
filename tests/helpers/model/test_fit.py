"""The planner: its sums, its advice, and the GPUs on which a model fits."""

import dataclasses

import pytest

from helpers.model import cards, configs, fit, sizes

GIB = 1024**3


def test_the_plan_adds_up():
    plan = fit.Plan("small-3.2", 24 * GIB, 32768, bandwidth=1008e9)
    config = configs.load("small-3.2")
    assert [row.scheme for row in plan.schemes] == list(sizes.SCHEMES)
    for row in plan.schemes:
        assert row.weight_bytes == sizes.weight_bytes(config, row.scheme)
        assert row.kv_cache_bytes == 5 * GIB
        assert row.total_bytes == 24 * GIB - row.free_bytes
        assert row.fits == (row.scheme in ("nf4", "nf4-dq"))
    assert plan.best.scheme == "nf4"
    assert plan.best.tokens_per_s == sizes.decode_limit(config, "nf4", 1008e9, 32768)


@pytest.mark.parametrize("images", [0, 1])
def test_the_longest_context_fits_and_one_token_more_does_not(images):
    longest = fit.Plan("small-3.2", 24 * GIB, 8192, images=images).best.longest_context
    assert fit.Plan("small-3.2", 24 * GIB, longest, images=images).best.scheme == "nf4"
    assert fit.Plan("small-3.2", 24 * GIB, longest + 1, images=images).best.scheme == "nf4-dq"


def test_a_colab_t4_does_not_hold_the_24b_but_a_7b():
    usable = cards.gpu("T4").usable_bytes
    assert fit.Plan("small-3.2", usable, 1024).best is None
    assert fit.Plan("small-3", usable, 8192).best is None
    assert fit.Plan("7b", usable, 8192).best.scheme == "fp8"


def advised(*args, **options):
    return fit.Plan(*args, **options).advice


def test_advice_is_true():
    """Each number in it is plan again."""
    memory = cards.gpu("4090").usable_bytes
    plan = fit.Plan("small-3.2", memory, 32768, batch=4)
    assert plan.best is None
    text = "\n".join(plan.advice)
    shorter = plan.schemes[-1].longest_context
    assert f"nf4-dq has room for {shorter:,} tokens" in text
    assert fit.Plan("small-3.2", memory, shorter, batch=4).best.scheme == "nf4-dq"
    assert "nf4-dq has room for 1 sequence." in text
    assert fit.Plan("small-3.2", memory, 32768, batch=1).best is not None
    assert fit.Plan("small-3.2", memory, 32768, batch=2).best is None
    assert "A100-40" in text
    assert fit.Plan("small-3.2", cards.gpu("A100-40").usable_bytes, 32768, batch=4).best
    assert "Mistral 7B v0.3 fits in nf4-dq" in text
    assert fit.Plan("7b", memory, 32768, batch=4).schemes[-1].fits


def test_an_eight_bit_cache_is_advised_where_it_helps():
    memory = int(18.5 * GIB)
    assert any("8 bits" in line for line in advised("small-3.2", memory, 32768))
    assert fit.Plan("small-3.2", memory, 32768, kv_dtype="fp8").best.scheme == "nf4-dq"
    assert not any("8 bits" in line for line in advised("small-3.2", 12 * GIB, 32768))


def test_fewer_or_smaller_pictures_are_advised():
    memory = 24 * GIB
    text = "\n".join(advised("small-3.2", memory, 32768, images=8))
    assert "Send fewer pictures: nf4-dq has room for 3 pictures." in text
    assert fit.Plan("small-3.2", memory, 32768, images=3).best
    assert "Shrink the pictures" in text
    assert fit.Plan("small-3.2", memory, 32768, images=8, image_size=(756, 756)).best


def test_several_changes_where_one_does_not_help():
    text = "\n".join(advised("small-3.2", 24 * GIB, 131072, batch=64, images=2))
    assert "one sequence with one picture has room for" in text


def test_a_plan_prints_as_a_table_with_advice():
    lines = str(fit.Plan("small-3.2", 24.0 * GIB, 32768, images=1, bandwidth=1008e9)).splitlines()
    assert lines[0] == (
        "Mistral Small 3.2 in 24.00 GiB: 1 sequence of 32,768 tokens, of them 3,080 for 1 picture; "
        "sizes in GiB"
    )
    rows = {line.split()[0]: line.split()[1:] for line in lines if line[:3] in ("bf1", "nf4")}
    assert rows["nf4-dq"][:2] == ["14.00", "5.00"]
    assert rows["bf16"][-3:] == ["no", "0", "–"]
    assert lines[-2].startswith("- ")


def test_a_plan_is_made_again_with_one_change():
    plan = fit.Plan("7b", 24 * GIB, 8192)
    wide = dataclasses.replace(plan, batch=2)
    assert wide.schemes[0].kv_cache_bytes == 2 * plan.schemes[0].kv_cache_bytes
    assert wide.schemes[0].weight_bytes == plan.schemes[0].weight_bytes


def test_what_fits_where():
    table = fit.what_fits_where("small-3.2", 8192)
    assert table.loc["T4 (Colab)", "scheme"] == "none"
    assert table.loc["RTX 4090", "scheme"] == "nf4"
    assert table.loc["H100", "scheme"] == "bf16"
    assert table.loc["Apple M2 Pro 32GB", "scheme"] == "nf4"
    assert list(table["usable"]) == sorted(table["usable"])


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit.Plan("gpt-4", GIB, 10), "model: there is no 'gpt-4'"),
        (lambda: fit.Plan("7b", 0, 10), "memory_bytes: expected a positive whole number"),
        (lambda: fit.Plan("7b", GIB, 32769), "context: expected at most 32,768 tokens"),
        (lambda: fit.Plan("7b", GIB, 10, batch=0), "batch: expected a positive whole number"),
        (lambda: fit.Plan("7b", GIB, 10, images=-1), "images: expected a whole number, 0 or more"),
        (lambda: fit.Plan("7b", GIB, 10, images=1), "vision_config: expected a model with"),
        (lambda: fit.Plan("small", GIB, 10, kv_dtype="q8"), "dtype: there is no 'q8'"),
        (lambda: fit.Plan("small", GIB, 10, prefill_chunk=0), "prefill_chunk: expected a positive"),
        (lambda: fit.Plan("small", GIB, 3080, images=1), "expected more than the 3,080 tokens"),
        (lambda: fit.parse_bytes("24 bytes"), "memory: expected a size such as"),
        (lambda: fit.parse_bytes("0GiB"), "memory: expected a size such as"),
    ],
)
def test_bad_input_names_the_argument_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 * GIB),
        ("24", 24 * GIB),
        ("24 GB", 24 * 10**9),
        ("1.5gib", 3 * GIB // 2),
        ("512MiB", GIB // 2),
    ],
)
def test_sizes_with_units(text, size):
    assert fit.parse_bytes(text) == size
