/* svg.h: charts as SVG: lines with bands, points of the seeds, fits, bars. Colours are classes of
 * the page's style sheet (lab/page.c), so that one chart serves light, dark and print. */
#ifndef LAB_SVG_H
#define LAB_SVG_H

#include <stdbool.h>

#include "base/text.h"

typedef struct ChartPoint {
    double x, y, low, high; /* low, high: NAN where there is no interval */
    int n;                  /* units behind it ... */
    double *ux, *uy;        /* ... and their points [n]; malloc'd */
} ChartPoint;

typedef struct ChartLine {
    char *name; /* malloc'd, "" for the only one */
    ChartPoint *point;
    int n;
    double *fx, *fy; /* a fitted curve [nf] */
    int nf;
    char *words; /* about the fit; NULL: none */
} ChartLine;

typedef struct Chart {
    char *x, *y;
    ChartLine *line;
    int n;
    char **category; /* of bars: the names of x = 0, 1, ... ; NULL: x are numbers */
    int ncategory;
    bool log_x, small;
} Chart;

void svg_free(Chart *c);
/* The chart, after a legend where there are several lines. */
void svg_chart(Text *t, const Chart *c);
/* "0.25", "12,000", "-": a number for people. */
const char *svg_number(double v, char out[32]);
void svg_escape(Text *t, const char *text); /* for HTML and SVG */

#endif
