/* replay.c: runs a fuzz target without a fuzzer.
 *
 *     replay-NAME CORPUS_DIRECTORY [MUTATIONS]
 *
 * First every file of the corpus, then mutations of them (default 4000), always the same ones: what
 * the ordinary tests can afford, with any compiler. Before an input is run its number is noted, so
 * that a crash says which it was; `MUTATIONS` set to that number stops right behind it. */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { FILES_MAX = 256, INPUT_SIZE_MAX = 16 * 1024, MUTATIONS_DEFAULT = 4000 };

struct file {
    char *name;
    uint8_t *data;
    size_t size;
};

static struct file files[FILES_MAX];
static unsigned file_count;
static char current[320]; /* what is being run, for the signal handler */

static uint64_t random_state = 1;

static size_t random_below(size_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return limit == 0 ? 0 : (size_t)(random_state >> 33) % limit;
}

/* ---- corpus ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void die(const char *what, const char *name)
{
    fprintf(stderr, "replay: %s %s\n", what, name);
    exit(1);
}

static void read_file(const char *directory, const char *name)
{
    struct file *file = &files[file_count++];
    char path[4096];
    FILE *stream;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    file->name = strdup(name);
    file->data = malloc(INPUT_SIZE_MAX);
    stream = fopen(path, "rb");
    if (stream == NULL || file->name == NULL || file->data == NULL) {
        die("cannot read", path);
    }
    file->size = fread(file->data, 1, INPUT_SIZE_MAX, stream);
    fclose(stream);
}

static void read_corpus(const char *directory)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;

    if (dir == NULL) {
        die("cannot open", directory);
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            if (file_count == FILES_MAX) {
                die("too many files in", directory);
            }
            read_file(directory, entry->d_name);
        }
    }
    closedir(dir);
    if (file_count == 0) {
        die("no files in", directory);
    }
    qsort(files, file_count, sizeof(files[0]), compare_names); /* the same order everywhere */
}

/* ---- mutation ---- */

static size_t insert(uint8_t *data, size_t size, size_t at, const uint8_t *added, size_t added_size)
{
    if (size + added_size > INPUT_SIZE_MAX) {
        return size;
    }
    memmove(data + at + added_size, data + at, size - at);
    memcpy(data + at, added, added_size);
    return size + added_size;
}

static size_t mutate_once(uint8_t *data, size_t size)
{
    static const char bytes[] = "\r\n\t :;,./?#@[]%0123456789abcdefABCDEF\"\\-+_\x7f\x80\xff";
    size_t at = random_below(size + 1), length = random_below(size - at + 1);
    const struct file *other;
    uint8_t byte;

    switch (random_below(6)) {
    case 0: /* change a byte */
        if (at < size) {
            data[at] = (uint8_t)bytes[random_below(sizeof(bytes))];
        }
        return size;
    case 1: /* insert a byte */
        byte = (uint8_t)bytes[random_below(sizeof(bytes))];
        return insert(data, size, at, &byte, 1);
    case 2: /* remove a stretch */
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    case 3: /* flip a bit */
        if (at < size) {
            data[at] ^= (uint8_t)(1u << random_below(8));
        }
        return size;
    case 4: /* cut off */
        return at;
    default: /* a stretch of another file */
        other = &files[random_below(file_count)];
        at = random_below(size + 1);
        length = random_below(other->size + 1);
        return insert(data, size, at, other->data + (other->size - length),
                      random_below(length + 1));
    }
}

/* ---- running ---- */

static void on_abort(int signal_number)
{
    (void)!write(STDERR_FILENO, current, strlen(current)); /* dying anyway */
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void run_input(const uint8_t *data, size_t size, const char *name, unsigned long number)
{
    uint8_t *exact = malloc(size > 0 ? size : 1); /* its own block, so a checker sees its end */

    if (exact == NULL) {
        die("no memory for", name);
    }
    snprintf(current, sizeof(current), "replay: this was input %lu, from %s\n", number, name);
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv)
{
    static uint8_t data[INPUT_SIZE_MAX];
    unsigned long mutation_count = MUTATIONS_DEFAULT;

    if (argc < 2) {
        die("usage: replay-NAME CORPUS_DIRECTORY [MUTATIONS], not", "nothing");
    }
    if (argc > 2) {
        mutation_count = strtoul(argv[2], NULL, 10);
    }
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    read_corpus(argv[1]);
    for (unsigned i = 0; i < file_count; i++) {
        run_input(files[i].data, files[i].size, files[i].name, 0);
    }
    for (unsigned long n = 1; n <= mutation_count; n++) {
        const struct file *file = &files[random_below(file_count)];
        size_t size = file->size;

        memcpy(data, file->data, size);
        for (size_t rounds = 1 + random_below(6); rounds > 0; rounds--) {
            size = mutate_once(data, size);
        }
        run_input(data, size, file->name, n);
    }
    for (unsigned i = 0; i < file_count; i++) {
        free(files[i].name);
        free(files[i].data);
    }
    printf("ok      %u_inputs_and_%lu_mutations_are_survived\n", file_count, mutation_count);
    printf("1 passed, 0 failed\n");
    return 0;
}
