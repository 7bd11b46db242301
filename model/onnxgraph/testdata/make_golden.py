#!/usr/bin/env python3
"""Writes small random models and what the transformers library makes of three texts, one folder a family, beside this file.

Needs torch and transformers (made with 2.15 and 5.24). golden.safetensors holds ids and mask as numbers, [text, length], and the
last hidden state, zero where the mask is.
"""
import os

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel, RobertaConfig, RobertaModel

here = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(3)
sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=40, initializer_range=0.3, layer_norm_eps=1e-5)
for model, longest in (
    # MPNet's text reaches beyond the last edge of its buckets of distances.
    (BertModel(BertConfig(**sizes, max_position_embeddings=32)), 30),
    (RobertaModel(RobertaConfig(**sizes, max_position_embeddings=34, type_vocab_size=1, pad_token_id=1)), 30),
    (MPNetModel(MPNetConfig(**sizes, max_position_embeddings=152, pad_token_id=1)), 150),
):
    model.eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name or "LayerNorm" in name:
                p.add_(torch.randn_like(p) * 0.3)
    folder = os.path.join(here, model.config.model_type)
    model.save_pretrained(folder)
    lengths = (longest, 3, 17)
    ids, mask = torch.full((len(lengths), longest), model.config.pad_token_id), torch.zeros((len(lengths), longest), dtype=torch.long)
    for row, n in enumerate(lengths):
        ids[row, :n] = torch.randint(4, sizes["vocab_size"], (n,))
        mask[row, :n] = 1
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
    save_file({"ids": ids.float(), "mask": mask.float(), "hidden": hidden.contiguous()}, os.path.join(folder, "golden.safetensors"))
