#!/usr/bin/env python3
"""Writes tokenizer/unicode.bin: what the official tokenizers library thinks of every code point.

The library takes its Unicode data from five places of different Unicode versions (unicode_categories, Rust's char,
unicode-normalization-alignments, Oniguruma, regex-syntax), so instead of choosing versions this script asks the library
itself, one code point at a time. Takes about two minutes.

    python gen_tables.py OUT.bin GRAPHEME_TABLES.rs

GRAPHEME_TABLES.rs is src/tables.rs of the crate unicode-segmentation in the version that the library links: grapheme
cluster classes cannot be asked for. TestLargeAgainstTheOfficialLibrary asks the library whether the classes are right.

Format: "EUT1", then unsigned varints (LEB128). See unicode.go, which reads it.
"""
import re
import sys

from tokenizers import Regex, normalizers as N, pre_tokenizers as P, __version__

MAX = 0x110000
BERT_DROP, BERT_SPACE, CJK, MN, PUNCT, WHITE, LETTER, NUMBER, WORD, NUMERIC, MARK = (1 << i for i in range(11))
INCB_EXTEND, INCB_LINKER = 1 << 11, 1 << 12
GCB = ["Other", "CR", "LF", "Control", "Extend", "ZWJ", "Regional_Indicator", "Prepend", "SpacingMark", "L", "V", "T",
       "LV", "LVT", "Extended_Pictographic", "InCB_Consonant"]


def chars():
    for c in range(MAX):
        if not 0xD800 <= c < 0xE000:
            yield c, chr(c)


def probe():
    clean = N.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    cjk = N.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    accents = N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    nfd, nfkd, nfc, lower, marks = N.NFD(), N.NFKD(), N.NFC(), N.Lowercase(), N.StripAccents()
    onig = {k: N.Replace(Regex(p), "") for k, p in (("L", r"\p{L}"), ("N", r"\p{N}"), ("s", r"\s"))}
    bert, word, digits, white = P.BertPreTokenizer(), P.Whitespace(), P.Digits(True), P.WhitespaceSplit()
    props, canon, compat, low, pairs = [0] * MAX, {}, {}, {}, {}
    for c, s in chars():
        p = 0
        t = clean.normalize_str(s)
        p |= BERT_DROP if t == "" else BERT_SPACE if t == " " else 0
        assert t in ("", " ", s)
        t = cjk.normalize_str(s)
        p |= CJK if t == f" {s} " else 0
        assert t in (s, f" {s} ")
        d = nfd.normalize_str(s)
        if d != s:
            canon[c] = d
        elif accents.normalize_str(s) == "":
            p |= MN
        k = nfkd.normalize_str(s)
        if k != d:
            compat[c] = k
        t = lower.normalize_str(s)
        if t != s:
            low[c] = t
        if d != s and nfc.normalize_str(s) == s and not 0xAC00 <= c < 0xD7A4:
            first = nfc.normalize_str(d[:-1])
            assert len(first) == 1 and nfc.normalize_str(first + d[-1]) == s, hex(c)
            pairs[c] = first + d[-1]
        n = len(bert.pre_tokenize_str("a" + s))
        if white.pre_tokenize_str("a" + s)[0][0] == "a":
            p |= WHITE
            assert bert.pre_tokenize_str("a" + s)[0][0] == "a"
        elif n == 2:
            p |= PUNCT
        w = word.pre_tokenize_str("a" + s)
        if w[0][0] == "a" + s:
            p |= WORD
        assert (len(w) == 1 and w[0][0] == "a") == bool(p & WHITE), hex(c)  # \s of regex-syntax is White_Space
        assert (onig["s"].normalize_str(s) == "") == bool(p & WHITE), hex(c)  # and so is Oniguruma's
        p |= LETTER if onig["L"].normalize_str(s) == "" else 0
        p |= NUMBER if onig["N"].normalize_str(s) == "" else 0
        p |= NUMERIC if len(digits.pre_tokenize_str("a" + s)) == 2 else 0
        p |= MARK if marks.normalize_str(s) == "" else 0
        props[c] = p
    return props, canon, compat, low, pairs


