/* unwind.c: stacks by elfutils libdw, from copies only.
 *
 * libdw is given no access to the live process: registers and stack come from the copy that
 * stacks.c made, code and unwind tables from the files the process has mapped, opened below its own
 * root directory. Where there is no unwind table (code made at run time) libdw follows frame
 * pointers. The files are the target's and may be hostile: all this runs in a child process
 * with limits on memory and time, and what it crashes on is its own.
 *
 * Owns: the Dwfl and a cache of names. Thread: the child's only one. */
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "doctor/demangle.h"
#include "doctor/unwind.h"

#define UNWIND_CACHE_SLOTS    4096u
#define UNWIND_FILE_BYTES_MAX (4ll << 30)
#define UNWIND_NAME_BUDGET_NS 2000000000u /* of CPU time; after this, frames stay without names */

struct unwinder {
    Dwfl *dwfl;
    pid_t pid;
    Dwfl_Callbacks callbacks;
    const struct unwind_input *input;
    struct thread_frame *frames;
    uint32_t frame_count;
    uint64_t started_ns;
    struct thread_frame cache[UNWIND_CACHE_SLOTS];
};

/* dwfl hands its callbacks no argument of ours for find_elf; the child has one unwinder. */
static pid_t unwind_pid;

/* ---- files ---- */

/* Open a file of the target as the target would find it: links are followed inside its root only,
 * and nothing but a regular file is opened, because opening a device can do things. -1 on failure.
 */
static int open_in_root(const char *name)
{
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
    char path[64];
    struct stat status;
    int root, place, fd = -1;

    snprintf(path, sizeof(path), "/proc/%d/root", unwind_pid);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        return -1;
    }
    place = (int)syscall(SYS_openat2, root, name, &how, sizeof(how));
    close(root);
    if (place < 0) {
        return -1;
    }
    if (fstat(place, &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_size <= UNWIND_FILE_BYTES_MAX) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    close(place);
    return fd;
}

static int find_elf(Dwfl_Module *module, void **user_data, const char *name, Dwarf_Addr base,
                    char **ret_name, Elf **ret_elf)
{
    int fd;

    if (name[0] != '/') { /* the vdso */
        return dwfl_linux_proc_find_elf(module, user_data, name, base, ret_name, ret_elf);
    }
    fd = open_in_root(name);
    if (fd >= 0) {
        *ret_name = strdup(name);
    }
    return fd;
}

/* ---- registers and memory: from the copy ---- */

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
    struct unwinder *unwinder = arg;

    if (*thread_arg != NULL) {
        return 0;
    }
    *thread_arg = unwinder;
    return unwinder->input->tid;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
    *thread_arg = arg;
    return true;
}

static bool read_copied_word(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *ret_word, void *arg)
{
    const struct unwind_input *input = ((struct unwinder *)arg)->input;

    if (address < input->stack_start || input->stack_size < sizeof(uint64_t) ||
        address - input->stack_start > input->stack_size - sizeof(uint64_t)) {
        return false;
    }
    memcpy(ret_word, input->stack + (address - input->stack_start), sizeof(uint64_t));
    return true;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
    const struct unwind_input *input = ((struct unwinder *)arg)->input;

    for (int i = 0; i < UNWIND_REGISTER_COUNT; i++) {
        Dwarf_Word value = input->registers[i];

        if ((input->known >> i & 1) != 0 && !dwfl_thread_state_registers(thread, i, 1, &value)) {
            return false;
        }
    }
    dwfl_thread_state_register_pc(thread, input->registers[16]);
    return true;
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
    .next_thread = next_thread,
    .get_thread = get_thread,
    .memory_read = read_copied_word,
    .set_initial_registers = set_registers,
};

/* ---- names ---- */

