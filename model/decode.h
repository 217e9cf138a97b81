/* decode.h: sampling with a KV cache, for many prompts of different lengths at once. Sequences
 * that stop leave the batch and waiting prompts take their places. What a sequence samples does not
 * depend on which others are in the batch: random numbers are keyed by (seed, step, sample id,
 * position) and the token is argmax(logits/T + Gumbel noise) over the kept tokens. */
#ifndef MODEL_DECODE_H
#define MODEL_DECODE_H

#include "model/gpt.h"

typedef struct DecodeOptions {
    double temperature;  /* 0: greedy */
    int64_t top_k;       /* 0: off */
    double top_p;        /* 1: off */
    int64_t max_new;     /* longest response, stop token included */
    const int32_t *stop; /* [nstop] tokens that end a response; they are part of it */
    int nstop;
    uint64_t seed;
    uint32_t step; /* e.g. the PPO iteration */
    int64_t slots; /* sequences decoded at once; 0: chosen for the machine */
    /* For the second copy of the weights; reset and kept, so that a caller who decodes again and
     * again gets no new memory each time. NULL: freed before return. */
    Arena *scratch;
    /* Called after every token of every sequence (streaming), by one thread at a time; NULL: not. A
     * non-zero return ends the sequence. */
    int (*on_token)(void *ctx, int64_t prompt, int32_t token);
    /* Sees the logits [vocab] that the next token of a sequence is drawn from; several threads at a
     * time, of different sequences. NULL: not. */
    void (*see)(void *ctx, int64_t prompt, const real *logits);
    void *ctx;
} DecodeOptions;

/* One response. tokens and logp lie in one allocation owned by the DecodeResult. */
typedef struct Response {
    const int32_t *tokens; /* [n] without the prompt */
    const float *logp;     /* [n] log-probability of each token under the sampler's own forward, at
                              the temperature (1 when greedy), before top_k and top_p */
    int64_t n;
    bool stopped; /* ended with a stop token */
} Response;

typedef struct DecodeResult {
    Response *v; /* [n], in the order of the prompts */
    int64_t n;
    int64_t tokens; /* generated in all */
    void *priv;
} DecodeResult;

/* Generates one response for each of n prompts: prompt i is tokens[start[i]..start[i+1]), its
 * sample id is id[i] (NULL: i). A prompt that leaves no room in the context, or is empty: ERR_DATA
 * with its index. Responses end at max_new, at the context's end, or with a stop token. Memory: one
 * KV cache of `slots` sequences and a second copy of the weights. Responses are the same, bit for
 * bit, for any slots, threads and order of prompts. Not collective. */
int decode(DecodeResult *out, Gpt *g, const int32_t *tokens, const int64_t *start, int64_t n,
           const uint64_t *id, const DecodeOptions *o);
void decode_free(DecodeResult *r);
/* ERR_INTERNAL if a response was chosen from logits that are not finite: a diverged model. */
int decode_finite(const DecodeResult *r);

/* A sequence with options of its own (slots and scratch are not read), which joins others between
 * two tokens. What it decodes is what decode() gives for its prompt, id and options, bit for bit. */
typedef struct DecodeSequence {
    const DecodeOptions *o;
    const int32_t *prompt; /* [nprompt] */
    int64_t nprompt;
    uint64_t id;     /* sample id */
    int64_t index;   /* what the callbacks get as `prompt` */
    int32_t *tokens; /* [room] the response and its log-probabilities, as a Response has them */
    float *logp;
    int64_t room, n; /* n: decoded so far */
    bool stopped;
} DecodeSequence;

/* Where the sequences come from. Several threads call these. */
typedef struct DecodeSource {
    /* The next sequence, whose prompt has at most `rows` tokens; NULL: none now. With `idle` nothing
     * else is to do: it may wait, and NULL ends the caller's work. */
    DecodeSequence *(*next)(void *ctx, int64_t rows, bool idle);
    void (*done)(void *ctx, DecodeSequence *s); /* it has its last token */
    void *ctx;
} DecodeSource;

/* Decodes what `next` gives until it has no more, `slots` (0: chosen for the machine) sequences of
 * up to the model's context at once. A prompt that begins as one that a slot still holds takes its
 * keys and values. ERR_CONFIG. Not collective. */
int decode_serve(Gpt *g, const DecodeSource *source, int64_t slots);
/* ERR_DATA, ERR_CONFIG where the sequence cannot be decoded. */
int decode_check(const Gpt *g, const DecodeSequence *s);

/* Sequences that are decoded at once with slots = 0: of n, `longest` tokens with their prompts. */
int64_t decode_slots(const GptConfig *cfg, int64_t n, int64_t longest, int64_t threads);
/* What decode takes for n prompts of so many tokens, counted on dry arenas; g may be a dry model. */
typedef struct DecodeBytes {
    size_t weights; /* the second copy, in DecodeOptions.scratch */
    size_t passes;  /* caches and activations */
} DecodeBytes;
void decode_bytes(DecodeBytes *out, Gpt *g, int64_t n, int64_t prompt, int64_t longest,
                  int64_t threads);

#endif
