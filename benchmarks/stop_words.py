"""How well do recognisers hear stop words, and at what cost? Prints a table (docs/stop_words.md).

    python -m benchmarks.stop_words [CANDIDATE ...] [--threshold T]

A candidate is chosen by a part of its name; all by default. What has to be installed first is said
by benchmarks/stop_word_corpus.py and benchmarks/stop_word_candidates.py; nothing is skipped. Takes
about half an hour on one core.

A threshold is chosen on the tuning half: of those with at most one invented word in 50 utterances
without any, the one with the most hits. The table is of the other half. Each speaker is one
connection in which all words of the half are listened for; a recogniser is reset after a word, as
`ReplyOnStopWords` does. A hit is the right word while its utterance lasts, or within 0.8 s.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil

from benchmarks.stop_word_candidates import CANDIDATES, Candidate
from benchmarks.stop_word_corpus import RATE, REPORTED, TUNING, Session, missing, sessions
from rayrtc.stop_words import HeardStopWord

FRAME = RATE // 50
MOST_INVENTED = 1 / 50


def listen(candidate: Candidate, threshold: float, heard: Iterable[Session]) -> Counter[str]:
    """What came of it, counted by kind of speech."""
    counts: Counter[str] = Counter()
    for session in heard:
        recogniser = candidate.make(session.stop_words, threshold)
        begin = time.process_time()
        for utterance in session.utterances:
            words = []
            for at in range(0, len(utterance.samples), FRAME):
                word = recogniser.hear((RATE, utterance.samples[at : at + FRAME]))
                if word is not None:
                    words.append(word.word if isinstance(word, HeardStopWord) else word)
                    recogniser.reset()
            noise = "clean" if utterance.noise == "none" else "noisy"
            kind = session.kind if session.kind == "human" else f"{session.kind} {noise}"
            if utterance.word is not None:
                counts[f"{kind} with"] += 1
                counts[f"{kind} hits"] += utterance.word in words
            else:
                counts[f"{session.kind} without"] += 1
                counts[f"{session.kind} invented"] += bool(words)
            counts[f"{session.kind} wrong"] += sum(word != utterance.word for word in words)
            counts[f"{session.kind} samples"] += len(utterance.samples)
        counts["microseconds"] += round((time.process_time() - begin) * 1e6)
    return counts


def hits(counts: Counter[str]) -> int:
    return sum(count for key, count in counts.items() if key.endswith(" hits"))


def tuned(candidate: Candidate, heard: list[Session]) -> float:
    """The best threshold for what is `heard`."""
    tried: list[tuple[bool, int, float]] = []
    for threshold in candidate.thresholds:
        counts = listen(candidate, threshold, heard)
        without = counts["synthesised without"] + counts["human without"]
        invented = counts["synthesised invented"] + counts["human invented"]
        print(f"  {threshold:5}: {hits(counts)} hits, {invented} of {without} invented", flush=True)
        quiet = invented <= MOST_INVENTED * without
        # if all invent too much, the one that invents least
        tried.append((quiet, hits(counts) if quiet else -invented, threshold))
    return max(tried)[2]


def installed(packages: tuple[str, ...]) -> float:
    """MB of the installed files of `packages`."""
    size = 0
    for package in packages:
        for file in metadata.files(package) or []:
            path = Path(str(file.locate()))
            size += path.stat().st_size if path.is_file() else 0
    return size / 1e6


def memory(candidate: Candidate) -> float:
    """MB that the first recogniser of a process takes."""
    process = psutil.Process()
    before = process.memory_info().rss
    recogniser = candidate.make(("computer",), 1.0)
    sound = np.random.default_rng(0).normal(0, 1000, 5 * RATE).astype(np.int16)
    for at in range(0, len(sound), FRAME):
        recogniser.hear((RATE, sound[at : at + FRAME]))
    return (process.memory_info().rss - before) / 1e6


def measure(candidate: Candidate, threshold: float | None) -> None:
    """One row of the table, in a process of its own."""
    print(candidate.name, flush=True)
    taken = memory(candidate)
    if threshold is None:
        threshold = tuned(candidate, list(sessions(TUNING))) if candidate.thresholds else 0.0
    heard = list(sessions(REPORTED))
    counts = listen(candidate, threshold, heard)
    seconds = sum(counts[f"{kind} samples"] for kind in ("synthesised", "human")) / RATE

    def share(kind: str) -> str:
        return f"{counts[f'{kind} hits']} of {counts[f'{kind} with']}"

    def invented(kind: str) -> str:
        hours = counts[f"{kind} samples"] / RATE / 3600
        invented = f"{counts[f'{kind} invented']} of {counts[f'{kind} without']}"
        return f"{invented} ({counts[f'{kind} wrong'] / hours:.0f} an hour)"

    cells = [
        candidate.name,
        f"{threshold}" if candidate.thresholds else "none",
        share("synthesised clean"),
        share("synthesised noisy"),
        share("human"),
        invented("synthesised"),
        invented("human"),
        f"{counts['microseconds'] / 1e6 / seconds:.1%}",
        f"{taken:.0f} MB",
        f"{installed(candidate.packages):.0f} MB",
    ]
    print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CANDIDATE")
    parser.add_argument("--threshold", type=float, help="instead of choosing one")
    arguments = parser.parse_args()
    names = arguments.names
    chosen = [c for c in CANDIDATES if not names or any(name in c.name for name in names)]
    absent = missing() + [f"pip: module {name}" for c in chosen for name in c.missing()]
    if absent or not chosen:
        sys.exit("install first: " + "; ".join(absent) if absent else "no such candidate")
    if len(chosen) == 1:
        measure(chosen[0], arguments.threshold)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for candidate in chosen:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.stop_words", candidate.name],
            check=True,
            env=environment,
        )


if __name__ == "__main__":
    main()
