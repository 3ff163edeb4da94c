/* Simulated processes: a name on the simulated net, a disk, loops; crashed and restarted as one. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim_world.h"

enum { FIRST_FREE_PORT = 32768 };

/* The disk's last operation before a crash asked for with sim_process_crash_at_op. */
static void on_disk_failed(void *ctx)
{
    struct sim_process *process = ctx;
    sim_process_crash(process, true);
    if (process->on_crash)
        process->on_crash(process->crash_ctx);
}

struct sim_process *sim_process_new(struct sim_world *world, const char *name)
{
    struct sim_process *process = mem_zalloc(sizeof(*process));
    if (!process)
        return NULL;
    process->name = mem_strdup(name);
    process->disk = process->name ? sim_disk_new(rng_next(&world->rng)) : NULL;
    if (!process->disk) {
        mem_free(process->name);
        mem_free(process);
        return NULL;
    }
    process->disk->on_failed = on_disk_failed;
    process->disk->failed_ctx = process;
    process->world = world;
    process->alive = true;
    process->next_port = FIRST_FREE_PORT;
    list_init(&process->loops);
    list_init(&process->ends);
    list_init(&process->listeners);
    list_push_back(&world->processes, &process->link);
    return process;
}

struct io_fs *sim_process_fs(struct sim_process *process)
{
    return sim_disk_fs(process->disk);
}

void sim_process_set_disk_faults(struct sim_process *process, const struct sim_disk_faults *faults)
{
    sim_disk_set_faults(process->disk, faults);
}

int sim_process_loop(struct sim_process *process, struct io_loop **ret_loop)
{
    return process->alive ? sim_loop_new(process, ret_loop) : CLYMQ_EIO;
}

void sim_process_set_clock_skew(struct sim_process *process, int64_t wall_ms)
{
    process->skew_ms = wall_ms;
}

void sim_process_crash(struct sim_process *process, bool power_loss)
{
    if (!process->alive)
        return;
    process->alive = false;
    sim_trace(process->world, SIM_CRASH, power_loss, 0);
    sim_net_kill(process);
    while (!list_empty(&process->loops))
        sim_loop_kill(CONTAINER_OF(process->loops.next, struct sim_loop, link));
    sim_disk_crash(process->disk, power_loss);
    process->disk->offline = true;
}

bool sim_process_alive(const struct sim_process *process)
{
    return process->alive;
}

void sim_process_restart(struct sim_process *process)
{
    assert(!process->alive);
    process->alive = true;
    process->disk->offline = false;
}

void sim_process_crash_at_op(struct sim_process *process, uint64_t nth, void (*on_crash)(void *ctx),
                             void *ctx)
{
    process->on_crash = on_crash;
    process->crash_ctx = ctx;
    sim_disk_fail_from_op(process->disk, nth);
}

uint64_t sim_process_disk_ops(const struct sim_process *process)
{
    return sim_disk_ops(process->disk);
}

int sim_process_flip_bits(struct sim_process *process, const char *path, uint64_t offset, uint64_t len,
                          unsigned bits)
{
    return sim_disk_flip_bits(process->disk, path, offset, len, bits);
}
