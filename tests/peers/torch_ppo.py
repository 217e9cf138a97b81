"""One PPO iteration: rollout, scoring, update. usage: torch_ppo.py fixed|ragged eager|compile
The sizes and the lengths of ragged responses are those of tools/bench/bench_ppo.c. Responses are padded: a batch
is decoded until its last one is done, and a minibatch is as wide as its longest. Prompts have one length."""
import math
import sys
import time

import torch

from torch_gpt import GPT, SMALL, adamw, take_turns

which, mode = sys.argv[1], sys.argv[2]
N, PROMPT, NEW, MINIBATCH, STOP, SPREAD = 64, 64, 64, 16, 0.0385, 37
CLIP, BETA, LAMBDA = 0.2, 0.05, 0.95
torch.manual_seed(1)
policy, critic = GPT(SMALL), GPT(SMALL, head=True)
reference, reward = GPT(SMALL).eval(), GPT(SMALL, head=True).eval()
reference.load_state_dict(policy.state_dict())
policy_adam, critic_adam = adamw(policy, 1e-5, 0), adamw(critic, 1e-5, 0)
prompts = torch.randint(SMALL.vocab, (N, PROMPT))


def length_of(i):
    if which == "fixed":
        return NEW
    u = (i * SPREAD % N + 0.5) / N
    return min(NEW, 1 + math.floor(math.log(1 - u) / math.log(1 - STOP)))


lengths = torch.tensor([length_of(i) for i in range(N)])
mask = torch.arange(NEW) < lengths[:, None]  # [N, NEW]


def sample_step(tokens, caches, pos):
    logits = policy.logits(policy.hidden(tokens, caches, pos)[:, -1])
    return torch.multinomial(logits.softmax(-1), 1)


def response_logp(model, tokens, n):
    """Log-probabilities of the last n tokens; the head sees only their positions."""
    h = model.hidden(tokens)[:, -n - 1:-1]
    logp = torch.log_softmax(model.logits(h), -1)
    return logp.gather(-1, tokens[:, -n:, None]).squeeze(-1)


def response_values(model, tokens, n):
    return model.values(model.hidden(tokens)[:, -n - 1:-1])


def last_score(tokens, at):
    h = reward.hidden(tokens)
    return reward.values(h[torch.arange(len(tokens)), at])


if mode == "compile":
    sample_step = torch.compile(sample_step, dynamic=True)
    dynamic = which == "ragged"  # widths differ from minibatch to minibatch
    response_logp = torch.compile(response_logp, dynamic=dynamic)
    response_values = torch.compile(response_values, dynamic=dynamic)
    last_score = torch.compile(last_score, dynamic=dynamic)


@torch.inference_mode()
def rollout():
    caches = policy.caches(N, PROMPT + NEW)
    out = torch.zeros((N, PROMPT + NEW), dtype=torch.long)
    out[:, :PROMPT] = prompts
    token = sample_step(prompts, caches, 0)
    for t in range(int(lengths.max())):
        out[:, PROMPT + t] = token[:, 0]
        if t + 1 < int(lengths.max()):
            token = sample_step(token, caches, PROMPT + t)
    return out


def minibatches():
    """The tokens are cut to the longest response of each."""
    order = torch.randperm(N)
    for pick in order.split(MINIBATCH):
        yield pick, int(lengths[pick].max())


def scoring(tokens, batches):
    with torch.no_grad():
        logp, ref, value = (torch.zeros((N, NEW)) for _ in range(3))
        score = torch.zeros(N)
        for pick, n in batches:
            x = tokens[pick, :PROMPT + n]
            logp[pick, :n] = response_logp(policy, x, n)
            ref[pick, :n] = response_logp(reference, x, n)
            value[pick, :n] = response_values(critic, x, n)
            score[pick] = last_score(x, PROMPT + lengths[pick] - 1)
        r = -BETA * (logp - ref) * mask
        r[torch.arange(N), lengths - 1] += score
        value = value * mask
        advantage, last = torch.zeros((N, NEW)), torch.zeros(N)
        for t in reversed(range(NEW)):
            after = value[:, t + 1] if t + 1 < NEW else torch.zeros(N)
            last = (r[:, t] + after - value[:, t] + LAMBDA * last) * mask[:, t]
            advantage[:, t] = last
        returns = advantage + value
        a = advantage[mask]
        advantage = (advantage - a.mean()) / (a.var(unbiased=False) + 1e-8).sqrt()
    return logp, value, advantage, returns


def update(tokens, batches, logp, value, advantage, returns):
    for pick, n in batches:
        x, m = tokens[pick, :PROMPT + n], mask[pick, :n]
        ratio = (response_logp(policy, x, n) - logp[pick, :n]).exp()
        a = advantage[pick, :n]
        loss = torch.max(-a * ratio, -a * ratio.clamp(1 - CLIP, 1 + CLIP))[m].mean()
        loss.backward()
        v, old, ret = response_values(critic, x, n), value[pick, :n], returns[pick, :n]
        clipped = old + (v - old).clamp(-CLIP, CLIP)
        (0.5 * torch.max((v - ret) ** 2, (clipped - ret) ** 2)[m].mean()).backward()
        for model, adam in (policy, policy_adam), (critic, critic_adam):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)


def iteration():
    start = time.perf_counter()
    tokens = rollout()
    sampled = time.perf_counter()
    batches = list(minibatches())
    scored_values = scoring(tokens.clone(), batches)
    scored = time.perf_counter()
    update(tokens.clone(), batches, *scored_values)
    end = time.perf_counter()
    made = int(lengths.sum())
    return {"rollout": (sampled - start, made), "scoring": (scored - sampled, made + N * PROMPT),
            "update": (end - scored, made + N * PROMPT)}


take_turns(iteration)
