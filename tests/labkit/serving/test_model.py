"""Which model is served, and how it is placed on a machine."""

import json
from dataclasses import replace

import pytest
from machines import LAPTOP

from helpers.model.cards import GIB
from labkit.serving import model
from labkit.serving.errors import ServingError

SMALL = "mistralai/Mistral-Small-3.2-24B-Instruct-2506"


def gpus(number: int, gib: int):
    return replace(LAPTOP, gpu_bytes=(gib * GIB,) * number)


@pytest.mark.parametrize("name", [SMALL, "mistral-small-3.2", "small"])
def test_a_name_of_the_kit_or_of_the_hub_is_the_same_model(name):
    found = model.find(name)
    assert (found.path, found.name, found.images) == (SMALL, SMALL, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mistral-smal-3.2", ["Did you mean", "mistral-small-3.2", "pocket", "folder"]),
        ("mistralai/No-Such-Model", ["There are:", "folder"]),
        ("llama-3.3-70b", ["no files in Mistral's format", "vllm serve meta-llama"]),
        ("./no/such/folder", ["is no folder", "params.json", "tekken.json", "hf download"]),
    ],
)
def test_a_wrong_model_is_refused_with_what_there_is(name, words):
    with pytest.raises(ServingError) as refused:
        model.find(name)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_folder_that_lacks_a_file_is_named(model_folder, tmp_path):
    for file in (model_folder / "mistral").iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert model.find(str(tmp_path)).name == tmp_path.name
    (tmp_path / "tekken.json").unlink()
    with pytest.raises(ServingError, match=r"lacks tekken\.json\. ") as refused:
        model.find(str(tmp_path))
    assert str(tmp_path) in str(refused.value)
    (tmp_path / "tekken.json").write_text("{}")
    (tmp_path / "params.json").unlink()
    (tmp_path / "params.json").write_text(json.dumps({"dim": 8}))
    with pytest.raises(ServingError, match=r"params\.json is not a model's: KeyError"):
        model.find(str(tmp_path))


def test_a_folder_needs_what_the_same_model_by_name_needs(model_folder):
    named, folder = model.find("pocket"), model.find(str(model_folder / "mistral"))
    assert folder.path == named.path
    assert folder.images
    for machine in (LAPTOP, replace(LAPTOP, free_bytes=5 * GIB)):
        assert model.place(folder, machine) == model.place(named, machine)


def test_the_24b_takes_as_few_gpus_as_it_fits_on():
    small = model.find(SMALL)
    # 44.7 GiB of weights, and 0.6 GiB of KV cache for 4,096 tokens
    assert model.place(small, gpus(1, 80)).tensor_parallel == 1
    assert model.place(small, gpus(8, 80)).tensor_parallel == 1
    assert model.place(small, gpus(2, 40)).tensor_parallel == 2
    assert model.place(small, gpus(4, 24)).tensor_parallel == 4
    assert model.place(small, gpus(2, 80), tensor_parallel=2).tensor_parallel == 2


def test_the_context_is_what_the_memory_allows():
    small = model.find(SMALL)
    roomy, tight = model.place(small, gpus(1, 80)), model.place(small, gpus(1, 52))
    assert roomy.context == model.USUAL_CONTEXT
    assert model.LEAST_CONTEXT <= tight.context < roomy.context
    assert model.place(small, gpus(1, 80), context=100_000).context == 99_328  # whole blocks
    with pytest.raises(ServingError, match="131,072"):
        model.place(small, gpus(1, 80), context=200_000)


@pytest.mark.parametrize(
    ("machine", "options", "words"),
    [
        (LAPTOP, {}, ["needs 48", "free memory", "Nothing was installed", "helpers fit"]),
        (gpus(1, 24), {}, ["needs 4", "1 GPUs has 21.6 GiB"]),
        (gpus(2, 24), {}, ["2 GPUs has 43.2 GiB"]),
        (gpus(1, 80), {"replicas": 2}, ["2 servers", "1 GPUs"]),
        (gpus(4, 80), {"tensor_parallel": 3}, ["3 GPUs each", "8 key/value heads"]),
    ],
)
def test_too_little_memory_is_said_before_anything_is_installed(machine, options, words):
    with pytest.raises(ServingError) as refused:
        model.place(model.find(SMALL), machine, **options)
    assert [word for word in words if word not in str(refused.value)] == []


def test_several_servers_share_the_memory_of_a_cpu():
    pocket = model.find("pocket")
    five = replace(LAPTOP, free_bytes=5 * GIB)
    assert model.place(pocket, five).context == 8192
    with pytest.raises(ServingError, match=r"each of 2 servers has 2\.5 GiB"):
        model.place(pocket, five, replicas=2)
