"""Token ids of awkward strings as `transformers` and `open_clip` make them.

Run:  python clip_tokens.py VOCABULARY_DIR OUT.json

Writes a list of {"text", "transformers", "open_clip", "cleaned"}. `cleaned` is whether the two read the text differently:
open_clip repairs mis-decoded Unicode and HTML entities first, and takes the written names of the special tokens for plain
text. coft does as transformers does.
"""

import html
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import ftfy
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

TEXTS = [
    "", " ", "a photo of a cat.", "A PHOTO of a Cat", "don't, can't, it's we've I'm you'll he'd they're", "  two   spaces\tand\na newline ",
    "naïve café Ångström", "nai\u0308ve e\u0301", "straße ẞ", "İstanbul ıI", "日本語のテキスト", "한국어 텍스트", "العربية", "עברית", "हिन्दी में", "ไทย",
    "👍", "👩‍👩‍👧‍👦 family", "flags 🇩🇪🇯🇵", "emoji😀in😀words", "🏳️‍🌈", "1234567890", "3.14159 1,000,000 5th 2nd",
    "!!! ??? ... --- ___ ###", "a_b-c.d/e\\f", "C++ & C#", "<|startoftext|>", "x <|endoftext|> y", "<html>&nbsp;</html>",
    "“quotes” ‘single’ «guillemets»", "dash—en–hyphen-minus−", "½ ² ³ ① Ⅷ", "ﬁne ﬂow", "zero\u200bwidth", "soft\u00adhyphen", "no\u00a0break", "tab\there",
    "Ω≈ç√∫˜µ≤≥÷", "α β γ Δ", "русский текст", "ЁЖ ёж", "\U0001d50a\U0001d52f", "a" * 60, "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "stop sign, speed limit 50 (km/h)", "tyre vs. tire", "x" * 3 + "'s", "'S 'T 'RE", "’s", "http://a.b/c?d=e&f=g#h", "a\u0301\u0302\u0303", "\u202eright to left",
    "word " * 30, "Über-Öl äöü ÄÖÜ ß", "ñandú", "€5 £6 ¥7 ₿", "C\u0327a va?", "line\r\nend", "\u3000ideographic\u3000space", "mixed 日本 and English", "٣ ४ digits",
]


def main():
    folder = Path(sys.argv[1])
    fast = CLIPTokenizer.from_pretrained(folder)
    simple = SimpleTokenizer(bpe_path=str(folder / "bpe_simple_vocab_16e6.txt.gz"))
    rows = []
    for text in TEXTS:
        ids = [simple.sot_token_id, *simple.encode(text), simple.eot_token_id]
        cleaned = "<|" in text or html.unescape(html.unescape(ftfy.fix_text(text))) != text
        rows.append(dict(text=text, transformers=fast(text)["input_ids"], open_clip=ids, cleaned=cleaned))
    Path(sys.argv[2]).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
