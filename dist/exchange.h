/* exchange.h: long vectors summed over the ranks, or put together from the ranks' shares, while the
 * caller goes on computing.
 *
 * A vector of n elements is cut into blocks, and every rank owns a contiguous share of whole blocks
 * (exchange_share). The vectors of a model follow each other: where one's shares end the next one's
 * begin, so that all ranks own as much of the whole, to a block. What is asked for is queued and moves on in exchange_progress only, since MPI
 * moves nothing by itself: the caller makes that call repeatedly between pieces of its work.
 * All ranks queue the same things in the same order in an exchange; between two exchanges there is
 * no order. Sums are added in the tree of comm.h: the bits are those of comm_sum. */
#ifndef DIST_EXCHANGE_H
#define DIST_EXCHANGE_H

#include "dist/comm.h"

typedef struct Exchange Exchange;

enum { EXCHANGE_BLOCK = 16384 }; /* elements */

/* element: 4 (float) or 8 (double) bytes. Both are collective. */
void exchange_open(Exchange **out, Comm *c, size_t element);
void exchange_close(Exchange **x);
/* This rank's place in the order of the owners, in which neighbours are of different nodes. Not
 * collective. */
int exchange_place(const Comm *c);
/* The share of a vector of n elements that belongs to a place; shares begin
 * at place `first` (modulo size): the number of blocks of the vectors before. Not collective. */
void exchange_share(int64_t n, int64_t first, int place, int size, int64_t *begin, int64_t *end);
/* Scratch of one exchange on a rank, at most. Not collective. */
size_t exchange_bytes(int ranks);

/* Queues a sum of buf[n], whose shares begin at place `first`. Until it is over buf belongs to the exchange. Where the sum goes:
 * EXCHANGE_ALL (an all-reduce): into buf, everywhere; EXCHANGE_OWN (a reduce-scatter): into this
 * rank's share of buf, the rest is left as it was; EXCHANGE_ADD: it is added to `into`, the memory
 * of this rank's share; with buf NULL this rank adds zeros. Returns a ticket for exchange_wait. */
enum { EXCHANGE_ALL, EXCHANGE_OWN, EXCHANGE_ADD };
int64_t exchange_sum(Exchange *x, void *buf, int64_t n, int64_t first, int where, void *into);
/* Queues the gathering of the ranks' shares of buf[n] on all ranks. */
int64_t exchange_gather(Exchange *x, void *buf, int64_t n, int64_t first);

/* Moves on what can move without waiting, in one exchange or in all of them. Not collective. */
void exchange_progress(Exchange *x);
void exchange_progress_all(Comm *c);
void exchange_idle(Comm *c); /* the same in a loop that waits for another rank */
/* Until the ticket's vector is done; all earlier ones are then done too. */
void exchange_wait(Exchange *x, int64_t ticket);
void exchange_finish(Exchange *x); /* until all are done */
/* Seconds spent in waiting so far. Not collective. */
double exchange_waited(const Exchange *x);

/* Rounds whose number the ranks do not know beforehand: each rank announces its own as it begins
 * them. When it has no more it asks repeatedly whether some rank has announced more than
 * `rounds`: 1, and it shall take part in one more; 0: there are none, announcements start from 0; -1:
 * not known yet. */
void exchange_announce(Exchange *x);
int exchange_others(Exchange *x, int64_t rounds);

#endif
