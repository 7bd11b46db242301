"""The official tokenizers library as an oracle: one JSON object a line in, one a line out, in order.

In:  {"file": tokenizer.json, "max": limit or -1, "special": bool, "text": "..."}; what is left out is as in the line before.
Out: {"ids": [...], "types": [...]}, or {"error": "..."}. A text that cannot be UTF-8 comes as "hex" of its bytes and is
decoded with "replace". The first line out is {"version": "..."}.
"""
import json
import sys

import tokenizers

print(json.dumps({"version": tokenizers.__version__}), flush=True)
cache, state = {}, {"max": -1, "special": True}
for line in sys.stdin:
    case = json.loads(line)
    state.update({k: case[k] for k in ("file", "max", "special") if k in case})
    try:
        key = state["file"], state["max"]
        if key not in cache:
            t = tokenizers.Tokenizer.from_file(state["file"])
            t.no_padding()
            if state["max"] >= 0:
                direction = (t.truncation or {}).get("direction", "right")
                t.enable_truncation(state["max"], direction=direction)
            else:
                t.no_truncation()
            cache[key] = t
        text = bytes.fromhex(case["hex"]).decode("utf-8", "replace") if "hex" in case else case["text"]
        e = cache[key].encode(text, add_special_tokens=state["special"])
        print(json.dumps({"ids": e.ids, "types": e.type_ids}, separators=(",", ":")))
    except BaseException as err:  # a panic of the library is no Exception
        print(json.dumps({"error": str(err)}))
