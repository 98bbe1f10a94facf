"""Loading in 4 bits, saving and loading again, on tiny random models; errors on broken ones."""

import json
import subprocess
import sys
from pathlib import Path

import bitsandbytes
import pytest
import torch
from bitsandbytes.backends.cpu import ops as cpu_ops
from tiny_models import LINEARS_PER_LAYER, TEXT, VISION, save
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    Mistral3Config,
)

from helpers.model import loading, memory, saving
from helpers.model.checkpoints import MANIFEST, LoadError
from helpers.paths import sha256_of


@pytest.fixture(scope="module")
def text(text_folder):
    return loading.load_4bit(text_folder)


def test_all_blocks_of_a_text_model_are_quantized_and_the_head_is_kept(text):
    assert len(text.quantized_modules) == 2 * LINEARS_PER_LAYER
    assert text.kept_modules == ("lm_head",)
    assert type(text.model).__name__ == "MistralForCausalLM"
    assert text.model.lm_head.weight.dtype == torch.bfloat16


def test_the_settings_are_nf4_double_quant_and_a_16_bit_compute_type(text):
    layer = text.model.model.layers[0].mlp.gate_proj
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.compute_dtype == text.compute_dtype == loading.best_compute_dtype()


def test_it_answers(text):
    ids = text.tokenizer("w1 w2 w3", return_tensors="pt")
    out = text.model.generate(input_ids=ids["input_ids"], max_new_tokens=3, do_sample=False)
    assert out.shape == (1, 6)


def test_mistral3_keeps_vision_tower_and_head(vision_folder):
    loaded = loading.load_4bit(vision_folder)
    assert type(loaded.model).__name__ == "Mistral3ForConditionalGeneration"
    assert all(".language_model." in name for name in loaded.quantized_modules)
    assert len(loaded.quantized_modules) == 2 * LINEARS_PER_LAYER
    assert any("vision_tower" in name for name in loaded.kept_modules)
    assert any("multi_modal_projector" in name for name in loaded.kept_modules)
    assert "lm_head" in loaded.kept_modules


def test_mistral3_with_tied_embeddings_keeps_them_tied(tmp_path):
    """As in the pocket model: the head has no weights of its own, and must not get any."""
    config = Mistral3Config(
        text_config={"model_type": "mistral", **TEXT, "tie_word_embeddings": True},
        vision_config=VISION,
        image_token_index=10,
        tie_word_embeddings=True,
    )
    loaded = loading.load_4bit(save(AutoModelForImageTextToText.from_config(config), tmp_path))
    assert len(loaded.quantized_modules) == 2 * LINEARS_PER_LAYER
    assert all(".language_model." in name for name in loaded.quantized_modules)
    head, embeddings = loaded.model.lm_head.weight, loaded.model.get_input_embeddings().weight
    assert head.data_ptr() == embeddings.data_ptr()
    table = memory.memory_footprint(loaded.model)
    assert "lm_head" not in table.index
    assert table.loc["embeddings", "bytes"] == 96 * 64 * 2


@pytest.mark.parametrize(
    ("skipped", "wrongly_quantized"),
    [
        (["vision_tower", "multi_modal_projector", "lm_head"], "vision_tower"),
        (["model.vision_tower", "model.multi_modal_projector"], "lm_head"),
    ],
)
def test_the_two_skip_list_traps_are_noticed(vision_folder, skipped, wrongly_quantized):
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=skipped
    )
    model = AutoModelForImageTextToText.from_pretrained(vision_folder, quantization_config=config)
    quantized, _ = loading.linear_layers(model)
    assert any(wrongly_quantized in name for name in quantized)
    expected = loading.linear_names(model.config, loading.SKIPPED_IN_MISTRAL3)
    with pytest.raises(LoadError, match="did not do what it says"):
        loading.check_quantized(model, expected)


def test_a_quantized_checkpoint_keeps_its_own_settings(text_folder, tmp_path):
    loaded = loading.load_4bit(text_folder, double_quant=False)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    again = loading.load_4bit(tmp_path)
    assert again.quantized_modules == loaded.quantized_modules
    assert not again.model.model.layers[0].mlp.up_proj.weight.quant_state.nested


def test_a_gpu_without_bfloat16_computes_in_float16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert loading.best_compute_dtype() == torch.float16


def logits(model):
    torch.manual_seed(1)
    with torch.no_grad():
        return model(input_ids=torch.randint(96, (1, 12))).logits


