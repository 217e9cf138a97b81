/* rollout.h: the episodes of one PPO iteration. Every rank holds all of them (they are small):
 * ranks share the work of sampling and scoring and exchange the results. */
#ifndef RLHF_ROLLOUT_H
#define RLHF_ROLLOUT_H

#include "data/dataset.h"
#include "dist/comm.h"
#include "model/decode.h"

typedef struct Episodes {
    int64_t n;              /* episodes of the global batch */
    int64_t *start;         /* [n+1] episode e's prompt and response are tokens[start[e]..) */
    int64_t *prompt;        /* [n] tokens of the prompt */
    int64_t *item;          /* [n] which prompt of the set; 0 in a replay */
    int64_t *first;         /* [n+1] its response tokens in the arrays below: first[e].. */
    int32_t *tokens;        /* [start[n]] */
    unsigned char *stopped; /* [n] the response ended with a stop token */
    float *sampled_logp;    /* [first[n]] by the sampler's own forward; zero in a replay */
    float *logp, *ref_logp; /* [first[n]] by the training forward, policy and reference */
    float *entropy;         /* [first[n]] of the policy's distribution */
    float *value;           /* [first[n]] of the critic, before the token is chosen */
    float *reward, *advantage, *ret; /* [first[n]] */
    float *score;                    /* [n] of the reward model */
} Episodes;

/* Samples a response of the policy for n prompts: prompt i of the set for episode id `first_id + i`
 * is item[i]. Ranks share the work. Collective; ERR_DATA for a prompt that leaves no room. */
int rollout_sample(Episodes *e, Gpt *policy, const Dataset *prompts, const int64_t *item, int64_t n,
                   uint64_t first_id, const DecodeOptions *o, Comm *c);
void rollout_free(Episodes *e);
/* Appends the episodes pick[0..n) of `from` to `to` (which may be empty): what was sampled, and the
 * scores. */
void rollout_append(Episodes *to, const Episodes *from, const int64_t *pick, int64_t n);

/* Episode tokens as JSON lines {"prompt":[...],"response":[...],"stopped":b}, and back. Not
 * collective. */
int rollout_write(const Episodes *e, const char *path);
int rollout_read(Episodes *e, const char *path, int64_t n, int64_t vocab, int64_t context);

static inline int64_t rollout_length(const Episodes *e, int64_t i) {
    return e->first[i + 1] - e->first[i];
}

#endif
