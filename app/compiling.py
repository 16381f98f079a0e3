"""From a configuration to the values that serving uses: models, routes, their estimators.

All that `pointsman check` needs, without a socket: what the file alone cannot show (a router's
models, its encoder, its promises) is checked here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from time import time

from app.accounting.declared import keyring
from app.accounting.keyring import Keyring
from app.catalog import pricing
from app.catalog.model import Model
from app.catalog.prices import today
from app.catalog.ready import Ready, ready_prices
from app.config import limit_checks, schema
from app.config.load import Loaded, in_order
from app.config.names import nearest
from app.config.references import section, strings
from app.delivery.cache.terms import Terms, cache_terms, is_semantic
from app.delivery.terms import of_route
from app.errors import ArtifactError, ConfigError, Problem
from app.exchange.money import NANO_PER_DOLLAR, nano_from_usd
from app.opened import Opened
from app.routing.artifact import Artifact
from app.routing.budget import Budget
from app.routing.encoder.base import Encoder
from app.routing.estimators.base import Candidate, Estimator
from app.routing.estimators.prior import Prior
from app.routing.guarantee import Guarantee, guarantee, known_names
from app.routing.margin import Margin
from app.routing.names import DEFAULT_ROUTE, Names
from app.routing.objective import Objective, Quality, Threshold, Tradeoff
from app.routing.pace import Allowance, Pace, PerDay, PerRequest
from app.routing.route import Affinity, Encode, Route

WORKERS_VARIABLE = "POINTSMAN_WORKERS"
"""How many processes share what is given for the whole gateway."""

ROOT = Path(__file__).resolve().parents[1]
ROUTER_MODELS = ROOT / "router_models"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A configuration in the form that serving uses."""

    config: schema.Config
    models: Mapping[str, Model]
    names: Names
    encoder: Encoder | None
    """None where no route encodes."""
    keyring: Keyring
    warnings: tuple[Problem, ...]
    """What is valid and yet probably not meant."""
    cached: Mapping[str, Terms] = field(default_factory=dict)
    """What is answered from the cache, by the name of a route or model."""
    ready: Mapping[str, Ready] = field(default_factory=dict)
    """Prices that the file leaves out and a library knows, by deployment."""
    opened: Opened = field(default_factory=Opened)


def compile_config(loaded: Loaded, before: Opened | None = None) -> Compiled:
    """Check what the file alone cannot show and build the runtime values. What has not changed is
    taken from what was opened `before`.

    Raises ConfigError, with every problem.
    """
    opened = Opened(before)
    config, document = loaded.config, loaded.document
    folder = Path(document.file).parent
    problems: list[Problem] = []
    artifacts: dict[str, Artifact] = {}
    for name, route in config.routes.items():
        if route.router is None or route.router in artifacts:
            continue
        try:
            artifacts[route.router] = opened.artifact(router_directory(route.router, folder))
        except ArtifactError as error:
            problems.append(document.problem(("routes", name, "router"), str(error)))
    problems += _unknown_likes(loaded, artifacts)
    ready, missing = ready_prices(loaded)
    problems += missing
    models = {
        name: Model.compile(name, model, {place: one.prices for place, one in ready.items()})
        for name, model in config.models.items()
    }
    names = _names(config, models, artifacts, opened)
    problems += _blind_routes(loaded, names)
    encoder = None
    if is_semantic(config) or any(route.encode != "never" for route in names.routes.values()):
        try:
            encoder = opened.encoder(config.encoder, router_directory(config.encoder.model, folder))
        except ArtifactError as error:
            problems.append(document.problem(("encoder",), str(error)))
    problems += _foreign_encoders(loaded, artifacts, encoder)
    problems += _missing_promises(loaded, models, artifacts)
    keys, wrong_with_keys = keyring(loaded, os.environ)
    problems += wrong_with_keys
    problems += _missing_driver(loaded)
    problems += _missing_tracer(loaded)
    problems += pricing.problems(loaded, models)
    problems += limit_checks.problems(loaded)
    if problems:
        raise ConfigError(in_order(problems))
    warnings = (
        *_doubts(loaded, models, artifacts),
        *limit_checks.doubts(loaded, worker_count(config)),
    )
    cached = cache_terms(config, names, encoder.fingerprint if encoder else "")
    return Compiled(
        config, models, names, encoder, keys, warnings, cached, ready, opened.complete()
    )


def worker_count(config: schema.Config) -> int:
    """How many processes serve; `serve --workers` has the last word."""
    return int(os.environ.get(WORKERS_VARIABLE) or config.server.workers)


