/* net.h: what src/net offers to the layers above: connected streams. */
#ifndef IL_NET_H
#define IL_NET_H

#include "net/host_table.h"
#include "net/open.h"
#include "net/stream.h"
#include "net/tls.h"

#endif
