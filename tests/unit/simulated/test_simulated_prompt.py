from typing import Any

from app.simulated.prompt import MESSAGE_TOKENS, PromptCache, count_prompt

LONG = "x" * 4 * 1500


def payload(*texts: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], **more}


def cached(cache: PromptCache, asked: dict[str, Any]) -> int:
    return cache.cached_tokens(asked, count_prompt(asked))


def test_counts_each_message_and_the_tools() -> None:
    assert count_prompt(payload("abcd", "abcdefgh")) == [0, MESSAGE_TOKENS + 1, MESSAGE_TOKENS + 2]
    assert count_prompt(payload("", tools=[{"type": "function"}]))[0] > 0


def test_counts_images_by_detail() -> None:
    def image(detail: str) -> int:
        part = {"type": "image_url", "image_url": {"url": "data:,", "detail": detail}}
        message = {"role": "user", "content": [{"type": "text", "text": "abcd"}, part]}
        return sum(count_prompt({"messages": [message]}))

    assert image("low") == MESSAGE_TOKENS + 1 + 85
    assert image("high") == MESSAGE_TOKENS + 1 + 765


def test_a_prefix_seen_before_is_cached_in_steps_of_128() -> None:
    cache = PromptCache()
    assert cached(cache, payload(LONG)) == 0
    assert cached(cache, payload(LONG, "and then?")) == 1500 // 128 * 128
    assert cached(cache, payload("other", LONG)) == 0


def test_short_prompts_and_other_models_are_not_cached() -> None:
    cache = PromptCache()
    assert cached(cache, payload("short")) == cached(cache, payload("short")) == 0
    cached(cache, payload(LONG))
    assert cached(cache, payload(LONG) | {"model": "other"}) == 0


def test_the_oldest_prefix_is_forgotten_first() -> None:
    cache = PromptCache(kept_prefixes=2)
    for text in (LONG, LONG + "1", LONG + "2"):
        cached(cache, payload(text))
    assert cached(cache, payload(LONG + "2")) > 0
    assert cached(cache, payload(LONG)) == 0
