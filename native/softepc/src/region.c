/*
 * The allocator of the region: whole pages, lowest address first; adjacent free extents are merged.
 * It is deterministic: the same calls give the same addresses, so that page numbers can be compared
 * between runs.
 *
 * Free extents form a treap ordered by address. Each node knows the widest extent below it, so the
 * lowest one that fits is found in logarithmic time. Nodes are kept in an array indexed by the
 * extent's first page, so the allocator allocates nothing and stores nothing in the region itself.
 */
#include "region.h"

#include "config.h"
#include "layout.h"
#include "pager.h"
#include "reserve.h"

struct extent {
    uint32_t pages; /* 0: no extent, free or live, starts at this page */
    uint32_t low, high; /* free extents: children in the treap */
    uint32_t widest;    /* free extents: the most pages of one extent in this subtree */
};

static struct extent *extents;
static uint32_t free_root = NO_PAGE;

/* ---- the treap ---- */

/* The heap order is a hash of the page number: balanced in expectation, and deterministic. */
static uint32_t priority(uint32_t page)
{
    page = (page ^ page >> 16) * 0x85ebca6bu;
    page = (page ^ page >> 13) * 0xc2b2ae35u;
    return page ^ page >> 16;
}

static uint32_t widest_below(uint32_t node)
{
    return node == NO_PAGE ? 0 : extents[node].widest;
}

static void update(uint32_t node)
{
    struct extent *extent = &extents[node];
    const uint32_t low = widest_below(extent->low), high = widest_below(extent->high);
    extent->widest = extent->pages;
    if (low > extent->widest)
        extent->widest = low;
    if (high > extent->widest)
        extent->widest = high;
}

/* All of `low` lies below all of `high`. */
static uint32_t join(uint32_t low, uint32_t high)
{
    if (low == NO_PAGE)
        return high;
    if (high == NO_PAGE)
        return low;
    if (priority(low) > priority(high)) {
        extents[low].high = join(extents[low].high, high);
        update(low);
        return low;
    }
    extents[high].low = join(low, extents[high].low);
    update(high);
    return high;
}

/* Divides into the extents below `page`, and those at or above it. */
static void split(uint32_t node, uint32_t page, uint32_t *below, uint32_t *above)
{
    if (node == NO_PAGE) {
        *below = *above = NO_PAGE;
    } else if (node < page) {
        split(extents[node].high, page, &extents[node].high, above);
        *below = node;
        update(node);
    } else {
        split(extents[node].low, page, below, &extents[node].low);
        *above = node;
        update(node);
    }
}

static void insert_free(uint32_t first, uint32_t pages)
{
    uint32_t below, above;
    extents[first] = (struct extent){pages, NO_PAGE, NO_PAGE, pages};
    split(free_root, first, &below, &above);
    free_root = join(join(below, first), above);
}

static void remove_free(uint32_t first)
{
    uint32_t below, only, above;
    split(free_root, first, &below, &above);
    split(above, first + 1, &only, &above);
    free_root = join(below, above);
    extents[first].pages = 0;
}

/* The free extent that ends just before `page`, or NO_PAGE. */
static uint32_t free_before(uint32_t page)
{
    uint32_t best = NO_PAGE;
    for (uint32_t node = free_root; node != NO_PAGE;) {
        if (node < page) {
            best = node;
            node = extents[node].high;
        } else {
            node = extents[node].low;
        }
    }
    return best != NO_PAGE && best + extents[best].pages == page ? best : NO_PAGE;
}

/* Pages of the free extent that starts at `page`, or 0. */
static uint32_t free_at(uint32_t page)
{
    return page < config.region_pages && !pager_is_allocated(page) ? extents[page].pages : 0;
}

/* ---- allocation ---- */

static uint32_t aligned_up(uint32_t page, uint32_t align_pages)
{
    /* The region starts at a multiple of 256 GiB, so page 0 has every alignment asked for. */
    return (page + align_pages - 1) / align_pages * align_pages;
}

/* The lowest extent in which `pages` fit at their alignment. */
static uint32_t lowest_fit(uint32_t node, uint32_t pages, uint32_t align_pages)
{
    while (node != NO_PAGE && extents[node].widest >= pages) {
        const uint32_t found = lowest_fit(extents[node].low, pages, align_pages);
        if (found != NO_PAGE)
            return found;
        const uint64_t skipped = aligned_up(node, align_pages) - node;
        if (skipped + pages <= extents[node].pages)
            return node;
        node = extents[node].high;
    }
    return NO_PAGE;
}

/* Takes [first, first + pages) out of the free extent that contains it. */
static void take(uint32_t extent, uint32_t first, uint32_t pages)
{
    const uint32_t end = extent + extents[extent].pages;
    remove_free(extent);
    if (first > extent)
        insert_free(extent, first - extent);
    if (first + pages < end)
        insert_free(first + pages, end - first - pages);
    pager_allocate(first, pages);
}

static void give_back(uint32_t first, uint32_t pages)
{
    pager_discard(first, pages, PAGE_UNALLOCATED);
    const uint32_t after = free_at(first + pages);
    if (after) {
        remove_free(first + pages);
        pages += after;
    }
    const uint32_t before = free_before(first);
    if (before != NO_PAGE) {
        pages += extents[before].pages;
        remove_free(before);
        first = before;
    }
    insert_free(first, pages);
}

uint32_t region_allocate(uint32_t pages, uint32_t align_pages)
{
    const uint32_t extent = lowest_fit(free_root, pages, align_pages);
    if (extent == NO_PAGE)
        return NO_PAGE;
    const uint32_t first = aligned_up(extent, align_pages);
    take(extent, first, pages);
    extents[first].pages = pages;
    return first;
}

uint32_t region_size(uint32_t first)
{
    return pager_is_allocated(first) ? extents[first].pages : 0;
}

void region_free(uint32_t first)
{
    const uint32_t pages = extents[first].pages;
    extents[first].pages = 0;
    give_back(first, pages);
}

bool region_resize(uint32_t first, uint32_t pages)
{
    const uint32_t now = extents[first].pages;
    if (pages > now) {
        if (free_at(first + now) < pages - now)
            return false;
        take(first + now, first + now, pages - now);
    } else if (pages < now) {
        give_back(first + pages, now - pages);
    }
    extents[first].pages = pages;
    return true;
}

void region_start(void)
{
    extents = reserve_memory(config.region_pages * sizeof *extents, "the region's allocator");
    insert_free(0, (uint32_t)config.region_pages);
}
