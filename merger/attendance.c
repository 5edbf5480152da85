#include "merger/attendance.h"

#include <stdlib.h>
#include <string.h>

#include "shared/mem.h"

struct member *attendance_add(struct attendance *a, const char *job, const char *id, bool is_plain)
{
    a->members = mem_array(a->members, a->count + 1, sizeof *a->members);
    struct member *m = &a->members[a->count++];
    *m = (struct member){.id = mem_strdup(id), .is_plain = is_plain, .lease_left_ms = -1};
    m->name = is_plain ? mem_strdup(id) : mem_printf("%s:%s", job, id);
    return m;
}

static void free_member(struct member *m)
{
    free(m->name);
    free(m->id);
    manifest_fini(&m->manifest);
    fault_free(m->fault);
}

void attendance_fini(struct attendance *a)
{
    for (size_t i = 0; i < a->count + a->left_out; i++) free_member(&a->members[i]);
    free(a->members);
    fault_free(a->late);
}

void attendance_remove(struct attendance *a, bool (*is_done)(const struct member *m))
{
    size_t kept = 0;
    for (size_t i = 0; i < a->count; i++) {
        if (is_done(&a->members[i])) {
            free_member(&a->members[i]);
        } else {
            a->members[kept++] = a->members[i];
        }
    }
    a->count = kept;
}

size_t attendance_datasets(const struct attendance *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->count; i++) n += !a->members[i].is_plain;
    return n;
}

/* ---- found by id ------------------------------------------------------------------------------------------------- */

/* The datasets by the bytes of their ids: there may be thousands, and each is looked for. */
struct index {
    const struct member **members;
    size_t n;
};

static int by_id(const void *a, const void *b)
{
    const struct member *x = *(const struct member *const *)a, *y = *(const struct member *const *)b;
    return strcmp(x->id, y->id);
}

static struct index make_index(const struct attendance *a)
{
    struct index index = {.members = mem_array(NULL, a->count + 1, sizeof *index.members)};
    for (size_t i = 0; i < a->count; i++)
        if (!a->members[i].is_plain) index.members[index.n++] = &a->members[i];
    if (index.n > 1) qsort(index.members, index.n, sizeof *index.members, by_id);
    return index;
}

static const struct member *find(const struct index *index, char *id)
{
    const struct member wanted = {.id = id}, *key = &wanted;
    const struct member **found =
        index->n > 0 ? bsearch(&key, index->members, index->n, sizeof *index->members, by_id) : NULL;
    return found ? *found : NULL;
}

void attendance_add_new(struct attendance *a, const char *job, char *const *ids, size_t n)
{
    struct index before = make_index(a);
    bool *known = mem_array(NULL, n + 1, sizeof *known);
    for (size_t i = 0; i < n; i++) known[i] = find(&before, ids[i]) != NULL;
    for (size_t i = 0; i < n; i++)
        if (!known[i]) attendance_add(a, job, ids[i], false);
    free(known);
    free(before.members);
}

void attendance_sort(struct attendance *a)
{
    struct index index = make_index(a);
    char **ids = mem_array(NULL, index.n + 1, sizeof *ids);
    struct member *sorted = mem_array(NULL, a->count + 1, sizeof *sorted);
    for (size_t i = 0; i < index.n; i++) ids[i] = index.members[i]->id;
    dataset_sort_ids(ids, index.n);
    for (size_t i = 0; i < index.n; i++) sorted[i] = *find(&index, ids[i]);
    for (size_t i = 0, at = index.n; i < a->count; i++)
        if (a->members[i].is_plain) sorted[at++] = a->members[i];
    if (a->count > 0) memcpy(a->members, sorted, a->count * sizeof *sorted);
    free(sorted);
    free(ids);
    free(index.members);
}
