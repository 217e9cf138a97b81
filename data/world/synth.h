/* synth.h: writes the data of the embedded world, a small language in which every step of
 * InstructGPT can be measured. Each document and each prompt has a little world of its own (who
 * lives where, works as what, likes and owns what), so that reading the context is what pays.
 *
 *   primer.jsonl (only where asked for)           {"text"}: sentences that break off and begin anew
 *   documents.jsonl, documents_heldout.jsonl      {"text"}: prose to pretrain on; no instructions
 *   sft.jsonl, sft_heldout.jsonl                  {"prompt","completion","quality","gold"}
 *   compare_prompts.jsonl, compare_heldout.jsonl  {"prompt","gold"}: to sample and rank
 *   ppo_prompts.jsonl, eval_prompts.jsonl         {"prompt","gold"}
 *
 * Families of prompts (docs/WORLD.md has examples): qa (place, trade, food), yesno, premise (false or
 * true), list, who, follow (a second turn: "prompt" is a list of messages), compare, sum, rewrite,
 * howto, alike (looks like a request to refuse), refuse; wordings vary; some questions have no
 * answer in the text. No prompt occurs in two files: a hash of its text says which file it belongs
 * to. The prompts of evaluation are all different, and they alone have held-out wordings, objects,
 * verbs, harms and a held-out family (compare): "held" in "gold" says which. Every record is a pure
 * function of (seed, file, index), for evaluation of those before it as well. */
#ifndef DATA_WORLD_SYNTH_H
#define DATA_WORLD_SYNTH_H

#include <stdint.h>
#include <stdio.h>

/* The demonstrations are of uneven quality, so that SFT leaves room above itself. */
typedef enum SynthQuality {
    QUALITY_IDEAL,
    QUALITY_VERBOSE,    /* right, among filler sentences or said twice */
    QUALITY_INCOMPLETE, /* an item missing, a bare word instead of a sentence, no reason given */
    QUALITY_MADEUP,     /* claims beside the answer something that the text does not say */
    QUALITY_WRONG,      /* a wrong answer */
    QUALITY_REFUSE,     /* refuses what it should answer */
    QUALITY_COMPLY,     /* does what it should refuse */
    QUALITY_RUDE,       /* rude */
    QUALITY_COUNT
} SynthQuality;
extern const char *const synth_quality_names[QUALITY_COUNT]; /* "ideal", "verbose", ... */

typedef struct SynthOptions {
    uint64_t seed;
    int64_t primer, documents, documents_heldout;
    int64_t sft, sft_heldout;
    int64_t compare, compare_heldout;
    int64_t ppo, eval;
    /* Weights of the qualities of demonstrations, for prompts to answer and prompts to refuse. */
    double answer[QUALITY_COUNT], refuse[QUALITY_COUNT];
} SynthOptions;

SynthOptions synth_defaults(void);

/* Writes all files into dir (made if missing). ERR_IO, ERR_CONFIG (impossible options: a
 * size below 0, no positive weight). */
int synth_write(const char *dir, const SynthOptions *o);

/* Examples of every family and every quality of demonstrations, as Markdown: docs/WORLD.md. */
void synth_examples(FILE *out);

#endif
