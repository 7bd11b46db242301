#!/usr/bin/env python3
"""Trains tokenizers of real size on real text, for the differential tests and the benchmarks.

    python train_large.py OUT_DIR < texts    (one JSON string a line)

bpe.json is like RoBERTa's; xlmr-*.json and t5-*.json are Unigram models trained by SentencePiece, with its own compiled
normalization rules (some 240 kB), as the converters of the transformers library write them. Needs tokenizers, sentencepiece.
"""
import base64
import io
import json
import os
import struct
import sys

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers


def fields(data):
    """The fields of a protobuf message."""
    i = 0

    def varint():
        nonlocal i
        value = shift = 0
        while True:
            c = data[i]
            i += 1
            value |= (c & 127) << shift
            shift += 7
            if c < 128:
                return value

    while i < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        n = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, data[i:i + n]
        i += n


def unigram(texts, rules):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, vocab_size=8000,
                                             normalization_rule_name=rules, minloglevel=2)
    pieces, charsmap = [], None
    for field, value in fields(model.getvalue()):
        if field == 1:
            piece = dict(fields(value))
            pieces.append([piece[1].decode(), struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]])
        elif field == 3:
            charsmap = dict(fields(value))[2]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    text, s = {"Sequence": {"id": "A", "type_id": 0}}, lambda token: {"SpecialToken": {"id": token, "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "decoder": None,
        "added_tokens": [dict(id=i, content=c, special=True, single_word=False, lstrip=False, rstrip=False, normalized=False) for i, c in enumerate(special)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [s("<s>"), text, s("</s>")], "pair": [s("<s>"), text, s("</s>")],
                           "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in ((0, "<s>"), (2, "</s>"))}},
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": False, "vocab": [[t, 0.0] for t in special] + pieces[3:]},
    }


def main():
    out = sys.argv[1]
    texts = [json.loads(line) for line in sys.stdin]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=30000, special_tokens=["<s>", "</s>"], show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    bpe.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    bpe.save(os.path.join(out, "bpe.json"))
    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    for rules in ("nmt_nfkc", "nmt_nfkc_cf"):
        data = unigram(texts, rules)
        for name, pre in (("xlmr", {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]}),
                          ("t5", dict(meta, prepend_scheme="first"))):
            data["pre_tokenizer"] = pre
            with open(os.path.join(out, f"{name}-{rules}.json"), "w") as f:
                json.dump(data, f)


main()