@pytest.mark.parametrize("double_quant", [False, True])
def test_a_save_loads_again_with_the_same_logits(vision_folder, tmp_path, double_quant):
    loaded = loading.load_4bit(vision_folder, double_quant=double_quant)
    folder = loading.save_4bit(loaded, tmp_path / "small")
    again = loading.load_4bit(folder)
    assert again.quantized_modules == loaded.quantized_modules
    assert again.notes == ()
    assert torch.equal(logits(again.model), logits(loaded.model))
    assert not (tmp_path / "small.unfinished").exists()
    # Half a byte a weight in the blocks, so less than half of the 16-bit file.
    sizes = [(f / "model.safetensors").stat().st_size for f in (folder, vision_folder)]
    assert sizes[0] < sizes[1]


def repack(model):
    """What bitsandbytes does at the first forward pass on a CPU with bf16 instructions.

    This is its own function, called here so that the trap shows on every CPU.
    """
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            if not getattr(state, "packing_format_for_cpu", False):
                packed = bitsandbytes.functional._convert_weight_packed_for_cpu
                module.weight.data, module.weight.quant_state = packed(module.weight.data, state)
                module.quant_state = module.weight.quant_state


def test_a_save_after_the_weights_were_rearranged_is_another_model(text_folder, tmp_path):
    """transformers saves another model without a word; `save_4bit` refuses."""
    loaded = loading.load_4bit(text_folder, double_quant=False)
    right = [m.weight.quant_state.absmax.clone() for m in four_bit(loaded.model)]
    repack(loaded.model)
    with pytest.raises(LoadError, match="before its first answer"):
        loading.save_4bit(loaded, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    loaded.model.save_pretrained(tmp_path / "stock")
    loaded.tokenizer.save_pretrained(tmp_path / "stock")
    # transformers' save turns the weights back, and then they look as they were: still refused.
    with pytest.raises(LoadError, match="before its first answer"):
        loading.save_4bit(loaded, tmp_path / "refused")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "stock")
    scales = [m.weight.quant_state.absmax for m in four_bit(again)]
    assert not all(torch.equal(a, b) for a, b in zip(scales, right, strict=True))


def four_bit(model):
    return [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]


@pytest.fixture
def saved(text_folder, tmp_path):
    return loading.save_4bit(loading.load_4bit(text_folder), tmp_path / "saved")