def router_directory(name: str, folder: Path) -> Path:
    """A path as written, seen from the config file, or a name in router_models/."""
    for path in (folder / name, Path(name), ROUTER_MODELS / name):
        if path.is_dir():
            return path
    return ROUTER_MODELS / name


def _unknown_likes(loaded: Loaded, artifacts: Mapping[str, Artifact]) -> Iterator[Problem]:
    known = {name for artifact in artifacts.values() for name in artifact.all_models}
    if not known:
        return
    for name, model in section(loaded.document.values, "models").items():
        for path, like in strings(model, "like"):
            if not any(artifact.knows(like) for artifact in artifacts.values()):
                yield loaded.document.problem(
                    ("models", name, *path),
                    f"no router of this file has outcomes of `{like}`",
                    nearest(like, known) or "`pointsman models` lists them",
                )


def _foreign_encoders(
    loaded: Loaded, artifacts: Mapping[str, Artifact], encoder: Encoder | None
) -> Iterator[Problem]:
    if encoder is None:
        return
    for name, route in loaded.config.routes.items():
        artifact = artifacts.get(route.router or "")
        if artifact is None or route.encode == "never":
            continue
        if artifact.encoder_fingerprint != encoder.fingerprint:
            yield loaded.document.problem(
                ("routes", name, "router"),
                "this router was built with another encoder than `encoder` names",
                "train it again, or name its encoder",
            )


def _blind_routes(loaded: Loaded, names: Names) -> Iterator[Problem]:
    for name in loaded.config.routes:
        route = names.routes[name]
        if route.learned and route.encode == "never" and not route.estimator.reads_text:
            yield loaded.document.problem(
                ("routes", name, "encode"),
                "this route's router predicts from vectors alone, so `never` leaves it blind",
                "`when-unsure` or `always`, or train the router again",
            )


def _missing_promises(
    loaded: Loaded, models: Mapping[str, Model], artifacts: Mapping[str, Artifact]
) -> Iterator[Problem]:
    for name, route in loaded.config.routes.items():
        written = route.objective
        if not isinstance(written, schema.GuaranteeObjective):
            continue
        path = ("routes", name, "objective")
        if route.router is not None and route.router not in artifacts:
            continue
        if "encode" in route.model_fields_set and route.encode != "always":
            yield loaded.document.problem(
                ("routes", name, "encode"), "a guarantee is calibrated on vectors", "`always`"
            )
        artifact = artifacts.get(route.router or "")
        candidates = tuple(models[candidate] for candidate in route.candidates)
        try:
            _guarantee(written, candidates, _baseline(route, models), artifact)
        except ArtifactError as error:
            yield loaded.document.problem(path, str(error))


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a package that it would be in
        return False


def _missing_driver(loaded: Loaded) -> Iterator[Problem]:
    ledger = loaded.config.ledger
    if ledger and (ledger.url or "").startswith("postgres") and find_spec("asyncpg") is None:
        yield loaded.document.problem(
            ("ledger", "url"), "PostgreSQL needs a driver", "pip install 'pointsman[postgres]'"
        )


def _missing_tracer(loaded: Loaded) -> Iterator[Problem]:
    if loaded.config.tracing is not None and not _installed("opentelemetry.exporter.otlp"):
        yield loaded.document.problem(
            ("tracing",), "needs OpenTelemetry's SDK", "pip install 'pointsman[otel]'"
        )


def _doubts(
    loaded: Loaded, models: Mapping[str, Model], artifacts: Mapping[str, Artifact]
) -> Iterator[Problem]:
    config, problem = loaded.config, loaded.document.problem
    if not any(DEFAULT_ROUTE in (name, *route.aliases) for name, route in config.routes.items()):
        yield problem(("routes",), f"no route or alias `{DEFAULT_ROUTE}`, which clients send")
    yield from pricing.doubts(loaded, models)
    for name, route in config.routes.items():
        artifact = artifacts.get(route.router or "")
        for i, candidate in enumerate(route.candidates):
            model = config.models[candidate]
            if artifact and model.quality is None and not artifact.knows(model.like or candidate):
                yield problem(
                    ("routes", name, "candidates", i),
                    f"the router has no outcomes of `{candidate}`: it counts as an average model",
                    "give it `like:` or `quality:`",
                )


def _names(
    config: schema.Config,
    models: Mapping[str, Model],
    artifacts: Mapping[str, Artifact],
    opened: Opened,
) -> Names:
    routes: dict[str, Route] = {}
    workers = worker_count(config)
    for name, written in config.routes.items():
        route = _route(
            name, written, models, artifacts, opened, config.encoder.cache_entries, workers
        )
        for word in (name, *written.aliases):
            routes[word] = route
    return Names(routes, models)


