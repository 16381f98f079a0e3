"""A small synthetic world, trained once."""

import warnings
from pathlib import Path

import pytest

from app.lab.outcomes import OutcomeTable, build_table
from app.lab.synthetic import TOPICS, synthetic_rows, train_synthetic


@pytest.fixture(scope="session")
def table() -> OutcomeTable:
    return build_table(synthetic_rows(900, seed=1))


@pytest.fixture(scope="session")
def router_directory(table: OutcomeTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("routers") / "words"
    train_synthetic(table, out)
    return out


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a two-layer transformer that knows the synthetic words, at random."""
    pytest.importorskip("sentence_transformers")
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    place = tmp_path_factory.mktemp("tiny")
    words = sorted({word for _, topic in TOPICS.values() for word in topic.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "number", *words]
    (place / "vocab.txt").write_text("\n".join(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        BertModel(config).save_pretrained(place / "bert")
        BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place / "bert")
        modules = [Transformer(str(place / "bert"), max_seq_length=32), Pooling(32), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(str(place / "model"))
    return str(place / "model")
