/* rater.h: programs that rank answers as people do: each has weights of its own, errs at random, and
 * likes things that have nothing to do with the answer. What they are is data: a file of records
 *
 *   {"name": "ann", "helpful": 3, "honest": 1.5, "harmless": 1, "concise": 1, "words": 0,
 *    "noise": 0.8, "grain": 0.5}
 *
 * of which all but the name may be missing: then it is as the gold reward has it. words: what a
 * word of an answer is worth to the rater, whatever it says. */
#ifndef DATA_WORLD_RATER_H
#define DATA_WORLD_RATER_H

#include "data/world/gold.h"

typedef struct Rater {
    char name[GOLD_WORD];
    double helpful, honest, harmless, concise, words;
    double noise, grain; /* of GoldNoise */
} Rater;

typedef struct Raters {
    Rater *v;
    int n;
} Raters;

/* only: the name of the one that is wanted, or NULL. ERR_DATA with the place, ERR_IO. */
int raters_read(Raters *r, const char *path, const char *only);
void raters_free(Raters *r);

/* Who rates a record: a pure function of (seed, record). */
const Rater *raters_of(const Raters *r, uint64_t seed, uint64_t record);

/* The rater's opinion of an answer, without noise. */
double rater_score(const Rater *r, const GoldParts *parts, const char *completion);
/* Ranks of k answers; as gold_rank, with noise of the rater's own. */
void rater_rank(const Rater *r, const double *score, const int *same, int k, uint64_t seed,
                uint64_t record, int *rank);

/* How often two of the raters order two answers alike, of those pairs that neither of them puts at
 * one rank: counts of one record are added. score[i * k + j]: rater i of answer j. */
typedef struct Agreement {
    double pairs, alike;
} Agreement;
void raters_agree(const Raters *r, const double *score, const int *same, int k, uint64_t seed,
                  uint64_t record, Agreement *a);

#endif
