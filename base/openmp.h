/* openmp.h: how long a thread waits for the others before it lets its core go. */
#ifndef BASE_OPENMP_H
#define BASE_OPENMP_H

/* The first call of a program that computes. gcc's OpenMP threads spin for milliseconds at the end
 * of every parallel region. While a core is taken away (another job, a virtual machine's neighbour)
 * that stops the whole program: pretraining the demo's model beside two other processes did 2.4
 * steps a second so, and 10 with the short wait set here. Unless the user chose one
 * (OMP_WAIT_POLICY, GOMP_SPINCOUNT) or there is one thread, sets it and restarts the program,
 * since the runtime reads the environment before main(). */
void openmp_wait_briefly(char **argv);

#endif
