#!/usr/bin/env python3
"""Makes the BERT model of this directory, random and tiny, and what another implementation makes of some texts.

    python3 -m venv venv && venv/bin/pip install transformers==4.46.3 jax flax safetensors
    venv/bin/python tests/data/bert/make.py

The vectors in expected.json are those of Hugging Face's FlaxBertModel, pooled and normalised as sentence-transformers does.
"""

import json
import pathlib

import jax
import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, FlaxBertModel

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "run the unit tests",
    "The Kettle is BLUE",
    "kettle",
    "unheard-of words",
    "the kettle is blue " * 12,
    "",
]
WORDS = "the kettle is blue run unit test tests a of in parallel un ##heard ##s - words pot green".split()
# The longest text in word pieces, with the two that stand around it.
PIECES_MAX = 24


def tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"bcdefghijklmnopqrstuvwxyz"]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    made.decoder = decoders.WordPiece()
    return made


def renamed(parameters):
    """From the names and layouts of Flax to those of PyTorch, which files of models have."""
    found = {}
    for path, value in jax.tree_util.tree_flatten_with_path(parameters)[0]:
        names = [part.key for part in path]
        value = numpy.asarray(value, dtype=numpy.float32)
        if names[0] == "pooler":
            continue
        if names[-1] == "kernel":
            names[-1], value = "weight", value.T
        elif names[-1] in ("embedding", "scale"):
            names[-1] = "weight"
        found[".".join(names)] = numpy.ascontiguousarray(value)
    return found


def main():
    made = tokenizer()
    config = BertConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=32,
        initializer_range=0.4,
    )
    model = FlaxBertModel(config, seed=7)
    # Flax begins with biases of 0 and scales of 1: other ones show whether they are used.
    numbers = numpy.random.default_rng(7)
    parameters = jax.tree_util.tree_map(
        lambda value: numpy.asarray(value) + numbers.normal(0, 0.1, value.shape).astype(numpy.float32), model.params
    )
    save_file(renamed(parameters), HERE / "model.safetensors", metadata={"format": "pt"})
    (HERE / "tokenizer.json").write_text(made.to_str(pretty=False) + "\n", encoding="utf-8")
    (HERE / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["BertModel"]}, indent=1) + "\n")
    (HERE / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": PIECES_MAX}) + "\n")

    expected = []
    made.enable_truncation(PIECES_MAX)
    for text in TEXTS:
        encoded = made.encode(text)
        hidden = model(
            numpy.array([encoded.ids]), attention_mask=numpy.array([encoded.attention_mask]), params=parameters
        ).last_hidden_state[0]
        vectors = {"mean": numpy.asarray(hidden.mean(axis=0)), "cls": numpy.asarray(hidden[0])}
        vectors = {
            name: [round(float(number), 6) for number in vector / numpy.linalg.norm(vector)]
            for name, vector in vectors.items()
        }
        expected.append({"text": text, "pieces": len(encoded.ids), **vectors})
    (HERE / "expected.json").write_text(
        "[\n" + ",\n".join(json.dumps(one) for one in expected) + "\n]\n", encoding="utf-8"
    )


main()
