/* criterion.h: what a panel demands, as an expression over the records of a lab.
 *
 *   table.gold[model=ppo] > table.gold[model=sft]           a number a seed, and its interval
 *   slope(rank.accuracy, log(rank.n)) > 0                   of the records of a seed, in their order
 *   table.gold[model=ppo] = table.gold[model=sft] +- 0.1    equivalence: within the margin
 *   every probe.look_up >= 0.9                              on each seed that was run
 *   seeds_sd(table.gold[model=ppo]) < 0.2                   of all seeds; BCa bootstrap
 *
 * MEASURE.FIELD are the values of the records of one unit (a seed) for which the filters hold: = and
 * != of texts and numbers, < and > of numbers, parted by commas. Where one number is needed there
 * must be one record. Functions: criterion.c has their table. A criterion holds where the 95 %
 * interval of left minus right, by Student over the units, lies on the right side of the bound. */
#ifndef LAB_CRITERION_H
#define LAB_CRITERION_H

#include <jansson.h>
#include <stdbool.h>

#include "eval/stats.h"

typedef struct Criterion Criterion;
/* ERR_CONFIG: what is wrong, and where in the text. */
int criterion_parse(Criterion **out, const char *text);
void criterion_free(Criterion **c);

typedef struct Finding {
    StatsVerdict verdict;
    StatsInterval i;      /* of the left side minus the right, or of what is asked for */
    double bound, bound2; /* i is compared with it; of an equivalence: with both */
    double p;             /* one-sided, of "it does not hold"; NAN: nothing is known */
    bool exact;           /* a statement about the units that were run, without an interval */
    int n;                /* units ... */
    double *value;        /* ... and their values [n]; NULL where there is none a unit */
    char **unit;          /* [n] */
    char problem[256];    /* "" or why it is undecided */
} Finding;
/* records: of the lab. unit: the field that tells the units apart ("seed"). */
void criterion_judge(const Criterion *c, const json_t *records, const char *unit, Finding *out);
void criterion_free_finding(Finding *f);

/* An expression over fields of given records, for plots: a value a record. ERR_CONFIG. */
int criterion_series(const char *text, const json_t *const *record, int n, double *out);
/* Do filters such as "model=ppo, kl<4" hold for a record? text NULL or "": yes. ERR_CONFIG, else 0
 * or 1. */
int criterion_filter(const char *text, const json_t *record);
/* The distinct values of a field, in their order, as texts; malloc'd list of malloc'd texts. */
char **criterion_units(const json_t *records, const char *field, int *n);
/* A value as a text: "ppo", "0.5"; malloc'd. NULL: "". */
char *criterion_text(const json_t *value);

#endif