@pytest.mark.parametrize("harm", ["shorten", "remove", "no tokenizer", "index", "list of files"])
def test_a_broken_save_is_not_loaded(saved, harm):
    weights = saved / "model.safetensors"
    if harm == "shorten":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif harm == "remove":
        weights.unlink()
    elif harm == "no tokenizer":
        (saved / "tokenizer.json").unlink()
    elif harm == "index":
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
        (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (saved / "generation_config.json").write_text("{")
    with pytest.raises(LoadError, match=r"incomplete|broken") as error:
        loading.load_4bit(saved)
    assert "again" in str(error.value)


def test_one_changed_bit_shows_in_the_checksum_only(saved):
    weights = saved / "model.safetensors"
    checksums = json.loads((saved / MANIFEST).read_text())["sha256"]
    assert checksums == {name: sha256_of(saved / name) for name in checksums}
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    loading.load_4bit(saved)
    assert sha256_of(weights) != checksums["model.safetensors"]


def test_an_interrupted_save_leaves_no_files(text_folder, tmp_path, monkeypatch):
    loaded = loading.load_4bit(text_folder)

    def interrupted(folder):
        (folder / "tokenizer.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(loaded.tokenizer, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loading.save_4bit(loaded, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_not_touched(text_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LoadError, match="not an empty folder"):
        loading.save_4bit(loading.load_4bit(text_folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


TARGETS = {  # where the model is saved, and where it then is
    "a new folder": ("new", "new"),
    "an empty folder": ("empty", "empty"),
    "a link to an empty folder": ("link", "empty"),
    "a link to nothing": ("dangling", "nowhere"),
    "at home": ("~/new", "new"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_save_goes_where_the_path_leads(text, tmp_path, monkeypatch, name):
    given, wanted = TARGETS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    Path("dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(saving, "can_save", lambda model: True)  # it has answered
    folder = loading.save_4bit(text, given)
    assert folder == tmp_path / wanted
    assert (folder / MANIFEST).is_file()
    assert Path("link").is_symlink()
    assert Path("dangling").is_symlink()
    assert not list(tmp_path.rglob("*.unfinished"))


@pytest.mark.parametrize("given", ["file", "file/new", "full"])
def test_a_target_that_cannot_be_written_is_found_before_the_save(
    text, tmp_path, monkeypatch, given
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    monkeypatch.setattr(saving, "can_save", lambda model: True)
    monkeypatch.setattr(type(text.model), "save_pretrained", None)  # fails if it is reached
    with pytest.raises(LoadError, match="Choose another"):
        loading.save_4bit(text, given)
    names = {"file", "full", "full/mine"}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == names


@pytest.mark.parametrize("name", ["flash_attention_2", "spda"])
def test_an_attention_that_is_not_there_is_refused_before_anything_is_fetched(
    text_folder, monkeypatch, name
):
    fetched = []
    monkeypatch.setattr(loading, "is_local", lambda folder: False)
    monkeypatch.setattr(loading, "fetch", lambda *args, **kwargs: fetched.append(args))
    with pytest.raises(LoadError, match=r"cannot be used here: .*Leave it out"):
        loading.load_4bit(text_folder, attn_implementation=name)
    assert fetched == []


def test_eager_attention_needs_nothing(text_folder):
    loaded = loading.load_4bit(text_folder, attn_implementation="eager")
    assert loaded.model.config._attn_implementation == "eager"


def test_a_save_lists_its_files_and_versions(saved):
    manifest = json.loads((saved / MANIFEST).read_text())
    assert manifest["bytes"]["model.safetensors"] == (saved / "model.safetensors").stat().st_size
    assert set(manifest["bytes"]) == {p.name for p in saved.iterdir()} - {MANIFEST}
    assert manifest["versions"]["bitsandbytes"] == bitsandbytes.__version__


OLD_LISTS = {
    "names of transformers 4": ["lm_head", "multi_modal_projector", "vision_tower"],
    "no list at all": None,
}


@pytest.mark.parametrize("case", OLD_LISTS)
def test_a_skip_list_for_another_transformers_is_corrected_from_the_files(
    vision_folder, tmp_path, case
):
    """As in checkpoints that were quantized years ago and put on the Hub."""
    loaded = loading.load_4bit(vision_folder)
    folder = loading.save_4bit(loaded, tmp_path / "old")
    (folder / MANIFEST).unlink()
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["llm_int8_skip_modules"] = OLD_LISTS[case]
    (folder / "config.json").write_text(json.dumps(config))
    again = loading.load_4bit(folder)
    assert again.quantized_modules == loaded.quantized_modules
    assert torch.equal(logits(again.model), logits(loaded.model))
    assert "taken from the files" in again.notes[0]


def test_weights_that_do_not_fit_the_config_are_explained(saved):
    """The last bytes are the settings of a layer's quantization: half of them are gone."""
    weights = saved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-40:] = bytes(40)
    weights.write_bytes(data)
    with pytest.raises(LoadError, match="do not fit its config"):
        loading.load_4bit(saved)


def test_other_quantizations_are_refused(text_folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(text_folder)
    save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="none of its weights"):
        loading.load_4bit(tmp_path)


def test_a_model_that_will_not_fit_is_refused_before_it_is_loaded(text_folder, monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(loading.psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # fails if it is reached
    with pytest.raises(LoadError, match="will not fit") as error:
        loading.load_4bit(text_folder)
    assert "Nothing was downloaded" in str(error.value)
    assert "force=True" in str(error.value)
    monkeypatch.undo()
    monkeypatch.setattr(loading.psutil, "virtual_memory", lambda: Memory)
    assert loading.load_4bit(text_folder, force=True).placement


def test_running_out_of_memory_ends_in_an_explanation(text_folder, monkeypatch):
    """A simulated fault: the real one needs a GPU that is too small."""

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(LoadError, match=r"Tried to allocate 2\.00 GiB") as error:
        loading.load_4bit(text_folder)
    assert error.value.__context__ is None


def test_a_gpu_without_bfloat16_is_refused_for_bfloat16(text_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(LoadError, match=r"Tesla T4 has no bfloat16.*torch\.float16"):
        loading.load_4bit(text_folder, compute_dtype=torch.bfloat16)


class Packed(Exception):
    """bitsandbytes would have packed a layer."""


def test_layers_are_not_packed_while_they_are_asked(text_folder, monkeypatch):
    def packs(*_):
        raise Packed

    # So on a CPU without AVX512-BF16, too.
    monkeypatch.setattr(bitsandbytes.nn.modules, "_convert_weight_packed_for_cpu", packs)
    model, ids = loading.load_4bit(text_folder).model, torch.arange(1, 9)[None]
    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        with loading.unpacked(model):
            model(input_ids=ids)
        assert not any(layer.training for layer in layers)
        with pytest.raises(Packed):
            model(input_ids=ids)


@pytest.mark.parametrize("package", ["pocket_model", "helpers.model"])
def test_the_advice_to_install_kernels_is_not_shown(package):
    """Each package alone must silence it before bitsandbytes is imported."""
    source = Path(cpu_ops.__file__).read_text(encoding="utf-8")
    assert "pip install kernels" in source  # else the two filters can go
    name = cpu_ops.logger.name
    code = f"import logging, {package}; print(logging.getLogger({name!r}).isEnabledFor(30))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
