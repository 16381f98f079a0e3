"""From a configuration to a wired application: the only place that picks concrete classes.

`compile_config` does all that `pointsman check` needs, without a socket; `application` adds what
serving needs.
"""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Any

from fastapi import FastAPI

from app.api import routes as doors
from app.catalog.model import Model
from app.config import schema
from app.config.load import Loaded, in_order, load
from app.config.names import nearest
from app.config.references import section, strings
from app.delivery.upstreams.base import Timeouts, Upstream
from app.delivery.upstreams.http import HTTPClient, HTTPUpstream
from app.errors import ArtifactError, ConfigError, Problem
from app.exchange.money import NANO_PER_DOLLAR, nano_from_usd
from app.pipeline import Pipeline
from app.routing.artifact import Artifact, load_artifact
from app.routing.budget import Budget
from app.routing.encoder.base import Encoder
from app.routing.encoder.embedder import Embedder
from app.routing.estimators.base import Candidate, Estimator
from app.routing.estimators.prior import Prior
from app.routing.estimators.remembered import Remembered
from app.routing.guarantee import Guarantee, guarantee, known_names
from app.routing.names import DEFAULT_ROUTE, Names
from app.routing.objective import Objective, Quality, Threshold, Tradeoff
from app.routing.pace import Allowance, Pace, PerDay, PerRequest
from app.routing.route import Encode, Route
from app.telemetry.logs import log
from app.telemetry.metrics import Metrics

CONFIG_VARIABLE = "POINTSMAN_CONFIG"
_PER_TOKEN = Decimal("0.001")
"""Dollars per million tokens that nobody asks: who writes less means dollars per token."""
WORKERS_VARIABLE = "POINTSMAN_WORKERS"
"""How many processes share what is given for the whole gateway."""
SIMULATED_VARIABLE = "POINTSMAN_SIMULATED_"
"""Plus an upstream's name: where the process that serves it has been started."""

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
    warnings: tuple[Problem, ...]
    """What is valid and yet probably not meant."""


# --- compiling -------------------------------------------------------------------------------


def compile_config(loaded: Loaded) -> Compiled:
    """Check what the file alone cannot show and build the runtime values.

    Raises ConfigError, with every problem.
    """
    config, document = loaded.config, loaded.document
    folder = Path(document.file).parent
    problems: list[Problem] = []
    artifacts: dict[str, Artifact] = {}
    for name, route in config.routes.items():
        if route.router is None or route.router in artifacts:
            continue
        try:
            artifacts[route.router] = load_artifact(router_directory(route.router, folder))
        except ArtifactError as error:
            problems.append(document.problem(("routes", name, "router"), str(error)))
    problems += _unknown_likes(loaded, artifacts)
    models = {name: Model.compile(name, model) for name, model in config.models.items()}
    names = _names(config, models, artifacts)
    problems += _blind_routes(loaded, names)
    encoder = None
    if any(route.encode != "never" for route in names.routes.values()):
        try:
            encoder = _encoder(config.encoder, folder)
        except ArtifactError as error:
            problems.append(document.problem(("encoder",), str(error)))
    problems += _foreign_encoders(loaded, artifacts, encoder)
    problems += _missing_promises(loaded, artifacts)
    if problems:
        raise ConfigError(in_order(problems))
    return Compiled(config, models, names, encoder, tuple(_doubts(loaded, artifacts)))


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


def _missing_promises(loaded: Loaded, artifacts: Mapping[str, Artifact]) -> Iterator[Problem]:
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
        models = {m: Model.compile(m, loaded.config.models[m]) for m in route.candidates}
        try:
            _guarantee(written, tuple(models.values()), _baseline(route, models), artifact)
        except ArtifactError as error:
            yield loaded.document.problem(path, str(error))


def _doubts(loaded: Loaded, artifacts: Mapping[str, Artifact]) -> Iterator[Problem]:
    config, problem = loaded.config, loaded.document.problem
    if not any(DEFAULT_ROUTE in (name, *route.aliases) for name, route in config.routes.items()):
        yield problem(("routes",), f"no route or alias `{DEFAULT_ROUTE}`, which clients send")
    for name, model in config.models.items():
        if model.prices is None:
            yield problem(("models", name), "no prices: its cost is unknown, it is chosen last")
        elif 0 < max(model.prices.input, model.prices.output) < _PER_TOKEN:
            yield problem(
                ("models", name, "prices"), "far below any model's", "dollars per million tokens"
            )
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


