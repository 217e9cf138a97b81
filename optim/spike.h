/* spike.h: losses and gradient norms far above the recent ones. */
#ifndef OPTIM_SPIKE_H
#define OPTIM_SPIKE_H

enum { SPIKE_WINDOW = 128, SPIKE_FEWEST = 32 };

/* The last finite values; all doubles, so that a checkpoint holds it as one array. */
typedef struct SpikeWindow {
    double seen; /* values taken in, ever */
    double loss[SPIKE_WINDOW], norm[SPIKE_WINDOW];
} SpikeWindow;
enum { SPIKE_DOUBLES = sizeof(SpikeWindow) / sizeof(double) };

/* How many standard deviations above the window's mean the loss or the norm lies, the larger of the
 * two; 0 with fewer than SPIKE_FEWEST values or without spread. Both are taken in afterwards, so
 * that a lasting change of level soon is none. A value that is not finite scores infinity and is
 * not taken in: one NaN in the window would make every later score NaN. Not collective. */
double spike_score(SpikeWindow *w, double loss, double norm);

#endif