def combining_classes(canon):
    """A mark moves before another one of a higher class: two known marks tell which code points have a class at all, and
    a ladder with one mark of every class tells which class."""
    import unicodedata
    nfd = N.NFD().normalize_str
    ladder = {240: "\u0345"}  # the highest class
    for c, s in chars():
        k = unicodedata.combining(s)
        # Python may be newer than the library: only marks that the library knows too.
        if k and c not in canon and k not in ladder and nfd("\u0345" + s) != "\u0345" + s:
            ladder[k] = s
    out = {}
    for c, s in chars():
        if c in canon or s != "\u0345" and nfd("\u0345" + s) == "\u0345" + s and nfd(s + "\u0334") == s + "\u0334":
            continue
        smaller = [k for k in ladder if nfd(s + ladder[k]) != s + ladder[k]]  # classes below ours
        larger = [k for k in ladder if nfd(ladder[k] + s) != ladder[k] + s]  # classes above ours
        mine = [k for k in ladder if k not in smaller and k not in larger]
        assert len(mine) == 1, (hex(c), mine)
        out[c] = mine[0]
    for k, s in ladder.items():
        assert out[ord(s)] == k, (k, s)
    return out


def ranges(text, name, value):
    body = text[text.index(name):]
    body = body[:body.index("];")]
    found = re.findall(r"\('\\u\{([0-9a-f]+)\}',\s*'\\u\{([0-9a-f]+)\}'" + value + r"\)", body)
    assert found, name
    return found


def grapheme_classes(path, props):
    text = open(path).read()
    out = {}
    for lo, hi, cat in ranges(text, "grapheme_cat_table:", r",\s*GC_(\w+)"):
        for c in range(int(lo, 16), int(hi, 16) + 1):
            out[c] = GCB.index(cat)
    for lo, hi in ranges(text, "InCB_Extend_table:", ""):
        for c in range(int(lo, 16), int(hi, 16) + 1):
            props[c] |= INCB_EXTEND
    linkers = text[text.index("fn is_incb_linker"):]
    for c in re.findall(r"'\\u\{([0-9A-Fa-f]+)\}'", linkers[:linkers.index("\n}")]):
        props[int(c, 16)] |= INCB_LINKER
    assert any(p & INCB_LINKER for p in props)
    return out


def main():
    out_path, tables = sys.argv[1:]
    props, canon, compat, low, pairs = probe()
    ccc = combining_classes(canon)
    gcb = grapheme_classes(tables, props)
    out = bytearray(b"EUT1")

    def put(v):
        while v >= 0x80:
            out.append(v & 0x7F | 0x80)
            v >>= 7
        out.append(v)

    rows = [(props[c], ccc.get(c, 0), gcb.get(c, 0)) for c in range(MAX)]
    runs = []
    for c, row in enumerate(rows):
        if not runs or runs[-1][1] != row:
            runs.append([1, row])
        else:
            runs[-1][0] += 1
    put(len(runs))
    for n, (p, k, g) in runs:
        put(n), put(p), put(k), put(g)
    for name, table in (("canon", canon), ("compat", compat), ("lower", low), ("pairs", pairs)):
        entries = sorted((c, s) for c, s in table.items() if name not in ("canon", "compat") or not 0xAC00 <= c < 0xD7A4)
        put(len(entries))
        last = 0
        for c, s in entries:
            put(c - last), put(len(s))
            last = c
            for r in s:
                put(ord(r))
        print(name, len(entries))
    with open(out_path, "wb") as f:
        f.write(out)
    print("tokenizers", __version__, "runs", len(runs), "classes", len(ccc), "bytes", len(out))


main()
