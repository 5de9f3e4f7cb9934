/* registry_find.c: where a process that uses interloop keeps its records (base/shown.h).
 *
 * Each mapped file that begins with an ELF header is asked for its notes, in the process's memory
 * and not in the file, which may have been replaced since. A note named "interloop" leads to a
 * table. The first module that has tables of our version, and a list of loops that is not empty,
 * is taken. Owns: the tables. Thread: the doctor's only one. */
#include <elf.h>
#include <limits.h>
#include <stdio.h>

#include "base/shown.h"
#include "doctor/look.h"
#include "doctor/procfs.h"

#define FIND_MODULES_MAX  512
#define FIND_SEGMENTS_MAX 64
#define FIND_NOTES_SIZE   4096 /* of one segment of notes */
#define FIND_OFFSET_MAX   65536u

struct registry_tables {
    uint64_t roots[SHOWN_KIND_COUNT];
    uint32_t offsets[SHOWN_KIND_COUNT][SHOWN_FIELDS_MAX];
    bool is_found[SHOWN_KIND_COUNT];
};

struct finder {
    struct look *look;
    struct registry_tables tables; /* of the module that is looked at */
    bool is_other_version;
};

uint64_t registry_root(const struct registry_tables *tables, unsigned kind)
{
    return tables->roots[kind];
}

uint32_t registry_offset(const struct registry_tables *tables, unsigned kind, unsigned field)
{
    return tables->offsets[kind][field];
}

static void take_table(struct finder *finder, uint64_t address, uint32_t kind)
{
    static const uint32_t field_counts[SHOWN_KIND_COUNT] = {
        [SHOWN_CLIENTS] = SHOWN_CLIENT_FIELD_COUNT, [SHOWN_BOUND] = SHOWN_BOUND_FIELD_COUNT,
        [SHOWN_LOOPS] = SHOWN_LOOP_FIELD_COUNT,     [SHOWN_TASKS] = SHOWN_TASK_FIELD_COUNT,
        [SHOWN_DESKS] = SHOWN_DESK_FIELD_COUNT,     [SHOWN_SESSIONS] = SHOWN_SESSION_FIELD_COUNT,
    };
    struct registry_tables *tables = &finder->tables;
    struct shown shown;

    if (kind == 0 || kind >= SHOWN_KIND_COUNT ||
        procfs_read_memory(finder->look, address, &shown, sizeof(shown)) != sizeof(shown) ||
        shown.magic != SHOWN_MAGIC || shown.kind != kind) {
        return;
    }
    if (shown.version != SHOWN_VERSION || shown.field_count != field_counts[kind] ||
        shown.pointer_size != sizeof(void *)) {
        finder->is_other_version = true;
        return;
    }
    for (uint32_t i = 0; i < SHOWN_FIELDS_MAX; i++) {
        if (shown.offsets[i] > FIND_OFFSET_MAX) {
            return;
        }
    }
    tables->roots[kind] = (uint64_t)(uintptr_t)shown.root;
    memcpy(tables->offsets[kind], shown.offsets, sizeof(shown.offsets));
    tables->is_found[kind] = true;
}

/* `size` bytes of notes, which lie at `address` in the process. */
static void read_notes(struct finder *finder, uint64_t address, const uint8_t *notes, size_t size)
{
    static const char name[] = SHOWN_NOTE_NAME;
    size_t at = 0;

    while (at + sizeof(Elf64_Nhdr) <= size) {
        Elf64_Nhdr note;
        size_t name_at = at + sizeof(note), content_at;
        int64_t distance;

        memcpy(&note, notes + at, sizeof(note));
        content_at = name_at + (((size_t)note.n_namesz + 3) & ~(size_t)3);
        if (content_at > size || note.n_descsz > size - content_at) {
            return;
        }
        if (note.n_namesz == sizeof(name) && note.n_descsz == sizeof(distance) &&
            memcmp(notes + name_at, name, sizeof(name)) == 0) {
            memcpy(&distance, notes + content_at, sizeof(distance));
            take_table(finder, address + content_at + (uint64_t)distance, note.n_type);
        }
        at = content_at + (((size_t)note.n_descsz + 3) & ~(size_t)3);
    }
}

static void read_segments(struct finder *finder, uint64_t base, const Elf64_Ehdr *header,
                          const Elf64_Phdr *segments)
{
    uint8_t notes[FIND_NOTES_SIZE];
    uint64_t bias = base;

    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && segments[i].p_offset == 0) {
            bias = base - segments[i].p_vaddr;
            break;
        }
    }
    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_NOTE && segments[i].p_memsz <= sizeof(notes)) {
            uint64_t address = bias + segments[i].p_vaddr;

            read_notes(finder, address, notes,
                       procfs_read_memory(finder->look, address, notes, segments[i].p_memsz));
        }
    }
}

/* A program that links the library statically may have left out clients, or desks. */
static bool is_in_use(const struct finder *finder)
{
    uint64_t links[2], root = finder->tables.roots[SHOWN_LOOPS];

    return finder->tables.is_found[SHOWN_LOOPS] && finder->tables.is_found[SHOWN_TASKS] &&
           procfs_read_memory(finder->look, root, links, sizeof(links)) == sizeof(links) &&
           links[0] != root;
}

static bool read_module(struct finder *finder, uint64_t base)
{
    Elf64_Phdr segments[FIND_SEGMENTS_MAX];
    size_t size;
    Elf64_Ehdr header;

    memset(&finder->tables, 0, sizeof(finder->tables));
    if (procfs_read_memory(finder->look, base, &header, sizeof(header)) != sizeof(header) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_phentsize != sizeof(segments[0]) || header.e_phnum > FIND_SEGMENTS_MAX ||
        header.e_phoff > FIND_OFFSET_MAX) {
        return false;
    }
    size = header.e_phnum * sizeof(segments[0]);
    if (procfs_read_memory(finder->look, base + header.e_phoff, segments, size) != size) {
        return false;
    }
    read_segments(finder, base, &header, segments);
    return is_in_use(finder);
}

/* The beginning of a mapped file; false for any other line of maps. */
static bool parse_line(const char *line, uint64_t *ret_base)
{
    unsigned long long base, offset;

    if (sscanf(line, "%llx-%*x %*4s %llx", &base, &offset) != 2 || offset != 0 ||
        strchr(line, '/') == NULL) {
        return false;
    }
    *ret_base = base;
    return true;
}

struct registry_tables *registry_find(struct look *look)
{
    struct finder finder = { .look = look };
    struct registry_tables *tables = NULL;
    char path[64], line[PATH_MAX + 128];
    uint32_t line_count = 0, module_count = 0;
    uint64_t base;
    FILE *file;

    if (!look->can_memory) {
        return NULL;
    }
    snprintf(path, sizeof(path), "/proc/%d/maps", look->pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return NULL;
    }
    while (fgets(line, sizeof(line), file) != NULL && ++line_count < 65536 &&
           module_count < FIND_MODULES_MAX) {
        if (!parse_line(line, &base)) {
            continue;
        }
        module_count++;
        if (read_module(&finder, base)) {
            tables = il_malloc(sizeof(*tables));
            if (tables != NULL) {
                *tables = finder.tables;
            }
            break;
        }
    }
    fclose(file);
    if (tables == NULL && finder.is_other_version) {
        look_limit(look, "the process uses interloop of another version: its own record of "
                         "requests was not read");
    }
    return tables;
}
