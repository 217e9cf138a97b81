/* page.h: the frame of a report: one HTML file with its style sheet, nothing from elsewhere. */
#ifndef LAB_PAGE_H
#define LAB_PAGE_H

#include "base/text.h"
#include "lab/svg.h"

void page_begin(Text *t, const char *kicker, const char *title);
int page_end(Text *t, const char *path); /* writes and empties it; ERR_IO */
/* A table: page_table with the heads, page_row with the cells, page_table_end. Cells are escaped;
 * those that are numbers go to the right. */
void page_table(Text *t, const char *const *head, int n);
void page_row(Text *t, const char *const *cell, int n);
void page_table_end(Text *t);
/* The numbers of charts that share their x, as one table. */
void page_numbers(Text *t, const Chart *chart, int n);

#endif
