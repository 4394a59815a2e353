/* Page replacement, page for page, for searches that count page faults many thousand times.
 *
 * The rule is that of src/sectum/paging/replacement.py, which documents it and is used where this cannot be compiled;
 * tests check that both count the same. The resident pages are a queue in a ring of `budget` places, oldest first.
 * The policies are FIFO and second chance.
 */
#include <stdint.h>

enum { ABSENT, UNMAPPED, MAPPED };

/* Simulates one round.
 *
 * touches:  n_touches times label, first page, number of pages
 * pages:    state of each page
 * ring:     the queue
 * queue:    place of the oldest page in the ring, number of resident pages
 * counts:   for each label loads, evictions, minor faults; this round is added
 */
__attribute__((visibility("default"))) void sectum_run_round(
    const int64_t *touches, int64_t n_touches, int64_t budget, int64_t batch, int64_t second_chance, uint8_t *pages,
    uint32_t *ring, int64_t *queue, int64_t *counts)
{
    int64_t head = queue[0], resident = queue[1];
    for (const int64_t *touch = touches; touch < touches + 3 * n_touches; touch += 3) {
        int64_t loads = 0, evictions = 0, minor_faults = 0;
        for (int64_t page = touch[1]; page < touch[1] + touch[2]; page++) {
            if (pages[page] == MAPPED)
                continue;
            if (pages[page] == UNMAPPED) {
                pages[page] = MAPPED;
                minor_faults++;
                continue;
            }
            while (resident == budget) {
                for (int64_t seen = 0; seen < batch; seen++) {
                    uint32_t oldest = ring[head];
                    head = head + 1 == budget ? 0 : head + 1;
                    resident--;
                    if (second_chance && pages[oldest] == MAPPED) {
                        pages[oldest] = UNMAPPED;
                        int64_t tail = head + resident++;
                        ring[tail < budget ? tail : tail - budget] = oldest;
                    } else {
                        pages[oldest] = ABSENT;
                        evictions++;
                    }
                }
            }
            int64_t tail = head + resident++;
            ring[tail < budget ? tail : tail - budget] = (uint32_t)page;
            pages[page] = MAPPED;
            loads++;
        }
        int64_t *of_label = counts + 3 * touch[0];
        of_label[0] += loads;
        of_label[1] += evictions;
        of_label[2] += minor_faults;
    }
    queue[0] = head;
    queue[1] = resident;
}