def _route(
    name: str,
    written: schema.Route,
    models: Mapping[str, Model],
    artifacts: Mapping[str, Artifact],
    opened: Opened,
    remembered: int,
    workers: int,
) -> Route:
    candidates = tuple(models[candidate] for candidate in written.candidates)
    artifact = artifacts.get(written.router or "")
    baseline = _baseline(written, models)
    objective = _objective(written.objective, candidates, baseline, artifact, workers)
    if artifact is not None and isinstance(objective, Guarantee):
        described = [Candidate(known) for known in known_names(candidates, artifact).values()]
    else:
        described = [Candidate(m.name, m.like, m.quality) for m in candidates]
    estimator: Estimator
    if artifact is None:
        estimator = Prior(described)
    else:
        estimator = opened.estimator(artifact, described, remembered)
    route = Route(
        name=name,
        candidates=candidates,
        baseline=baseline,
        objective=objective,
        estimator=estimator,
        fallbacks=tuple(models[fallback] for fallback in written.fallbacks),
        learned=artifact is not None,
        encode=_encode(written, objective, artifact),
        margin=Margin(written.encode_margin, written.encode_share),
        pace=objective.pace if isinstance(objective, Budget) else None,
        terms=of_route(written),
        affinity=_affinity(written),
    )
    if written.when_budget_low is None:
        return route
    thrifty = _objective(written.when_budget_low.objective, candidates, baseline, artifact, workers)
    # To pay twice for being quick is not what a low budget is for.
    terms = replace(route.terms, hedge=None)
    return replace(route, thrifty=replace(route, objective=thrifty, terms=terms))


def _affinity(written: schema.Route) -> Affinity | None:
    terms = written.affinity
    if terms is None:
        # A promise was calibrated on requests that are decided one by one.
        terms = written.objective.kind != "guarantee"
    if isinstance(terms, bool):
        return Affinity() if terms else None
    return Affinity(**terms.model_dump())


def _encode(written: schema.Route, objective: Objective, artifact: Artifact | None) -> Encode:
    if artifact is None:
        # Stated qualities are the same for every prompt: there is nothing to encode for.
        return "never"
    # A promise holds for the predictions it was calibrated on, which were made from vectors.
    return "always" if isinstance(objective, Guarantee) else written.encode


def _baseline(written: schema.Route, models: Mapping[str, Model]) -> Model:
    if written.baseline:
        return models[written.baseline]
    return _dearest(tuple(models[candidate] for candidate in written.candidates))


def _dearest(candidates: tuple[Model, ...]) -> Model:
    """Of the priced ones by their output price; it stands for "always use the big model"."""

    def output_price(model: Model) -> int:
        prices = model.prices and model.prices.on(today())
        return prices.output if prices else -1

    return max(candidates, key=output_price)


def _objective(
    written: schema.Objective,
    candidates: tuple[Model, ...],
    baseline: Model,
    artifact: Artifact | None,
    workers: int,
) -> Objective:
    match written:
        case schema.QualityObjective():
            return Quality(written.keep, written.confidence)
        case schema.TradeoffObjective():
            return Tradeoff(nano_from_usd(written.answer_value_usd))
        case schema.ThresholdObjective():
            return Threshold(written.threshold, written.strong or baseline.name, written.weak)
        case schema.BudgetObjective():
            return Budget(Pace(_allowance(written, workers)))
        case schema.GuaranteeObjective():
            try:
                return _guarantee(written, candidates, baseline, artifact)
            except ArtifactError:
                # `_missing_promises` reports it; until then the other checks need some route.
                return Quality()


def _allowance(written: schema.BudgetObjective, workers: int) -> Allowance:
    if written.usd_per_1k_requests is not None:
        return PerRequest(float(written.usd_per_1k_requests) * NANO_PER_DOLLAR / 1000)
    assert written.usd_per_day is not None
    return PerDay(float(written.usd_per_day) * NANO_PER_DOLLAR / workers, time)


def _guarantee(
    written: schema.GuaranteeObjective,
    candidates: tuple[Model, ...],
    baseline: Model,
    artifact: Artifact | None,
) -> Guarantee:
    if artifact is None:
        raise ArtifactError("a guarantee needs a router, and `router` is null")
    strong = next((m for m in candidates if m.name == (written.strong or baseline.name)), baseline)
    return guarantee(candidates, strong, written.keep, written.delta, artifact)
