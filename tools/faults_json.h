/* SPDX-License-Identifier: MIT */
/* What `kstacksim faults --json` prints beside the reports: one object a line. */
#ifndef FAULTS_JSON_H
#define FAULTS_JSON_H

#include "faults.h"

void fault_json_result(const struct fault_run *run, const char *result);
void fault_json_entry(const struct fault *fault, const char *name); /* of the list */

#endif
