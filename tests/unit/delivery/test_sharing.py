"""What gateways tell each other of deployments."""

from __future__ import annotations

from collections.abc import Mapping

from app.delivery.deployments import Deployments
from app.delivery.sharing import Sharing
from tests.unit.delivery.fakes import model, place

MODEL = model("m", place("a"), place("b"))


class Board:
    def __init__(self) -> None:
        self.left: dict[str, str] = {}

    async def leave(self, notices: Mapping[str, str]) -> None:
        self.left.update(notices)

    async def read(self) -> Mapping[str, str]:
        return dict(self.left)


class Gateway:
    def __init__(self, name: str, board: Board, offset: float) -> None:
        """`offset`: its clock that only runs began at another time."""
        self.deployments = Deployments(clock=lambda: 5.0 + offset)
        self.deployments.configure([MODEL], {}, None, 1)
        self.sharing = Sharing(self.deployments, board, name, clock=lambda: 1_000_000.0)
        self.deployments.on_event = self.sharing._note
        self.a, self.b = self.deployments.of(MODEL)


async def test_an_open_breaker_and_a_cooldown_are_heard_of_once() -> None:
    board = Board()
    one, two = Gateway("one", board, 0), Gateway("two", board, 1_000)
    one.a.breaker.open("errors")
    one.b.cool_down(30)
    await one.sharing.exchange()
    await two.sharing.exchange()
    assert two.a.breaker.until == 1_005 + 5
    assert two.b.cooldown_until == 1_005 + 30
    left = dict(board.left)
    await two.sharing.exchange()
    await one.sharing.exchange()
    assert board.left == left, "what was heard is not told on"
    two.a.breaker.close()
    await two.sharing.exchange()
    assert two.a.breaker.state == "closed", "and not heeded twice"


async def test_what_is_over_or_of_nobody_or_nonsense_is_not_heeded() -> None:
    board = Board()
    one = Gateway("one", board, 0)
    board.left = {
        "open a": "999999.000 two",
        "open nobody": "1000010.000 two",
        "close b": "1000010.000 two",
    }
    await one.sharing.exchange()
    assert one.a.breaker.state == one.b.breaker.state == "closed"
