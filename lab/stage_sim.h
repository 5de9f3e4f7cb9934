/* stage_sim.h: the simulated stage's server (stage_sim_server.c), for its table. As stage.h has it.
 */
#ifndef LAB_STAGE_SIM_H
#define LAB_STAGE_SIM_H

#include "lab/stage_inside.h"

enum il_code sim_server_start(uint64_t answering_max, bool has_tls,
                              struct stage_server **ret_server, struct il_error *err);
void sim_server_stop(struct stage_server *server);
uint16_t sim_server_port(const struct stage_server *server);
const char *sim_server_ca(const struct stage_server *server);
bool sim_server_wait_held(struct stage_server *server, const char *gate, uint64_t count,
                          uint64_t timeout_ms);
bool sim_server_wait_idle(struct stage_server *server, uint64_t count, uint64_t timeout_ms);
bool sim_server_wait_open(struct stage_server *server, uint64_t count, uint64_t timeout_ms);
void sim_server_release(struct stage_server *server, const char *gate);
uint64_t sim_server_close_idle(struct stage_server *server);
uint64_t sim_server_scold_idle(struct stage_server *server);
uint64_t sim_server_close_held(struct stage_server *server);
enum il_code sim_server_stall(struct stage_server *server, struct il_error *err);
void sim_server_unstall(struct stage_server *server);
void sim_server_counts(struct stage_server *server, struct stage_server_counts *ret_counts);
unsigned sim_server_seen(struct stage_server *server, const char *path);

#endif
