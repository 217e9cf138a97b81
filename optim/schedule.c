/* schedule.c: the learning rate as a pure function of the step, so a resumed run needs no state. */
#include "optim/optim.h"

#include "base/config.h" /* SCHEDULE_* */
#include "base/error.h"

#include <math.h>

double schedule_lr(const Schedule *s, int64_t step) {
    CHECK(step >= 0 && s->steps > 0, "step %lld of %lld", (long long)step, (long long)s->steps);
    if (step < s->warmup)
        return s->peak *
               (s->warmup_from + (1 - s->warmup_from) * (double)(step + 1) / (double)s->warmup);

    /* 0 at the first step after the warm-up, 1 at the last step; a run that is all warm-up, or one
     * step long, stays at the peak. */
    int64_t last = s->steps - 1;
    double done = last > s->warmup ? (double)(step - s->warmup) / (double)(last - s->warmup) : 0;
    if (done > 1) done = 1;
    double share = 1;
    switch (s->kind) {
    case SCHEDULE_CONSTANT: return s->peak;
    case SCHEDULE_LINEAR: share = 1 - done; break;
    case SCHEDULE_COSINE: share = 0.5 * (1 + cos(M_PI * done)); break;
    default: CHECK(false, "schedule %d", s->kind);
    }
    return s->peak * (s->end + (1 - s->end) * share);
}
