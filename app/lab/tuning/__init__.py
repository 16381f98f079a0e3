"""Fine-tuned encoders: vectors that lie as routing needs them, learned from outcomes.

Contrastive tuning (OrchestraLLM) moves prompts of one kind together; the classifier (RouteLLM's
BERT) trains encoder and quality heads in one piece. Both end as an ordinary encoder directory.
Torch loads when tuning starts, never before.
"""

from app.lab.tuning.classifier import TunedClassifier, tune_classifier
from app.lab.tuning.contrastive import TunedEncoder, tune_contrastive
from app.lab.tuning.export import export
from app.lab.tuning.run import tune
from app.lab.tuning.settings import TuneSettings

__all__ = [
    "TuneSettings",
    "TunedClassifier",
    "TunedEncoder",
    "export",
    "tune",
    "tune_classifier",
    "tune_contrastive",
]
