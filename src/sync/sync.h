/* sync.h: what src/sync offers the folders below it in the house: the public objects of
 * interloop/sync.h, and the queue that they are made of. */
#ifndef SYNC_SYNC_H
#define SYNC_SYNC_H

#include "interloop/sync.h"
#include "sync/waitq.h"

#endif
