/* panel.h: what a panel shows and what it finds. */
#ifndef LAB_PANEL_H
#define LAB_PANEL_H

#include "lab/criterion.h"
#include "lab/lab.h"
#include "lab/svg.h"

typedef struct PanelResult {
    const LabFile *lab;
    const LabPanel *panel;
    Finding *finding; /* of each of its criteria */
    double p, holm;   /* one-sided: the largest of the criteria's; adjusted over all panels. NAN:
                         none of them is statistical, or nothing is known */
    StatsVerdict verdict;
} PanelResult;

/* Before anything runs: are the criteria of all panels well formed, the plots of measures? ERR_CONFIG. */
int panel_check(const LabFile *lab);
/* ERR_CONFIG where a criterion is none. */
int panel_judge(PanelResult *out, const LabFile *lab, const LabPanel *panel, const json_t *records);
/* Holm over the panels, and their verdicts: holds where all criteria do and the adjusted p is at
 * most 0.025 (a side of 95 %), fails where one fails, undecided else. */
void panel_decide(PanelResult *r, int n);
void panel_free(PanelResult *r);

/* A chart for each y of a plot. ERR_CONFIG with what is wrong in an expression; 0 with none: the
 * records are not there. */
int panel_charts(const LabPanel *panel, const LabPlot *plot, const json_t *records, Chart **out,
                 int *n);

#endif
