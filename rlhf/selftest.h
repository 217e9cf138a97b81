/* selftest.h: rhetor-ppo --selftest: ten checks of the algorithm on the user's machine. */
#ifndef RLHF_SELFTEST_H
#define RLHF_SELFTEST_H

#include "train/run.h"

/* Prints a line a check; ERR_INTERNAL when one fails. Needs no files but a temporary folder. */
int selftest_run(Run *run);

#endif
