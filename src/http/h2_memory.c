/* h2_memory.c: see h2_memory.h.
 *
 * Owns: the blocks that are kept; those in use are nghttp2's. */
#include "http/h2_memory.h"

#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/* What stands before each piece. */
struct h2_memory_block {
    struct h2_memory_block *next; /* while it is kept */
    size_t step_count;            /* that the piece behind it is long */
};

_Static_assert(sizeof(struct h2_memory_block) % _Alignof(max_align_t) == 0, "pieces are aligned");

static struct h2_memory_block *block_of(void *piece)
{
    return (struct h2_memory_block *)piece - 1;
}

static void *on_malloc(size_t size, void *arg)
{
    struct h2_memory *memory = arg;
    size_t step_count = size / H2_MEMORY_STEP + 1;
    struct h2_memory_block *block = NULL;

    if (IL_LIKELY(step_count <= H2_MEMORY_SIZE_COUNT)) {
        block = memory->kept[step_count - 1];
    }
    if (IL_LIKELY(block != NULL)) {
        memory->kept[step_count - 1] = block->next;
        memory->kept_size -= step_count * H2_MEMORY_STEP;
        ASAN_UNPOISON_MEMORY_REGION(block + 1, step_count * H2_MEMORY_STEP);
        return block + 1;
    }
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    block = il_malloc(sizeof(*block) + step_count * H2_MEMORY_STEP);
    if (block == NULL) {
        return NULL;
    }
    block->step_count = step_count;
    return block + 1;
}

static void on_free(void *piece, void *arg)
{
    struct h2_memory *memory = arg;
    struct h2_memory_block *block;
    size_t size;

    if (piece == NULL) {
        return;
    }
    block = block_of(piece);
    size = block->step_count * H2_MEMORY_STEP;
    if (block->step_count > H2_MEMORY_SIZE_COUNT || memory->kept_size + size > H2_MEMORY_KEPT_MAX) {
        il_free(block);
        return;
    }
    block->next = memory->kept[block->step_count - 1];
    memory->kept[block->step_count - 1] = block;
    memory->kept_size += size;
    ASAN_POISON_MEMORY_REGION(piece, size);
}

static void *on_calloc(size_t count, size_t size, void *arg)
{
    void *piece;

    if (size != 0 && count > SIZE_MAX / size) {
        return NULL;
    }
    piece = on_malloc(count * size, arg);
    if (piece != NULL) {
        memset(piece, 0, count * size);
    }
    return piece;
}

static void *on_realloc(void *piece, size_t size, void *arg)
{
    size_t old_size;
    void *moved;

    if (piece == NULL) {
        return on_malloc(size, arg);
    }
    old_size = block_of(piece)->step_count * H2_MEMORY_STEP;
    if (size <= old_size) {
        return piece;
    }
    moved = on_malloc(size, arg);
    if (moved != NULL) {
        memcpy(moved, piece, old_size);
        on_free(piece, arg);
    }
    return moved;
}

nghttp2_mem h2_memory_functions(struct h2_memory *memory)
{
    return (nghttp2_mem){ memory, on_malloc, on_free, on_calloc, on_realloc };
}

void h2_memory_deinit(struct h2_memory *memory)
{
    for (size_t i = 0; i < H2_MEMORY_SIZE_COUNT; i++) {
        while (memory->kept[i] != NULL) {
            struct h2_memory_block *block = memory->kept[i];

            memory->kept[i] = block->next;
            ASAN_UNPOISON_MEMORY_REGION(block + 1, block->step_count * H2_MEMORY_STEP);
            il_free(block);
        }
    }
    memory->kept_size = 0;
}