static void name_frame(struct unwinder *unwinder, struct thread_frame *frame, uint64_t address)
{
    Dwfl_Module *module = dwfl_addrmodule(unwinder->dwfl, address);
    const char *file = NULL, *symbol;
    GElf_Off offset;
    GElf_Sym info;

    if (module == NULL) {
        return;
    }
    (void)dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &file, NULL);
    if (file == NULL) {
        file = dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    }
    if (file != NULL) {
        const char *base = strrchr(file, '/');

        look_clean(frame->module, sizeof(frame->module), base == NULL ? file : base + 1);
    }
    symbol = dwfl_module_addrinfo(module, address, &offset, &info, NULL, NULL, NULL);
    if (symbol != NULL) {
        demangle(symbol, frame->symbol, sizeof(frame->symbol));
    }
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* libdw walks a module's whole symbol table for each name: the same places come up again in each
 * thread of a pool, so they are remembered. */
static void name_frame_cached(struct unwinder *unwinder, struct thread_frame *frame,
                              uint64_t address)
{
    struct thread_frame *slot =
        &unwinder->cache[(address * 0x9e3779b97f4a7c15u) >> 52 & (UNWIND_CACHE_SLOTS - 1)];

    if (slot->pc != address) {
        memset(slot, 0, sizeof(*slot));
        slot->pc = address;
        if (cpu_now_ns() - unwinder->started_ns < UNWIND_NAME_BUDGET_NS) {
            name_frame(unwinder, slot, address);
        }
    }
    memcpy(frame->symbol, slot->symbol, sizeof(frame->symbol));
    memcpy(frame->module, slot->module, sizeof(frame->module));
}

static int on_frame(Dwfl_Frame *state, void *arg)
{
    struct unwinder *unwinder = arg;
    struct thread_frame *frame;
    bool is_activation;
    Dwarf_Addr pc;

    if (unwinder->frame_count == LOOK_FRAMES_MAX || !dwfl_frame_pc(state, &pc, &is_activation)) {
        return DWARF_CB_ABORT;
    }
    frame = &unwinder->frames[unwinder->frame_count++];
    frame->pc = pc;
    /* A return address may already belong to the next function: ask for the call before it. */
    name_frame_cached(unwinder, frame, is_activation || pc == 0 ? pc : pc - 1);
    return DWARF_CB_OK;
}

/* ---- life ---- */

struct unwinder *unwinder_new(pid_t pid)
{
    struct unwinder *unwinder = il_calloc(1, sizeof(*unwinder));

    if (unwinder == NULL) {
        return NULL;
    }
    (void)unsetenv("DEBUGINFOD_URLS"); /* nothing is fetched from anywhere for a diagnosis */
    unwind_pid = pid;
    unwinder->pid = pid;
    unwinder->callbacks = (Dwfl_Callbacks){
        .find_elf = find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
    };
    unwinder->started_ns = cpu_now_ns();
    unwinder->dwfl = dwfl_begin(&unwinder->callbacks);
    if (unwinder->dwfl == NULL || dwfl_linux_proc_report(unwinder->dwfl, pid) != 0 ||
        dwfl_report_end(unwinder->dwfl, NULL, NULL) != 0 ||
        !dwfl_attach_state(unwinder->dwfl, NULL, pid, &thread_callbacks, unwinder)) {
        unwinder_free(unwinder);
        return NULL;
    }
    return unwinder;
}

uint32_t unwinder_run(struct unwinder *unwinder, const struct unwind_input *input,
                      struct thread_frame frames[LOOK_FRAMES_MAX])
{
    unwinder->input = input;
    unwinder->frames = frames;
    unwinder->frame_count = 0;
    memset(frames, 0, sizeof(frames[0]) * LOOK_FRAMES_MAX);
    /* Ends with an error where the stack cannot be followed further: the frames so far count. */
    (void)dwfl_getthread_frames(unwinder->dwfl, input->tid, on_frame, unwinder);
    return unwinder->frame_count;
}

void unwinder_free(struct unwinder *unwinder)
{
    if (unwinder == NULL) {
        return;
    }
    if (unwinder->dwfl != NULL) {
        dwfl_end(unwinder->dwfl);
    }
    il_free(unwinder);
}
