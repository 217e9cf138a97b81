/* spike.c: see spike.h. The window is summed from scratch each time: no rounding accumulates, so a resumed
 * run scores the same bits. */
#include "optim/spike.h"

#include <math.h>
#include <stdint.h>

static double score(const double *v, int n, double x) {
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += v[i] / n;
    for (int i = 0; i < n; i++) var += (v[i] - mean) * (v[i] - mean) / n;
    const double deviation = sqrt(var);
    return deviation > 1e-9 * fabs(mean) ? (x - mean) / deviation : 0; /* not mere rounding */
}

double spike_score(SpikeWindow *w, double loss, double norm) {
    if (!isfinite(loss) || !isfinite(norm)) return (double)INFINITY;
    const int n = w->seen < SPIKE_WINDOW ? (int)w->seen : SPIKE_WINDOW;
    double z = 0;
    if (n >= SPIKE_FEWEST) z = fmax(score(w->loss, n, loss), score(w->norm, n, norm));
    const int at = (int)((int64_t)w->seen % SPIKE_WINDOW);
    w->loss[at] = loss;
    w->norm[at] = norm;
    w->seen++;
    return z;
}
