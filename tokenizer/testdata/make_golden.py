#!/usr/bin/env python3
"""Trains tiny tokenizers with the official library and writes what it makes of some texts, for tests without Python.

    python make_golden.py [OUT_DIR]     (default: this folder)

Writes wordpiece.json, bpe.json, unigram.json, chars.json (complete tokenizer.json files), variants.json (name -> base file and the
parts that differ) and golden.json (texts; name -> ids of each text). Training is not the same twice, so these files
belong together.
"""
import base64
import json
import os
import struct
import sys
import unicodedata

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))

WORDS = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which
one you were her all she there would their we him been has when who will more no if out so said what up its about into than
them can only other new some could time these two may then do first any my now such like our over man me even most made after
also did many before must through back years where much your way well down should because each just those people how too little
state good very make world still own see men work long get here between both life being under never day same another know while
last might us great old year off come since against go came right used take three tokenization unbelievable running tokenizer
embedding sentence vector model don't I'll we've they're it's can't U.S. $1,234.56 3.14 2024 e-mail foo@bar.com naïve café
straße Zürich résumé Ελλάδα κόσμος Москва привет мир שלום عالم नमस्ते दुनिया こんにちは世界 東京 北京 你好 한국어 สวัสดี""".split()
CORPUS = [" ".join(WORDS[i::k][:12]) + "." for k in (1, 2, 3, 5, 7) for i in range(0, len(WORDS), 3)]
CORPUS += [w.capitalize() + ", " + w.upper() + "!" for w in WORDS]

TEXTS = ["", " ", "  ", "\n", "\t a \r\n b\n\n c ", "a", " a", "a ", "the", "The Running tokenizer", "unbelievable tokenization!!",
    "don't I'll we've they're it's can't 's 'S ''s", "$1,234.56 3.14% 2024-01-02", "e-mail foo@bar.com http://x.y/z?a=b&c=d#e",
    "naïve café", "nai\u0308ve cafe\u0301", "ﬁne ﬂow ½ ² ™ Å Å ㎏ ﷺ", "Ｆｕｌｌ　ｗｉｄｔｈ　１２３", "straße STRASSE İstanbul ıI ǅ ΣΑΣ",
    "Ελλάδα κόσμος", "Москва привет", "שלום عالم", "नमस्ते दुनिया क्षि", "こんにちは世界 東京タワー", "北京你好。", "한국어 한국어", "สวัสดีค่ะ", "e\u0301\u0327\u0323 q\u0307\u0323",
    "a\u200bb\u200cc\u200dd\ufeffe", "a\u00a0b\u3000c\u2003d\u2028e", "\x00a\x01b\x7fc\x85d\ufffde", "👍🏽 👨‍👩‍👧 🇩🇪🇫🇷 e\ufe0f", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0010ffff",
    "[CLS] a [SEP] [MASK]b [UNK][PAD]", "<s>a</s> <mask> b<mask>c  <mask>", "<unk> <pad>", "foo<TAG>bar <tag> <TAG>s  <Tag>", "word solo solos solo, solo",
    "▁a ▁▁b▁", "  many   spaces    here     ", "x" * 120, "the" * 40, "\u0301a", "\u0301\u0302", "a\u1d165\u0301\u1d16d b", "\r\n\u0308a", "e\u0305\u0301 n\u0330\u0303 e\u0327\u0301\u0301 \u00b2\u0903", "\u1112\u1161\u11ab\uac00\u11a8",
    "!?...—–“quoted”‘’«»", "a_b-c+d=e^f|g~h`i", "\u0378\u0530\u05ff", "\u037e\u2000\u2126\u1fef", "I’m o'clock rock'n'roll 'tis 'Twas 'LL",
    "\u0600\u0661 \u0903\u093f", "ก\u0e33 \u0eb3", "\u1100\u1161 \ufb01\u0301 \ufb01\u0301\u0302", "12٣४五Ⅷ¾", "abc123def456 78.9"]


def darts(rules):
    """A Darts double array and the blob of replacements, as SentencePiece compiles them."""
    blob, place = bytearray(), {}
    for v in rules.values():
        if v not in place:
            place[v] = len(blob)
            blob += v.encode() + b"\0"
    root = {}
    for k, v in rules.items():
        node = root
        for c in k.encode():
            node = node.setdefault(c, {})
        node[0] = place[v]
    units, used = [0] * 256, {0}

    def build(at, node):
        labels = sorted(node)
        base = 1
        while True:
            if all((base ^ c) not in used for c in labels) and (base ^ at) < 1 << 21 and base not in bases:
                break
            base += 1
        bases.add(base)
        while len(units) <= base | 0xFF:
            units.extend([0] * 256)
        used.update(base ^ c for c in labels)
        units[at] |= (base ^ at) << 10 | (1 << 8 if 0 in node else 0)
        for c in labels:
            if c == 0:
                units[base] = node[0] | 1 << 31
            else:
                units[base ^ c] |= c
        for c in labels:
            if c:
                build(base ^ c, node[c])

    bases = set()
    build(0, root)
    return base64.b64encode(struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + bytes(blob)).decode()


def charsmap():
    rules = {chr(c): "" for c in [*range(1, 9), 11, *range(14, 32), 127, 0x8f, 0x9f, 0x200b]}
    rules.update({c: " " for c in "\t\n\r\f\xa0\u2003\u2028\u3000\u200d\ufeff\ufffd"})
    for c in [*range(0xFF01, 0xFF5F), *range(0xFB00, 0xFB05), *map(ord, "½²™ÅÅ㎏ﷺ")]:
        rules[chr(c)] = unicodedata.normalize("NFKC", chr(c))
    for c in "éèïüñÅåç":
        rules[unicodedata.normalize("NFD", c)] = c
    rules.update({"\u1112\u1161\u11ab": "\ud55c", "\u0323": "\u0323", "🇩🇪": "DE", "\r\n": "\n", "\u0301": ""})
    return darts(rules)


def save(name, t):
    t.save(os.path.join(out, name), pretty=False)
    return name


def train():
    wp = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    wp.normalizer, wp.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    wp.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=700, special_tokens=special, show_progress=False))
    wp.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    save("wordpiece.json", wp)

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=900, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    bpe.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    bpe.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    save("bpe.json", bpe)

    uni = Tokenizer(models.Unigram())
    uni.pre_tokenizer = pre_tokenizers.Metaspace()
    uni.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    uni.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    data = json.loads(uni.to_str())
    data["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": charsmap()},
                                                              {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}
    uni = Tokenizer.from_str(json.dumps(data))
    uni.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    save("unigram.json", uni)

    chars = Tokenizer(models.BPE(unk_token="<unk>"))
    chars.pre_tokenizer = pre_tokenizers.Metaspace()
    chars.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, limit_alphabet=60, special_tokens=["<unk>", "<s>"], show_progress=False))
    save("chars.json", chars)


def added(base, *tokens):
    data = json.load(open(os.path.join(out, base)))
    known = {t["content"]: t["id"] for t in data["added_tokens"]}
    vocab = data["model"]["vocab"]
    size = len(vocab)
    n = max([size - 1] + [i for i in known.values() if i >= size]) + 1
    made = list(data["added_tokens"])
    for content, flags in tokens:
        t = dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=True, special=False)
        t.update(flags)
        made.append({"id": n, **t})
        n += 1
    return made


def compose(v):
    """The tokenizer.json of a variant: its base, with parts replaced, or with "name+" some of their fields."""
    data = json.load(open(os.path.join(out, v["base"])))
    for k, x in v.items():
        if k.endswith("+"):
            data[k[:-1]].update(x)
        elif k != "base":
            data[k] = x
    return data


def variants():
    bert = lambda **k: dict(dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True), **k)
    level = lambda **k: dict(dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True), **k)
    seq = lambda kind, *m: {"type": "Sequence", kind: list(m)}
    meta = lambda **k: dict(dict(type="Metaspace", replacement="▁", prepend_scheme="always", split=True), **k)
    wp, bpe, uni = "wordpiece.json", "bpe.json", "unigram.json"
    T = lambda name: {"type": name}
    tags = [("<TAG>", {}), ("solo", {"single_word": True}), ("<R>", {"rstrip": True, "normalized": False}), ("  ", {"normalized": False})]
    load = lambda name: json.load(open(os.path.join(out, name)))["model"]
    few = lambda v: {k: i for k, i in v.items() if "ł" not in k}
    b, c, u = load(bpe), load("chars.json"), load(uni)
    return {
        "wordpiece": dict(base=wp),
        "wordpiece cased": dict(base=wp, normalizer=bert(lowercase=False)),
        "wordpiece keep accents": dict(base=wp, normalizer=bert(strip_accents=False)),
        "wordpiece strip only": dict(base=wp, normalizer=bert(clean_text=False, handle_chinese_chars=False, lowercase=False, strip_accents=True)),
        "wordpiece no clean": dict(base=wp, normalizer=bert(clean_text=False)),
        "wordpiece left": dict(base=wp, truncation=dict(direction="Left", max_length=9, strategy="LongestFirst", stride=0)),
        "wordpiece added": dict(base=wp, added_tokens=added(wp, *tags), post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
        "wordpiece sequence": dict(base=wp, normalizer=seq("normalizers", T("NFD"), T("Lowercase"), T("StripAccents")),
                                   pre_tokenizer=seq("pretokenizers", T("Whitespace"), {"type": "Digits", "individual_digits": False})),
        "wordpiece nmt": dict(base=wp, normalizer=seq("normalizers", T("Nmt"), T("NFKC"), {"type": "Strip", "strip_left": True, "strip_right": True}),
                              pre_tokenizer=seq("pretokenizers", T("WhitespaceSplit"), {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": True})),
        "wordpiece nfkd": dict(base=wp, normalizer=T("NFKD"), pre_tokenizer=None, post_processor=None),
        "bpe": dict(base=bpe),
        "bpe prefix": dict(base=bpe, pre_tokenizer=level(add_prefix_space=True), post_processor=level()),
        "bpe no regex": dict(base=bpe, pre_tokenizer=level(use_regex=False), normalizer=T("NFC")),
        "bpe ignore merges": dict(base=bpe, **{"model+": {"ignore_merges": True}}),
        "bpe added": dict(base=bpe, added_tokens=added(bpe, *tags, ("   ", {})), normalizer=T("NFC")),
        "bpe digits": dict(base=bpe, pre_tokenizer=seq("pretokenizers", {"type": "Digits", "individual_digits": True}, level())),
        "bpe few bytes": dict(base=bpe, added_tokens=[], post_processor=None, **{"model+": dict(
            unk_token="<unk>", vocab=few(b["vocab"]), merges=[p for p in b["merges"] if "ł" not in "".join(p)])}),
        "chars": dict(base="chars.json"),
        "chars fused": dict(base="chars.json", pre_tokenizer=meta(split=False), **{"model+": {"fuse_unk": True}}),
        "chars fallback": dict(base="chars.json", pre_tokenizer=None, **{"model+": dict(
                                   byte_fallback=True, vocab=dict(c["vocab"], **{f"<0x{i:02X}>": len(c["vocab"]) + i - 0x20 for i in range(0x20, 0xF0)}))},
                               normalizer=seq("normalizers", {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})),
        "unigram": dict(base=uni),
        "unigram e5": dict(base=uni, pre_tokenizer=seq("pretokenizers", T("WhitespaceSplit"), dict(type="Metaspace", replacement="▁", add_prefix_space=True))),
        "unigram first": dict(base=uni, pre_tokenizer=meta(prepend_scheme="first")),
        "unigram never": dict(base=uni, pre_tokenizer=meta(prepend_scheme="never", split=False), normalizer=None),
        "unigram fallback": dict(base=uni, added_tokens=json.load(open(os.path.join(out, uni)))["added_tokens"][:4], **{"model+": dict(
            byte_fallback=True, vocab=u["vocab"] + [[f"<0x{i:02X}>", -20.0] for i in range(256)])}),
        "unigram added": dict(base=uni, added_tokens=added(uni, *tags)),
    }


def main():
    train()
    table = variants()
    golden = {"texts": TEXTS, "ids": {}}
    for name, v in table.items():
        data = compose(v)
        t = Tokenizer.from_str(json.dumps(data))
        golden["ids"][name] = [t.encode(text).ids for text in TEXTS]
    for name, v in (("variants.json", table), ("golden.json", golden)):
        with open(os.path.join(out, name), "w") as f:
            json.dump(v, f, separators=(",", ":"), ensure_ascii=True)


main()
