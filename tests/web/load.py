"""Load on rhetor-serve: clients that stream one completion after the other.
    python3 tests/web/load.py PORT [--model NAME] [--clients 64] [--seconds 300 | --requests N] [--max-tokens 64] [--pid PID]
Prints what came, tokens a second, the time to the first token and between tokens (p50, p99), and the resident memory
of process PID at twenty times. Leaves with 1 if anything but 200 and 429 came."""
import argparse
import asyncio
import json
import random
import re
import time


class Load:
    def __init__(self, a):
        self.a = a
        self.started = self.done = self.refused = self.tokens = 0
        self.errors, self.first, self.between, self.memory = [], [], [], []
        self.begin = time.monotonic()

    def goes_on(self):
        if self.a.requests:
            return self.started < self.a.requests
        return time.monotonic() - self.begin < self.a.seconds

    async def one(self, prompt):
        body = json.dumps({"prompt": prompt, "max_tokens": self.a.max_tokens, "stream": True,
                           "stream_options": {"include_usage": True}, "seed": self.started,
                           **({"model": self.a.model} if self.a.model else {})}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.a.port)
        writer.write(b"POST /v1/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        last, line, ended = time.monotonic(), b"", False
        status = (await reader.readline()).split()[1]
        times = []
        async for line in reader:
            if line.startswith(b"data: {"):
                now = time.monotonic()
                times.append(now - last)
                last = now
                usage = re.search(rb'"completion_tokens":(\d+)', line)
                if usage:
                    self.tokens += int(usage[1])
            ended = ended or line.startswith(b"data: [DONE]")
        writer.close()
        if status == b"429":
            self.refused += 1
            await asyncio.sleep(1)
        elif status != b"200" or not ended:
            self.errors.append((status, line))
        else:
            self.done += 1
            self.first.append(times[0])
            self.between += times[1:-2]  # then the end and the usage

    async def client(self, i):
        words = random.Random(i)
        while self.goes_on():
            self.started += 1
            try:
                await self.one("Where does %s live?" % words.choice(["Ana", "Ben", "Cleo", "Dan"]))
            except Exception as e:
                self.errors.append(repr(e))

    async def watch(self):
        while True:
            with open(f"/proc/{self.a.pid}/status") as f:
                self.memory.append(int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) // 1024)
            await asyncio.sleep(1)

    async def run(self):
        watch = asyncio.create_task(self.watch()) if self.a.pid else None
        await asyncio.gather(*[self.client(i) for i in range(self.a.clients)])
        self.seconds = time.monotonic() - self.begin
        if watch:
            watch.cancel()

    def report(self):
        def percentiles(v):
            v = sorted(v) or [float("nan")]
            return "p50 %.1f ms, p99 %.1f ms" % tuple(1e3 * v[int(len(v) * q)] for q in (0.5, 0.99))
        print(f"{self.done} answers, {self.refused} refused (429), {len(self.errors)} errors in {self.seconds:.1f} s")
        print(f"{self.tokens / self.seconds:.0f} tokens/s")
        print(f"first token: {percentiles(self.first)}; between tokens: {percentiles(self.between)}")
        if self.memory:
            print("memory, MiB:", *self.memory[::max(1, len(self.memory) // 20)])
        for e in self.errors[:5]:
            print("error:", e)


def load(port, **more):
    p = argparse.ArgumentParser()
    p.add_argument("port", type=int)
    p.add_argument("--model")
    for name, value in {"clients": 64, "seconds": 300, "requests": 0, "max-tokens": 64, "pid": 0}.items():
        p.add_argument("--" + name, type=int, default=value)
    x = Load(p.parse_args([str(port), *[str(w) for k, v in more.items() for w in ("--" + k.replace("_", "-"), v)]]
                          if port else None))
    asyncio.run(x.run())
    return x


if __name__ == "__main__":
    x = load(None)
    x.report()
    raise SystemExit(bool(x.errors) or not x.done)
