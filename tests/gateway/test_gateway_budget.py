"""A route with a budget, served: what it spends is what it was given, and /v1/decision shows it."""

from app.simulated.control import Control
from tests.gateway.conftest import Serve, body

CONFIG = """
upstreams:
  sim: {{kind: openai, base_url: {upstream}}}
models:
  small: {{upstream: sim, prices: {{input: 0.1, output: 0.4, cached_input: 0}}, quality: 0.7}}
  large: {{upstream: sim, prices: {{input: 5, output: 20, cached_input: 0}}, quality: 0.8}}
routes:
  auto:
    candidates: [small, large]
    router: null
    objective: {{kind: budget, usd_per_1k_requests: 0.6}}
"""


def test_spending_follows_the_budget(gateway: Serve, simulated: Control) -> None:
    """The large model alone would spend .93; what answers cost is a sixth of what is expected."""
    served = gateway(CONFIG)
    costs = []
    for number in range(400):
        answer = served.chat(messages=[{"role": "user", "content": f"Tell me about {number}."}])
        assert answer.status_code == 200
        costs.append(float(answer.headers["x-pointsman-cost-usd"]))
    assert {answer["model"] for answer in simulated.log()} == {"small", "large"}
    assert abs(sum(costs[200:]) / 200 * 1000 - 0.6) < 0.06


def test_the_decision_shows_the_budget_and_spends_nothing(
    gateway: Serve, simulated: Control
) -> None:
    served = gateway(CONFIG)
    said = [served.http.post("/v1/decision", json=body()).json() for _ in range(50)]
    assert said[0]["objective"] == said[-1]["objective"]
    assert said[0]["objective"]["kind"] == "budget"
    assert said[0]["objective"]["usd_per_1k_requests"] == 0.6
    assert said[0]["reason"] in ("budget_worth", "budget_slack")


def test_what_was_not_served_costs_nothing(gateway: Serve, simulated: Control) -> None:
    served = gateway(CONFIG.replace("0.6}}", "0.61}}"))
    simulated.script(times=None, status=400)
    for _ in range(50):
        assert served.chat().status_code == 400
    said = served.http.post("/v1/decision", json=body()).json()
    assert (said["model"], said["reason"]) == ("large", "budget_slack")
