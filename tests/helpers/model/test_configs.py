"""The shapes in data/model_configs, against the parameter counts on the models' own pages."""

import json

import pytest
from transformers import AutoConfig

from helpers.model import configs

PUBLISHED = {
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-small-3-2501": 23_572_403_200,
    "mistral-small-3.1-2503": 24_011_361_280,
    "mistral-small-3.2-2506": 24_011_361_280,
    "llama-3.3-70b": 70_553_706_496,
    "llama-2-13b": 13_015_864_320,
    "qwen2.5-32b": 32_763_876_352,
    "gemma-2-27b": 27_227_128_320,
}


def test_every_config_is_in_the_table():
    assert configs.names() == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_on_the_meta_device(name):
    model = configs.empty_model(configs.load(name))
    assert configs.count_parameters(model) == PUBLISHED[name]
    assert configs.about(name)["published_parameters"] == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_reads_the_file_as_it_is(name):
    config = AutoConfig.from_pretrained(configs.FOLDER / f"{name}.json")
    assert config.get_text_config().num_hidden_layers > 0
    assert {"repository", "source", "written", "published_parameters"} <= set(configs.about(name))


def test_vision_tower_and_projector():
    model = configs.empty_model(configs.load("mistral-small-3.2-2506")).model
    assert configs.count_parameters(model.vision_tower) == 403_305_472
    assert configs.count_parameters(model.multi_modal_projector) == 35_652_608


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("mistral-small-3.2-2506", "mistral-small-3.2-2506"),
        ("small-3.2", "mistral-small-3.2-2506"),
        ("Mistral Small 3", "mistral-small-3-2501"),
        ("7b", "mistral-7b-v0.3"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-3.2-2506"),
    ],
)
def test_names_and_short_names(name, stem):
    assert configs.resolve(name) == stem
    assert configs.about(name) == configs.about(stem)


def test_every_alias_names_a_file():
    assert set(configs.ALIASES.values()) <= set(configs.names())


def test_an_unknown_name_gets_the_nearest_and_all():
    with pytest.raises(ValueError, match=r"Did you mean mistral-small-3.2.*llama-2-13b"):
        configs.load("mistral-smal-3.2")


def test_another_models_value_never_stands_in_for_a_missing_field():
    with pytest.raises(ValueError, match="hidden_size is missing, expected"):
        configs.load({"model_type": "mistral"})


def raw(name):
    return json.loads((configs.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("field", [*configs.TEXT_SIZES, "tie_word_embeddings", "model_type"])
def test_a_missing_field_is_named(field):
    config = raw("mistral-7b-v0.3")
    del config[field]
    with pytest.raises(ValueError, match=f"{field} is .*expected"):
        configs.load(config)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("text_config", "num_key_value_heads"),
        ("text_config", "model_type"),
        ("vision_config", "patch_size"),
        ("vision_config", "head_dim"),
    ],
)
def test_a_missing_field_of_a_part_is_named(part, field):
    config = raw("mistral-small-3.2-2506")
    del config[part][field]
    with pytest.raises(ValueError, match=rf"{part}\.{field} is .*expected"):
        configs.load(config)


@pytest.mark.parametrize("value", [0, -1, "many", 1.5, True])
def test_a_size_of_no_use_is_named(value):
    with pytest.raises(ValueError, match=r"hidden_size is .*positive whole number"):
        configs.load(raw("mistral-7b-v0.3") | {"hidden_size": value})


def test_a_configuration_is_checked_too():
    config = configs.load("small-3.2")
    assert configs.load(config) is config
    config.text_config.num_key_value_heads = 0
    with pytest.raises(ValueError, match=r"text_config\.num_key_value_heads is 0, expected"):
        configs.load(config)
    with pytest.raises(ValueError, match="model_type is 'gpt2', expected one of mistral"):
        configs.load({"model_type": "gpt2"})
