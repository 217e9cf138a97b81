"""Rhetor and PyTorch in turns: each side is a process that stays warm and does a round when it is asked to, so
that both meet the same moods of the machine. Prints a table of medians.

usage: compare.py [--rounds N] [CASE...]
Environment: RHETOR_BIN, the folder of rhetor-bench. Threads: OMP_NUM_THREADS for both sides."""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# rhetor-bench's case -> the script that does the same, and its arguments
CASES = {
    "step-small": ("torch_step.py", "small"),
    "step-124m": ("torch_step.py", "124m"),
    "step-124m-t64": ("torch_step.py", "124m-t64"),
    "prefill-124m": ("torch_decode.py", "prefill"),
    "decode-124m-b1": ("torch_decode.py", "1"),
    "decode-124m-b8": ("torch_decode.py", "8"),
    "decode-124m-b32": ("torch_decode.py", "32"),
    "ppo-small": ("torch_ppo.py", "fixed"),
    "ppo-small-ragged": ("torch_ppo.py", "ragged"),
}
MODES = ("eager", "compile")  # the better one is reported


class Side:
    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def read(self):
        """The next line; raises with the end of what the process said when it has died."""
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip().splitlines()[-3:]
            raise RuntimeError(f"{' '.join(self.command)}: {' | '.join(said) or 'ended'}")
        return json.loads(line)

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stderr.close()
        self.process.wait()


def total(parts, key):
    return sum(p[key] for p in parts)


def compare(case, mode, rounds):
    """Pairs (name, rhetor's parts, torch's parts, in every round), peaks, what torch says of itself."""
    script, argument = CASES[case]
    rhetor = Side([os.path.join(os.environ["RHETOR_BIN"], "rhetor-bench"), "--turns", case])
    rhetor.read()
    torch = Side([sys.executable, os.path.join(HERE, script), argument, mode])
    try:
        about = torch.read()
        pairs = [(rhetor.round(), torch.round()) for _ in range(rounds)]
    finally:
        rhetor.close()
        torch.close()
    rows = []
    n = len(pairs[0][0]["parts"])
    for k in range(n):
        rows.append((pairs[0][0]["parts"][k]["name"], [(r["parts"][k], t["parts"][k]) for r, t in pairs]))
    for name, row in rows:
        for r, t in row:  # decoding: which tokens come after the first pass depends a little on the threads
            if abs(r["tokens"] / t["tokens"] - 1) > 0.02:
                raise RuntimeError(f"{case} {name}: {r['tokens']} tokens here, {t['tokens']} there: not the same work")
    if n > 1:
        whole = [({key: total(r["parts"], key) for key in ("seconds", "shortest", "tokens")},
                  {key: total(t["parts"], key) for key in ("seconds", "tokens")}) for r, t in pairs]
        rows.insert(0, ("", whole))
    peaks = (pairs[-1][0]["peak_bytes"], pairs[-1][1]["peak_bytes"])
    return {"rows": rows, "peaks": peaks, "about": about, "mode": mode}


def ratio(row):
    """How many times faster Rhetor is, a token: the median over the rounds."""
    return statistics.median(t["seconds"] / t["tokens"] / (r["seconds"] / r["tokens"]) for r, t in row)


def report(case, result):
    for i, (name, row) in enumerate(result["rows"]):
        # of both, what rhetor-bench calls the share of the limit, with the limits measured beside Rhetor
        ours = statistics.median(r["shortest"] / r["seconds"] for r, t in row)
        print(f"{'  ' + name if i else case:<18} {1e3 * statistics.median(r['seconds'] for r, t in row):9.1f} "
              f"{1e3 * statistics.median(t['seconds'] for r, t in row):10.1f} {ratio(row):7.2f} "
              f"{ours:6.2f} {ours / ratio(row):7.2f} ", end="")
        if i == 0:
            print(f"{result['peaks'][0] * 1e-6:9.0f} {result['peaks'][1] * 1e-6:9.0f}  {result['mode']}", end="")
        print(flush=True)


def main():
    parser = argparse.ArgumentParser(usage="%(prog)s [--rounds N] [CASE...]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("case", nargs="*", help=", ".join(CASES))
    args = parser.parse_args()
    for case in args.case:
        if case not in CASES:
            parser.error(f'no case "{case}"; there are {", ".join(CASES)}')
    head = False
    for case in args.case or CASES:
        best, failures = None, []
        for mode in MODES:
            try:
                result = compare(case, mode, args.rounds)
            except RuntimeError as e:
                failures.append(str(e))
                continue
            if best is None or ratio(result["rows"][0][1]) < ratio(best["rows"][0][1]):
                best = result
        if best is None:
            sys.exit("\n".join(failures))
        if not head:
            about = best["about"]
            print(f"PyTorch {about['torch']}, {about['threads']} threads, its own sgemm 2048^3: "
                  f"{about['sgemm']:.0f} GFLOP/s\n")
            print(f"{'case':<18} {'Rhetor ms':>9} {'PyTorch ms':>10} {'faster':>7} {'share':>6} {'PyTorch':>7} "
                  f"{'peak MB':>9} {'PyTorch':>9}  better of eager, compile")
            head = True
        report(case, best)
        for f in failures:
            print(f"  (not measured: {f})")


main()
