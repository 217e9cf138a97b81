"""A judge of sentiment that nobody trained: the lexicon VADER (Hutto and Gilbert 2014).

    python tests/peers/vader.py FILE...

FILE: JSON lines with "text", or "prompt" and "completions" as rhetor-generate writes them, such as
those of configs/smollm2-sentiment; with "label" (1 positive, 0 negative) also how often it agrees.
Needs vaderSentiment of the package index. One line a file: the share of texts that it finds positive,
its standard error, over the texts about which the lexicon says anything.
"""
import json
import math
import sys

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


def texts(record):
    if "text" in record:
        return [record["text"]]
    return record["completions"]


def main():
    judge = SentimentIntensityAnalyzer()
    for path in sys.argv[1:]:
        found, right, labelled, n = [], 0, 0, 0
        for line in open(path, encoding="utf-8"):
            record = json.loads(line)
            for text in texts(record):
                compound = judge.polarity_scores(text)["compound"]
                n += 1
                if compound == 0:
                    continue
                found.append(compound > 0)
                if "label" in record:
                    labelled += 1
                    right += (compound > 0) == (record["label"] == 1)
        share = sum(found) / max(len(found), 1)
        error = math.sqrt(share * (1 - share) / max(len(found), 1))
        agrees = f", right in {right / labelled:.3f}" if labelled else ""
        print(f"{path}: {n} texts, {len(found)} judged, positive {share:.3f} +- {error:.3f}{agrees}")


if len(sys.argv) < 2:
    sys.exit(__doc__)
main()
