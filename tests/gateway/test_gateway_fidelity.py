"""However a body is spelt, the upstream is asked for its own model and all else stays as it was."""

import orjson
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import Gateway

MESSAGES = b'"messages":[{"role":"user","content":"x"}]'


@pytest.mark.parametrize(
    "spelling",
    [
        b'{"model":"auto",%s}',
        b' \n{\t"model"\r\n:\n "auto" ,%s}\n',
        b'{%s,"model":"\\u0061uto"}',
        b'{%s,"mod\\u0065l":"auto"}',
        b'{"x":{"model":"auto"},%s,"mod\\u0065l":"auto"}',
        b'{"model":"large",%s,"model":"auto"}',
        b'{"model":{"model":"auto"},%s,"model":"auto"}',
        b'{"mod\\u0065l":"large",%s,"model":"auto"}',
        b'{"a":"\\"model\\":\\"auto\\"","b":"},{\\\\","model":"auto",%s}',
        b'{"x":[{"model":"auto"}],"y":{"z":{"model":"auto"}},%s,"model":"auto"}',
        b'{"auto":"model","Model":"auto",%s,"model":"auto"}',
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_model_is_set_however_it_is_spelt(
    standard: Gateway, simulated: Control, spelling: bytes, stream: bool
) -> None:
    fields = MESSAGES + (b',"stream":true' if stream else b"")
    content = spelling % fields
    assert standard.chat(content=content).status_code == 200
    sent = orjson.loads(simulated.log()[-1]["body"])
    wanted = {**orjson.loads(content), "model": "up-small"}
    if stream:
        wanted["stream_options"] = {"include_usage": True}
    assert sent == wanted
    assert b"large" not in simulated.log()[-1]["body"].encode()


@pytest.mark.parametrize(
    "options",
    [
        b"null",
        b"{}",
        b'{"include_usage":false}',
        b'{"include_usage":null,"mine":1.50}',
        b'{"mine":{"include_usage":true}}',
    ],
)
def test_usage_is_asked_for_whatever_the_options(
    standard: Gateway, simulated: Control, options: bytes
) -> None:
    content = b'{"model":"auto","stream":true,"stream_options":%s,%s}' % (options, MESSAGES)
    answer = standard.chat(content=content)
    assert answer.status_code == 200
    assert '"choices":[]' not in answer.text
    sent = orjson.loads(simulated.log()[-1]["body"])["stream_options"]
    assert sent == {**(orjson.loads(options) or {}), "include_usage": True}


def test_a_stream_with_usage_asked_for_is_sent_as_it_came(
    standard: Gateway, simulated: Control
) -> None:
    content = b'{"model":"auto" , "stream":true,"stream_options":{ "include_usage":true },%s}' % (
        MESSAGES
    )
    standard.chat(content=content)
    assert simulated.log()[-1]["body"].encode() == content.replace(b'"auto"', b'"up-small"')


def test_usage_in_every_chunk_counts_once(standard: Gateway) -> None:
    """Some servers report running totals: the last one is the bill."""

    def chunk(output: int) -> str:
        usage = {"prompt_tokens": 10, "completion_tokens": output, "total_tokens": 10 + output}
        body = {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {}}], "usage": usage}
        return f"data: {orjson.dumps(body).decode()}\n\n"

    before = standard.metric("pointsman_tokens_total", model="large", kind="output")
    events = [*map(chunk, (1, 2, 3)), "data: [DONE]\n\n"]
    answer = standard.chat(model="large", stream=True, x_simulate={"raw_sse": events})
    assert answer.text.count('"usage"') == 3
    assert standard.metric("pointsman_tokens_total", model="large", kind="output") == before + 3


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "7", "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": "x"},
        {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
        {"prompt_tokens": 10**30, "completion_tokens": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_makes_no_sense_costs_nothing_and_is_counted(
    standard: Gateway, usage: dict[str, object], stream: bool
) -> None:
    def counts() -> list[float]:
        names = ["pointsman_unpriced_requests_total", "pointsman_cost_dollars_total"]
        return [standard.metric(name, model="small") for name in names]

    before = counts()
    text = orjson.dumps(usage).decode() if 10**30 not in usage.values() else str(usage)
    usage_text = text.replace("'", '"')
    kind, choice = ("chat.completion.chunk", "delta") if stream else ("chat.completion", "message")
    body = (
        f'{{"id":"x","object":"{kind}","model":"m","choices":[{{"index":0,"{choice}":{{}}}}],'
        f'"usage":{usage_text}}}'
    )
    raw = [f"data: {body}\n\n", "data: [DONE]\n\n"] if stream else [body]
    answer = standard.chat(stream=stream, x_simulate={"raw_sse": raw})
    assert answer.status_code == 200
    assert "x-pointsman-cost-usd" not in answer.headers
    assert counts() == [before[0] + 1, before[1]]


def test_a_providers_own_cost_is_not_believed(standard: Gateway) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000, "cost": 555533}
    answer = standard.chat(model="large", x_simulate={"usage": usage})
    assert answer.headers["x-pointsman-cost-usd"] == "0.005"
