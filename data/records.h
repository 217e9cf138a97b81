/* records.h: files of records in, files of records out: ranking, means of the gold reward,
 * what adversarial policies score, splitting, rejection sampling. The work of rhetor-data rank,
 * score, policies, split, best. */
#ifndef DATA_RECORDS_H
#define DATA_RECORDS_H

#include <jansson.h>
#include <stdio.h>

#include "data/dataset.h"
#include "data/world/gold.h"
#include "data/world/rater.h"

/* For each record of `in` with "gold" and "completions" (rhetor-generate --n K) the same record
 * with "scores" (of the gold reward) and "ranks" (of the scores with noise: 1 is best, ties share
 * one). Equal completions share a rank. With raters (or NULL) each record is ranked by one of them, who
 * is named in "rater"; then only the seed of `noise` counts, and *agreement (or NULL) is how often
 * two of them order two answers alike (NaN: there is one). ERR_DATA "file:line", ERR_IO. */
int records_rank(const char *in, const char *out, GoldNoise noise, const Raters *raters,
                 double *agreement);

/* The same with other scores than the gold reward's: score writes those of the record's k completions,
 * which are texts; ERR_DATA without the place, which is put before it. Those that are not finite are
 * refused. */
typedef struct RecordScorer {
    int (*score)(void *ctx, json_t *record, int k, double *score);
    void *ctx;
} RecordScorer;
int records_rank_by(const char *in, const char *out, GoldNoise noise, RecordScorer s);
/* Its score: the numbers beside the completions, ctx being their member's name as in records_best. */
int records_given(void *ctx, json_t *record, int k, double *score);

/* Rejection sampling: of each record with "completions" in the files, one after the other, the one
 * with the largest of the numbers `by` (an array beside them, "scores", or "scores.NAME"; of equals
 * the first) becomes
 * a demonstration {"prompt", "completion", ...}. Those that were cut off ("stopped": false) are not
 * taken, nor those below `least`. *taken of *all records. ERR_DATA, ERR_IO. */
int records_best(const char *const *in, int n, const char *by, double least, const char *out,
                 int64_t *taken, int64_t *all);

/* Prints the mean gold reward and its parts, over all and by family, of the records of `in` with
 * "gold" and "completion" or "completions" (the field `field` where it is not NULL). */
int records_score(const char *in, const char *field, FILE *out);

/* Prints what the policies of data/world/policy.h score on the records of `in` with "gold" and
 * "prompt": as Markdown, for docs/WORLD.md. */
int records_policies(const char *in, FILE *out);

/* Divides the records of `in`: a hash of the prompt (of the whole record where none is recognised)
 * says which side a record belongs to, so no prompt is on both. Counts come back. */
int records_split(const char *in, double heldout, const char *train_out, const char *heldout_out,
                  const DatasetOptions *o, int64_t *train, int64_t *held);

#endif
