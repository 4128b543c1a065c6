"""The real `openai` package speaks to us, and understands what it hears."""

from __future__ import annotations

import base64

import openai
import pytest
import requests

from zit_ext.codecs import decode_png

pytestmark = pytest.mark.http


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_picture_can_be_had_as_base64(client):
    answer = client.images.generate(
        prompt="a fox", model="zit", size="256x256", response_format="b64_json", extra_body={"seed": 7}
    )

    picture = decode_png(base64.b64decode(answer.data[0].b64_json))
    assert picture.channels == 3
    assert answer.created > 1_700_000_000


def test_the_url_can_be_fetched_as_it_is(client):
    answer = client.images.generate(prompt="a fox", n=2, extra_body={"seed": 7})

    assert len(answer.data) == 2
    for each in answer.data:
        assert decode_png(requests.get(each.url, timeout=10).content)


def test_where_tokens_are_needed_the_url_bears_its_own_right(guarded):
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="alice-alice-alice-alice") as client:
        url = client.images.generate(prompt="a fox", extra_body={"seed": 7}).data[0].url

    assert requests.get(url, timeout=10).status_code == 200
    assert requests.get(url.replace("namespace=alice", "namespace=bob"), timeout=10).status_code == 401
    assert requests.get(url.partition("?")[0], timeout=10).status_code == 401
    assert requests.get(url[:-1] + ("0" if url[-1] != "0" else "1"), timeout=10).status_code == 401


def test_our_fields_stand_beside_openais(client, pipeline):
    raw = client.images.with_raw_response.generate(
        prompt="a fox",
        size="512x256",
        quality="hd",
        user="me",
        extra_body={"seed": 7, "steps": 3, "guidance": 1.5, "negative_prompt": "blur"},
    )

    asked = pipeline.rendered[0]
    assert (asked.width, asked.height, asked.steps, asked.guidance) == (512, 256, 3, 1.5)
    assert asked.negative_prompt == "blur"
    assert raw.headers["Cache-Status"].startswith("zit_ext; fwd=miss")
    assert raw.parse().data[0].seed == 7


def test_the_second_time_it_is_a_hit(client):
    def ask():
        return client.images.with_raw_response.generate(prompt="a fox", extra_body={"seed": 7})

    ask()
    again = ask()

    assert "hit" in again.headers["Cache-Status"]
    assert float(again.headers["X-Generation-Time-Saved"]) == 1.0


def test_without_a_seed_every_picture_is_another(client, pipeline):
    client.images.generate(prompt="a fox")
    client.images.generate(prompt="a fox")

    assert len({each.seed for each in pipeline.rendered}) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "500x500"}, "width"),
        ({"size": "large"}, "size"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"output_format": "webp"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"extra_body": {"sead": 7}}, "sead"),
        ({"response_format": "jpeg"}, "response_format"),
    ],
)
def test_a_mistake_is_the_clients_own_error(client, pipeline, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a fox", **fields)

    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert pipeline.rendered == []


def test_a_wrong_token_is_the_clients_authentication_error(guarded):
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.images.generate(prompt="a fox")


def test_models_are_listed_and_no_path_is_told(serving):
    served = serving(model="/secret/place/mine", preload="Tongyi-MAI/Z-Image-Turbo")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        names = [each.id for each in client.models.list()]
        assert names == ["mine", "Tongyi-MAI/Z-Image-Turbo"]
        for name in names:
            assert client.models.retrieve(name).id == name
            client.images.generate(prompt="a fox", model=name)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
    assert {each.model.source for each in served.trial.rendered} == {
        "/secret/place/mine",
        "Tongyi-MAI/Z-Image-Turbo",
    }


def test_weights_that_are_not_here_are_not_found(client, pipeline):
    from zit_ext.errors import ModelMissingError

    pipeline.error = ModelMissingError("x", "look in /secret/place")
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt="a fox", model="other")
    assert "secret" not in str(caught.value)
