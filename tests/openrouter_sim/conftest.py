"""The simulator in front of a scripted server."""

import openai
import pytest
from scripted_pocket import scripted_simulator

from helpers import prices
from openrouter_sim import faults, recorder


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    """With everything that goes over the wire on record."""
    log = tmp_path_factory.mktemp("wire") / "log.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(recorder.LOG_VARIABLE, str(log))
        with scripted_simulator(patch, prices.priced_models()) as simulator:
            simulator.log = log
            yield simulator


@pytest.fixture(scope="module")
def client(sim):
    return openai.OpenAI(base_url=sim.base_url, api_key=faults.KEY, max_retries=0)
