/* SPDX-License-Identifier: MIT */
#ifndef FAULTS_SMASH_H
#define FAULTS_SMASH_H

#include "faults.h"

long overrun_a_buffer(void *arg);

#endif
