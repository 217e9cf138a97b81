/* agreement.c: see agreement.h. */
#include "eval/agreement.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"

double agreement_cohen(const double *count, int k) {
    double n = 0, same = 0, chance = 0;
    for (int i = 0; i < k; i++) {
        double in_a = 0, in_b = 0;
        for (int j = 0; j < k; j++) in_a += count[i * k + j], in_b += count[j * k + i];
        n += in_a;
        same += count[i * k + i];
        chance += in_a * in_b;
    }
    if (n == 0 || chance == n * n) return (double)NAN;
    return (same / n - chance / (n * n)) / (1 - chance / (n * n));
}

double agreement_fleiss(const int *count, int64_t n, int k) {
    AUTOFREE double *share = xcalloc((size_t)k, sizeof *share);
    double same = 0, chance = 0, subjects = 0;
    for (int64_t i = 0; i < n; i++) {
        double raters = 0, pairs = 0;
        for (int j = 0; j < k; j++) {
            raters += count[i * k + j];
            pairs += (double)count[i * k + j] * (count[i * k + j] - 1);
        }
        if (raters < 2) continue;
        subjects++;
        same += pairs / (raters * (raters - 1));
        for (int j = 0; j < k; j++) share[j] += count[i * k + j] / raters;
    }
    if (subjects == 0) return (double)NAN;
    same /= subjects;
    for (int j = 0; j < k; j++) chance += share[j] / subjects * (share[j] / subjects);
    return chance >= 1 ? (double)NAN : (same - chance) / (1 - chance);
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int64_t place(const double *sorted, int64_t n, double v) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const int64_t mid = (low + high) / 2;
        if (sorted[mid] < v)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* alpha = 1 - observed / expected disagreement over the matrix of coincidences o [k][k]: in a unit
 * with m values each of the m (m - 1) ordered pairs counts 1 / (m - 1). The difference of two
 * values is 1 (nominal), their distance squared (interval), or, squared, the number of values that
 * lie between them, half of their own included (ordinal). */
double agreement_alpha(const double *value, int64_t raters, int64_t units, AlphaLevel level) {
    const int64_t all = raters * units;
    AUTOFREE double *v = xmalloc((size_t)(all + 1) * sizeof *v);
    int64_t k = 0, n = 0;
    for (int64_t i = 0; i < all; i++)
        if (!isnan(value[i])) v[n++] = value[i];
    qsort(v, (size_t)n, sizeof *v, by_size);
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || v[i] != v[k - 1]) v[k++] = v[i];
    AUTOFREE double *o = xcalloc((size_t)(k * k + k + 1), sizeof *o);
    double *total = o + k * k, sum = 0;
    for (int64_t u = 0; u < units; u++) {
        double m = 0;
        for (int64_t r = 0; r < raters; r++) m += !isnan(value[r * units + u]);
        if (m < 2) continue;
        for (int64_t r = 0; r < raters; r++)
            for (int64_t s = 0; s < raters; s++) {
                const double a = value[r * units + u], b = value[s * units + u];
                if (r != s && !isnan(a) && !isnan(b))
                    o[place(v, k, a) * k + place(v, k, b)] += 1 / (m - 1);
            }
    }
    for (int64_t a = 0; a < k; a++)
        for (int64_t b = 0; b < k; b++) total[a] += o[a * k + b];
    for (int64_t a = 0; a < k; a++) sum += total[a];
    double observed = 0, expected = 0;
    for (int64_t a = 0; a < k; a++) {
        double between = total[a] / 2;
        for (int64_t b = a + 1; b < k; b++) {
            const double steps = between + total[b] / 2;
            const double d = level == ALPHA_NOMINAL   ? 1
                             : level == ALPHA_ORDINAL ? steps
                                                      : v[b] - v[a];
            between += total[b];
            observed += o[a * k + b] * d * d;
            expected += total[a] * total[b] * d * d;
        }
    }
    return expected == 0 ? (double)NAN : 1 - (sum - 1) * observed / expected;
}

double agreement_tau(const double *x, const double *y, int64_t n) {
    double both = 0, in_x = 0, in_y = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            const int a = (x[i] > x[j]) - (x[i] < x[j]), b = (y[i] > y[j]) - (y[i] < y[j]);
            both += a * b;
            in_x += a != 0;
            in_y += b != 0;
        }
    return in_x == 0 || in_y == 0 ? (double)NAN : both / sqrt(in_x * in_y);
}
