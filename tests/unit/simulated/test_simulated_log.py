import base64

from app.simulated.log import Log


def test_the_log_is_bounded_in_number() -> None:
    log = Log(kept_exchanges=2)
    for _ in range(5):
        log.open("/", [], b"")
    assert [exchange.number for exchange in log.last(10)] == [4, 5]
    assert [exchange.number for exchange in log.last(1)] == [5]
    assert log.last(0) == []


def test_the_log_is_bounded_in_bytes_but_keeps_the_last() -> None:
    log = Log(kept_bytes=10)
    log.open("/", [], b"123456")
    log.open("/", [], b"123456")
    assert len(log.last(10)) == 1
    log.open("/", [], b"x" * 100)
    assert [len(exchange.body) for exchange in log.last(10)] == [100]


def test_a_body_that_is_no_text_is_kept_all_the_same() -> None:
    shown = Log().open("/v1", [(b"a", b"\xe9")], b"\xff\xfe").as_json()
    assert shown["body"] is None
    assert base64.b64decode(shown["body_base64"]) == b"\xff\xfe"
    assert shown["headers"] == [["a", "é"]]