def _encoder(written: schema.Encoder, folder: Path) -> Encoder:
    if written.backend == "onnx":
        from app.routing.encoder.onnx import OnnxEncoder

        return OnnxEncoder(router_directory(written.model, folder))
    from app.routing.encoder.sentence_transformers import SentenceTransformersEncoder

    return SentenceTransformersEncoder(written.model)


def _names(
    config: schema.Config, models: Mapping[str, Model], artifacts: Mapping[str, Artifact]
) -> Names:
    routes: dict[str, Route] = {}
    # `serve --workers` has the last word.
    workers = int(os.environ.get(WORKERS_VARIABLE) or config.server.workers)
    for name, written in config.routes.items():
        route = _route(name, written, models, artifacts, config.encoder.cache_entries, workers)
        for word in (name, *written.aliases):
            routes[word] = route
    return Names(routes, models)


def _route(
    name: str,
    written: schema.Route,
    models: Mapping[str, Model],
    artifacts: Mapping[str, Artifact],
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
        estimator = Remembered(artifact.estimator(described), remembered)
    return Route(
        name=name,
        candidates=candidates,
        baseline=baseline,
        objective=objective,
        estimator=estimator,
        fallbacks=tuple(models[fallback] for fallback in written.fallbacks),
        learned=artifact is not None,
        encode=_encode(written, objective, artifact),
        encode_margin=written.encode_margin,
        pace=objective.pace if isinstance(objective, Budget) else None,
    )


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
    return max(candidates, key=lambda model: model.prices.output if model.prices else -1)


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


# --- wiring ----------------------------------------------------------------------------------


def application(loaded: Loaded) -> FastAPI:
    """The wired gateway. Its lifespan opens and closes what it holds."""
    compiled = compile_config(loaded)
    server = compiled.config.server
    for warning in compiled.warnings:
        log.warning("%s", warning)
    metrics = Metrics()
    client = HTTPClient()
    embedder = _embedder(compiled, metrics)
    pipeline = Pipeline(
        names=compiled.names,
        upstreams=_upstreams(compiled.config, client),
        embedder=embedder,
        metrics=metrics,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        # What was built until now lives as long as the process: the collector need not look again.
        gc.collect()
        gc.freeze()
        async with client:
            yield {"header_timeout_seconds": server.header_timeout_seconds}
        if embedder is not None:
            embedder.close()
        metrics.close()

    return doors.application(pipeline, server, lifespan)


def offline_pipeline(compiled: Compiled) -> Pipeline:
    """A pipeline that can decide and explain, with no upstream behind it."""
    metrics = Metrics()
    return Pipeline(compiled.names, {}, _embedder(compiled, metrics), metrics)


def application_from_environment() -> FastAPI:
    """For uvicorn's workers, each of which builds its own."""
    return application(load(Path(os.environ[CONFIG_VARIABLE])))


def _embedder(compiled: Compiled, metrics: Metrics) -> Embedder | None:
    if compiled.encoder is None:
        return None
    # The first run of a graph allocates its memory; that must not fall on the first client.
    compiled.encoder.encode(["warm up"])
    return Embedder(
        compiled.encoder,
        cache_entries=compiled.config.encoder.cache_entries,
        on_encode=metrics.encoded,
    )


def _upstreams(config: schema.Config, client: HTTPClient) -> dict[str, Upstream]:
    return {name: _upstream(name, entry, client) for name, entry in config.upstreams.items()}


def _upstream(name: str, written: schema.Upstream, client: HTTPClient) -> Upstream:
    times = written.timeouts
    timeouts = Timeouts(
        connect=times.connect_seconds,
        first_byte=times.first_byte_seconds,
        idle=times.idle_seconds,
        total=times.total_seconds,
    )
    headers: dict[str, str] = {}
    stream_usage = True
    if isinstance(written, schema.SimulatedUpstream):
        base_url = os.environ.get(SIMULATED_VARIABLE + name, "http://127.0.0.1:9/v1")
    else:
        base_url = written.base_url
        stream_usage = written.stream_usage
        if written.api_key is not None:
            headers["Authorization"] = f"Bearer {written.api_key.get_secret_value()}"
        headers |= {key: value.get_secret_value() for key, value in written.headers.items()}
    return HTTPUpstream(name, base_url, headers, timeouts, client, stream_usage=stream_usage)
