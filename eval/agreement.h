/* agreement.h: how far raters agree. Missing values are NAN; what is not defined (nobody, no
 * variation) is NAN. */
#ifndef EVAL_AGREEMENT_H
#define EVAL_AGREEMENT_H

#include <stdint.h>

/* Cohen 1960: count [k][k], how often one rater said i and the other j. */
double agreement_cohen(const double *count, int k);

/* Fleiss 1971: count [n][k], how many raters put subject i into category j. Subjects with fewer
 * than two raters are left out; with unequal numbers of raters each subject counts the same. */
double agreement_fleiss(const int *count, int64_t n, int k);

/* Krippendorff 2011: value [raters][units]. */
typedef enum AlphaLevel { ALPHA_NOMINAL, ALPHA_ORDINAL, ALPHA_INTERVAL } AlphaLevel;
double agreement_alpha(const double *value, int64_t raters, int64_t units, AlphaLevel level);

/* Kendall 1945: tau-b of n pairs, with ties. O(n^2). */
double agreement_tau(const double *x, const double *y, int64_t n);

#endif
